"""The browser's engine, `egwalker.js`, under Node.js: without one, these tests are skipped."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import generate
import pytest
from conftest import FIXTURES

SCRIPTS = Path(__file__).with_name("javascript")
OLDEST = 20
"""The version of Node.js that the scripts ask for."""
DELIVERIES = int(os.environ.get("EGWALKER_DELIVERIES", "1"))
COUNTS = {"reference": 499, "rand3": 600, "typing5": 400, "long8": 8}


def find_node() -> str:
    """The path of a Node.js that is new enough; skips the test if there is none."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("there is no node: install Node.js 20 or later to test egwalker.js")
    said = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    version = re.match(r"v(\d+)", said)
    if version is None or int(version[1]) < OLDEST:
        pytest.skip(f"node is {said.strip()}: egwalker.js needs Node.js {OLDEST} or later")
    return node


@pytest.fixture(scope="session")
def node() -> str:
    return find_node()


def run(node: str, script: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [node, SCRIPTS / script, *arguments],
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
        timeout=240,
    )


@pytest.mark.parametrize("name", COUNTS)
def test_conformance(node: str, conformance_folder: Path, name: str) -> None:
    """Stored order, run by run, and random causal orders of all histories."""
    file = conformance_folder / f"{name}.json.gz"
    done = run(node, "conformance.js", "--deliveries", str(DELIVERIES), file)
    assert done.stdout.splitlines()[-1:] == [f"{COUNTS[name]} passed, 0 failed"], done.stdout + done.stderr
    assert done.returncode == 0


def test_own_histories(node: str) -> None:
    """The suite's own histories, whose texts are the oracle's."""
    files = [FIXTURES / f"{name}.json" for name in generate.FIXTURES]
    done = run(node, "conformance.js", "--deliveries", "20", *files)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].endswith(" passed, 0 failed")
