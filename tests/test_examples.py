"""The examples do what they say: the demo and its histories, and the plugin in a package of its own."""

from __future__ import annotations

import os
import pty
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
from serving import PATIENCE

from egwalker import Document
from egwalker.formats import load

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"
LETTERS = EXAMPLES / "letter-alice.json", EXAMPLES / "letter-bob.json"
ESCAPE = re.compile(r"\x1b\[[0-9;]*m")


def run(*command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*map(str, command)],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )


@pytest.fixture
def demo(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return __import__("demo")


def merged() -> Document:
    alice, bob = (load(path).document for path in LETTERS)
    alice.merge(bob)
    return alice


# --- the demo -----------------------------------------------------------------------------------------------


def test_demo_says_what_came_from_whom() -> None:
    done = run(sys.executable, "examples/demo.py", COLUMNS="100")
    assert (done.returncode, done.stderr) == (0, "")
    assert "Both have 687 events, up to version bob:254." in done.stdout
    assert "letter-alice.json  450 events: alice typed 380 characters and deleted 70\n" in done.stdout
    assert "letter-bob.json    541 events: bob typed 446 characters and deleted 95\n" in done.stdout
    assert "concurrent" in done.stdout
    assert "both have the same text now, 1,303 characters" in done.stdout
    assert not ESCAPE.search(done.stdout)
    # Edits of one, next to each other's, and of both.
    assert "Dear[B+ mayor, dear] councillors," in done.stdout
    assert "[A+We understand that][A-You say that] the building needs a new roof[B+, which the" in done.stdout
    assert "[B- On Thursdays a libra][AB-r][B-rian comes" in done.stdout


def test_demo_shows_the_merged_text() -> None:
    done = run(sys.executable, "examples/demo.py", COLUMNS="50")
    shown = done.stdout.split("─" * 48 + "\n")[1]
    assert max(map(len, shown.splitlines())) <= 50
    shown = re.sub(r"\[[AB]+-[^]]*\]", "", shown)
    shown = re.sub(r"\[[AB]\+([^]]*)\]", r"\1", shown)
    assert shown.split() == str(merged()).split()


@pytest.mark.parametrize("colour", [True, False])
def test_demo_on_a_terminal(colour: bool) -> None:
    ours, theirs = pty.openpty()
    environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    environment |= {"COLUMNS": "200"} if colour else {"COLUMNS": "200", "NO_COLOR": "1"}
    with subprocess.Popen([sys.executable, EXAMPLES / "demo.py"], stdout=theirs, env=environment) as process:
        os.close(theirs)
        shown = b""
        try:
            while some := os.read(ours, 1 << 16):
                shown += some
        except OSError:  # how Linux says that nobody writes any more
            pass
        os.close(ours)
    text = shown.decode().replace("\r\n", "\n")
    assert process.returncode == 0
    assert ("\x1b[4;33m mayor, dear\x1b[0m" in text) == colour
    assert ("[B+ mayor, dear]" in text) == (not colour)
    if colour:
        assert "Dear mayor, dear councillors," in ESCAPE.sub("", text)


def test_demo_suggests_commands_that_work(tmp_path: Path) -> None:
    done = run(sys.executable, "examples/demo.py", TMPDIR=str(tmp_path))
    commands = [shlex.split(line) for line in done.stdout.splitlines() if "bin/egwalker " in line]
    assert [words[1] for words in commands] == ["merge", "log", "cat", "stat"]
    for words in commands:
        said = run(*words)
        assert (said.returncode, said.stdout != "") == (0, True), words
    assert load(tmp_path / "letter.json").document.content == str(merged())


def test_demo_fails_if_the_order_of_merging_matters(
    demo: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert demo.main() == 0
    merge, done = Document.merge, list[Document]()

    def merge_once(self: Document, other: Document) -> None:
        if not done:
            merge(self, other)
        done.append(self)

    monkeypatch.setattr(Document, "merge", merge_once)
    assert demo.main() == 1
    assert "made a difference" in capsys.readouterr().err


def test_demo_finds_the_right_authors(demo: ModuleType) -> None:
    """The same history with a letter for its author in place of each character is the map of authors."""
    doc = merged()
    common = [("bob", 254)]
    initials = Document()
    for made in doc.history():
        common_run = made.seq + made.length <= {"alice": 432, "bob": 255}[made.agent]
        initial = "." if common_run else made.agent[0]
        ops = tuple([(pos, deleted, initial * len(inserted)) for pos, deleted, inserted in made.ops])
        initials.receive([made._replace(ops=ops)])

    alice, bob = (load(path).document for path in LETTERS)
    sides = [doc.history(since=bob.version_vector), doc.history(since=alice.version_vector)]
    parts = list(demo.marked(doc, common, sides).parts())
    there = [part for part in parts if not part.gone]
    assert "".join([part.text for part in there]) == str(doc)
    assert "".join([(part.by or ".")[0] * len(part.text) for part in there]) == str(initials)
    # What one or both deleted is what of the common version is not in their own text.
    for side, agent in ((alice, "alice"), (bob, "bob")):
        kept = "".join([part.text for part in parts if part.by in (None, agent) and agent not in part.gone])
        assert kept == str(side)
    assert [part.text for part in parts if part.gone == ("alice", "bob")] == ["r"]


# --- the letter ---------------------------------------------------------------------------------------------


def test_the_letters_are_what_the_script_writes(tmp_path: Path) -> None:
    done = run(sys.executable, "examples/write_letter.py", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    for path in LETTERS:
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()


def test_the_letters_have_diverged() -> None:
    alice, bob = (load(path).document for path in LETTERS)
    assert str(alice) != str(bob)
    for doc in (alice, bob):
        runs = doc.history()
        assert sum([made.length for made in runs]) > 1000
        assert {made.agent for made in runs} == {"alice", "bob"}
        assert any(deleted for made in runs for _, deleted, _ in made.ops)


# --- the plugin ---------------------------------------------------------------------------------------------

PLUGIN = EXAMPLES / "plugin"
FENCED = re.compile(r"```python\n(.*?)```", re.DOTALL)


@pytest.fixture
def installed(tmp_path: Path) -> str:
    """A PYTHONPATH on which the plugin is installed, by what its pyproject.toml says."""
    project = tomllib.loads((PLUGIN / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    entry_points = "".join(
        f"{name} = {module}\n" for name, module in project["entry-points"]["egwalker"].items()
    )
    name = f"{project['name'].replace('-', '_')}-{project['version']}"
    info = tmp_path / f"{name}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    (info / "entry_points.txt").write_text(f"[egwalker]\n{entry_points}")
    return f"{tmp_path}{os.pathsep}{PLUGIN}"


def test_the_page_on_plugins_shows_the_plugin(installed: str) -> None:
    module, use = FENCED.findall((ROOT / "docs" / "plugins.md").read_text(encoding="utf-8"))
    assert module == (PLUGIN / "egwalker_lines.py").read_text(encoding="utf-8")
    done = run(sys.executable, "-c", use, PYTHONPATH=installed)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip() == use.split("# ")[1].strip()


def test_the_plugin_is_found_by_its_entry_point_only() -> None:
    done = run(sys.executable, "-c", "import egwalker; egwalker.Document('lines')", PYTHONPATH=str(PLUGIN))
    assert done.returncode == 1
    assert "KindError: no plugin provides documents of kind 'lines'" in done.stderr


@pytest.mark.parametrize("content", ["'a\\nb'", "['a', 'b\\n']", "['a', 1]", "['\\ud800']", "None"])
def test_the_plugin_refuses_what_it_does_not_hold(installed: str, content: str) -> None:
    program = f"""
import egwalker
doc = egwalker.Document("lines")
try:
    doc.insert(0, {content})
except egwalker.ContentError:
    print(doc.content)
"""
    done = run(sys.executable, "-c", program, PYTHONPATH=installed)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_the_command_line_knows_the_plugin(installed: str, tmp_path: Path) -> None:
    path = tmp_path / "lines.json"
    path.write_text(
        '{"kind": "lines", "txns": [{"agent": "a", "seqStart": 0, "span": [0, 2], "parents": [], '
        '"ops": [[0, 0, ["one", "two"]]]}]}'
    )
    done = run(sys.executable, "-m", "egwalker", "cat", path, PYTHONPATH=installed)
    assert (done.returncode, done.stdout) == (0, '["one","two"]\n')
    done = run(sys.executable, "-m", "egwalker", "cat", path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "'lines'" in done.stderr
