"""The benchmarks that nothing else runs: on little, for whether they come to an end, not for how soon."""

from __future__ import annotations

import gzip
import importlib
import json
from pathlib import Path

import pytest

from egwalker import Document
from egwalker.formats import save

FOLDER = Path(__file__).resolve().parents[1] / "asv_bench"


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))


def test_keystrokes_beside_other_libraries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those that are not installed, or have no file of the history, are left out."""
    document = Document(agent="ann")
    document.insert(0, "the text that was there\n" * 20)
    peers = importlib.import_module("peers")
    save(document, tmp_path / f"{peers.KEYSTROKE_TRACE}.json.gz")
    monkeypatch.setattr(peers, "BLOCK", 5)
    monkeypatch.setattr(peers, "LIVE_STEPS", (10, 30))
    assert peers.main(["--keystroke", "--live", "--traces", str(tmp_path), "--peers", str(tmp_path)]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    ours = [line["what"] for line in lines if line["library"] == "egwalker"]
    for case in (*(f"keystroke, {case}" for case in peers.KEYSTROKE_CASES), "keystroke, live session"):
        for form in peers.KEYSTROKE_TARGETS:
            assert f"remote {case}{form}" in ours


def test_a_live_session_that_never_pauses() -> None:
    live = importlib.import_module("benchmarks.live")
    session = live.LiveKeystroke()
    for _ in range(20):
        session.setup(30)
        session.time_receive(30)
    assert session.track_window(30) >= 0
    assert session.typing == 50
    assert len(session.ann) == 1000 + 50 + 50 - live.WAITING


RECORDING = {
    "kind": "concurrent",
    "endContent": "ab-xy-c",
    "numAgents": 2,
    "txns": [
        {"parents": [], "agent": 0, "patches": [[0, 0, "abc"]]},
        {"parents": [0], "agent": 0, "patches": [[2, 0, "-"]]},
        {"parents": [0], "agent": 1, "patches": [[2, 0, "x"]]},
        {"parents": [1, 2], "agent": 1, "patches": [[4, 0, "z"], [4, 1, ""], [4, 0, "y"], [5, 0, "-"]]},
    ],
}


@pytest.mark.parametrize("name", ["deferral", "joining"])
def test_recorded_sessions(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main = importlib.import_module(name).main
    arguments = ["--traces", str(tmp_path), "--rounds", "1", "small"]
    assert main(arguments) == 2
    assert "there is no trace small" in capsys.readouterr().err
    (tmp_path / "small.json.gz").write_bytes(gzip.compress(json.dumps(RECORDING).encode()))
    assert main(arguments) == 0
    assert capsys.readouterr().out
