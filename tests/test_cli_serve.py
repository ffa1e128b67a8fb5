"""The `egwalker` command with a server: `serve`, and URLs in place of files."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop
from serving import PATIENCE

from egwalker import Document
from egwalker.cli_online import run
from egwalker.formats import load, save

ROOT = Path(__file__).resolve().parent.parent
PLUGIN = ROOT / "examples" / "plugin"
LETTERS = [ROOT / "examples" / f"letter-{name}.json" for name in ("alice", "bob")]

Start = Callable[..., str]


def egwalker(*arguments: object, status: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "egwalker", *map(str, arguments)]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, env=os.environ | environment, timeout=PATIENCE
    )
    assert done.returncode == status, done.stderr
    return done


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts servers at free ports; all have ended well after the test."""
    running: list[subprocess.Popen[str]] = []

    def begin(*arguments: object, **environment: str) -> str:
        command = [sys.executable, "-m", "egwalker", "serve", *map(str, arguments), "--port", "0"]
        server = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | environment
        )
        running.append(server)
        assert server.stdout is not None
        line = server.stdout.readline()
        assert line.startswith("serving "), server.communicate()
        return line.split(" at ")[1].split(" for ")[0]

    yield begin
    for server in running:
        server.send_signal(signal.SIGTERM)
        _, err = server.communicate(timeout=PATIENCE)
        assert server.returncode == 0
        assert err.startswith("stored all documents in "), err


def test_the_commands_of_the_readme(start: Start, tmp_path: Path) -> None:
    url = start(tmp_path / "documents") + "letter"
    alice, bob = LETTERS
    assert f"wrote {url}" in egwalker("export", alice, url).stdout
    assert f"wrote {url}" in egwalker("merge", url, bob, "-o", url).stdout
    merged = egwalker("cat", url).stdout
    both = tmp_path / "both.egw"
    egwalker("merge", alice, bob, "-o", both)
    assert merged == load(both).document.content
    assert egwalker("cat", url, "--at", "alice:23").stdout == egwalker("cat", both, "--at", "alice:23").stdout
    # What was said to be there is in the file.
    assert load(tmp_path / "documents" / "letter.egw").document.content == merged


def test_a_token(start: Start, tmp_path: Path) -> None:
    url = start(tmp_path, "--token", "secret") + "letter"
    refused = egwalker("export", LETTERS[0], url, status=2)
    assert "403" in refused.stderr
    assert "403" in egwalker("export", LETTERS[0], url, status=2, EGWALKER_TOKEN="wrong").stderr
    egwalker("export", LETTERS[0], url, EGWALKER_TOKEN="secret")
    assert "403" in egwalker("cat", url, status=2).stderr
    assert egwalker("cat", url, EGWALKER_TOKEN="secret").stdout


def listed(url: str) -> list[dict[str, Any]]:
    """The documents that a server has, where one of them is at this address."""
    with urllib.request.urlopen(url.rpartition("/")[0] + "/") as answer:
        found: list[dict[str, Any]] = json.load(answer)["documents"]
        return found


def test_the_list_is_of_the_folder(start: Start, tmp_path: Path) -> None:
    url = start(tmp_path) + "letter"
    egwalker("export", LETTERS[0], url)
    (tmp_path / "another name.egw").touch()
    assert {one["name"] for one in listed(url)} == {"letter", "another name"}


def test_unrelated_documents_are_refused(start: Start, tmp_path: Path) -> None:
    url = start(tmp_path) + "letter"
    egwalker("export", LETTERS[0], url)
    (tmp_path / "other.txt").write_text("something else")
    assert "document" in egwalker("import", tmp_path / "other.txt", url, status=2).stderr


def test_a_place_of_another_package(start: Start, tmp_path: Path) -> None:
    """The example keeps documents in SQLite; the server is stopped and started again."""
    info = tmp_path / "example-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: example\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[egwalker]\nsqlite = egwalker_sqlite\n")
    path = f"{tmp_path}{os.pathsep}{PLUGIN}"
    place = f"sqlite://{tmp_path}/notes.db"
    url = start(place, PYTHONPATH=path) + "letter"
    assert "there is no document 'letter'" in egwalker("cat", url, status=2).stderr
    assert listed(url) == []  # to have asked for it has not made it
    egwalker("export", LETTERS[0], url)
    egwalker("merge", url, LETTERS[1], "-o", url)
    again = start(place, PYTHONPATH=path) + "letter"
    assert egwalker("cat", again).stdout == egwalker("cat", url).stdout
    assert [one["name"] for one in listed(again)] == ["letter"]
    nowhere = egwalker("serve", f"sqlite://{tmp_path}/no/notes.db", status=2, PYTHONPATH=path)
    assert "unable to open database file" in nowhere.stderr
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".egw"] == []


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("serve", "{}", "--host", "0.0.0.0", "--port", "0"), "say who may: a token, or anyone"),
        (("serve", "{}", "--kind", "spreadsheet"), "spreadsheet"),
        (("serve", "gopher://x"), "no plugin links to"),
        (("serve", "http://127.0.0.1:9/"), "nothing is kept there"),
        (("serve", "memory://x"), "nothing is kept there"),
        (("serve", "{}", "--port", "x"), "--port"),
        (("cat", "http://127.0.0.1:9/letter"), "cannot read http://127.0.0.1:9/letter"),
        (("cat", "gopher://x/letter"), "no plugin links to"),
    ],
)
def test_what_cannot_be(tmp_path: Path, arguments: tuple[str, ...], why: str) -> None:
    done = egwalker(*[argument.format(tmp_path / "documents") for argument in arguments], status=2)
    assert why in done.stderr
    assert done.stderr.count("\n") == 1


def test_documents_of_operations(start: Start, tmp_path: Path) -> None:
    """Two people's maps on a server, where the later one comes first."""
    url = start(tmp_path / "documents", "--kind", "map") + "plan"
    alice = Document("map", agent="alice")
    alice.perform({"set": ["when"], "to": "Sunday"})
    bob = alice.fork("bob")
    bob.perform({"set": ["when"], "to": "Monday"})
    alice.perform({"set": ["where"], "to": "the lake"})
    for doc in (bob, alice):
        save(doc, tmp_path / f"{doc.agent}.egw")
        egwalker("export", tmp_path / f"{doc.agent}.egw", url)
    assert json.loads(egwalker("cat", url).stdout) == {"when": "Monday", "where": "the lake"}
    assert egwalker("log", "--groups", url).stdout == "alice:0..1  clock 0\nbob:0  clock 1\n"
    with urllib.request.urlopen(url) as answer:
        assert json.load(answer) == {"when": "Monday", "where": "the lake"}


def test_the_server_runs_on_uvloop_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    loops = []

    async def work() -> None:
        loops.append(type(asyncio.get_running_loop()))

    run(work())
    monkeypatch.setitem(sys.modules, "uvloop", None)  # as if it were not
    run(work())
    assert issubclass(loops[0], uvloop.Loop)
    assert not issubclass(loops[1], uvloop.Loop)
