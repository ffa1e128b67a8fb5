"""What the documentation promises, beyond its doctests: exact tables, commands and their output, links."""

from __future__ import annotations

import doctest
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from serving import PATIENCE

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(ROOT.glob("docs/*.md"))]


def test_the_walkthrough_is_exact() -> None:
    """Pytest compares with any amount of white space, which is too lenient for tables."""
    page = str(ROOT / "docs" / "walkthrough.md")
    failed, tried = doctest.testfile(page, module_relative=False, encoding="utf-8", optionflags=0)
    assert failed == 0
    assert tried > 20


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    broken = [link for link in links if "://" not in link and not page.parent.joinpath(link).exists()]
    assert broken == []


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    missing = [page.name for page in ROOT.glob("docs/*.md") if f"({page.name})" not in index]
    assert missing == ["index.md"]


def test_pictures_are_well_formed() -> None:
    pictures = sorted(ROOT.glob("docs/*.svg"))
    assert pictures
    for picture in pictures:
        assert ET.parse(picture).getroot().tag == "{http://www.w3.org/2000/svg}svg"


def test_make_knows_every_target_that_is_mentioned() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {
        name
        for page in PAGES
        for name in re.findall(r"\bmake ([a-z-]+)(?=`|  )", page.read_text(encoding="utf-8"))
    }
    assert {"demo", "test", "docs-test"} <= named <= targets


def test_where_things_are() -> None:
    """Each row of a table of files names one that is there."""
    for page in (ROOT / "README.md", ROOT / "docs" / "how-it-works.md"):
        names = re.findall(r"^\| \[?`([^`]+)`", page.read_text(encoding="utf-8"), re.MULTILINE)
        assert len(names) > 5
        assert [name for name in names if not ROOT.joinpath(name).exists()] == []


def test_console_sessions_are_what_one_sees(tmp_path: Path) -> None:
    """Standard error is shown after standard output."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    commands = 0
    for page in PAGES:
        for session in re.findall(r"```console\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
            for command, said in re.findall(r"^\$ (.+)\n((?:(?!\$ ).*\n)*)", session, re.MULTILINE):
                done = subprocess.run(
                    ["sh", "-c", command],
                    cwd=tmp_path,
                    env={**os.environ, "PATH": path},
                    capture_output=True,
                    text=True,
                    check=False,
                    timeout=PATIENCE,
                )
                assert done.returncode == 0, command
                assert done.stdout + done.stderr == said, command
                commands += 1
    assert commands >= 4
