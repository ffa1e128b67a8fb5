"""The conformance histories and the suite's own, through the engine; and the conformance program itself."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import conformance
import generate
import pytest
from conftest import FIXTURES
from serving import PATIENCE

COUNTS = {"reference": 499, "rand3": 600, "typing5": 400, "long8": 8}
DELIVERIES = int(os.environ.get("EGWALKER_DELIVERIES", "1"))
"""In how many random orders each of the conformance histories is delivered."""


def check_all(path: Path, deliveries: int) -> list[str]:
    problems = []
    for number, history in enumerate(conformance.load(path)):
        txns, text = conformance.parse(path, number, history)
        problem = conformance.check(txns, text, deliveries, f"{path.name}:{number}")
        if problem is not None:
            problems.append(f"{path.name}[{number}] {problem}")
    return problems


@pytest.mark.parametrize("name", COUNTS)
def test_conformance(conformance_folder: Path, name: str) -> None:
    """Stored order and random causal orders of all histories."""
    assert check_all(conformance_folder / f"{name}.json.gz", DELIVERIES) == []


@pytest.mark.parametrize("name", generate.FIXTURES)
def test_own_histories(name: str) -> None:
    assert check_all(FIXTURES / f"{name}.json", 10) == []


@pytest.mark.parametrize("name", generate.FIXTURES)
def test_fixtures_are_what_the_generator_makes(name: str) -> None:
    """So that whoever changes the generator or the oracle sees what that does: `python tests/generate.py`."""
    assert conformance.load(FIXTURES / f"{name}.json") == generate.fixture(name)


# --- the program --------------------------------------------------------------------------------------------

PROGRAM = Path(conformance.__file__)


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, PROGRAM, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=10 * PATIENCE,
    )


def test_program_counts_what_passed(tmp_path: Path) -> None:
    histories = conformance.load(FIXTURES / "three.json")[:6]
    (tmp_path / "good.json.gz").write_bytes(gzip.compress(json.dumps(histories).encode()))
    done = run("--deliveries", "2", tmp_path / "good.json.gz", FIXTURES / "odd.json")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "30 passed, 0 failed"


def test_program_names_what_failed(tmp_path: Path) -> None:
    histories = conformance.load(FIXTURES / "three.json")[:6]
    histories[4]["endContent"] += "!"
    (tmp_path / "bad.json").write_text(json.dumps(histories))
    done = run(tmp_path / "bad.json")
    lines = done.stdout.splitlines()
    assert (done.returncode, lines[-1]) == (1, "5 passed, 1 failed")
    assert lines[0].startswith("FAIL bad.json[4] in stored order: text: differs at ")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\x1f\x8b\x08", "ended before"),
        (b"[1", "Expecting"),
        (b"{}", "a list of histories was expected, not dict"),
        (b'[{"txns": []}]', "history 0 is malformed: KeyError: 'endContent'"),
        (b'[{"endContent": "", "txns": [{"span": [1, 2], "parents": [], "ops": []}]}]', "txn 0: span"),
    ],
)
def test_program_refuses_what_it_cannot_read(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "file.json"
    path.write_bytes(content)
    done = run(path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert str(path) in done.stderr
    assert said in done.stderr


def test_program_refuses_a_missing_file(tmp_path: Path) -> None:
    done = run(tmp_path / "none.json.gz")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)


def test_program_says_how_to_build_what_it_lacks(tmp_path: Path) -> None:
    (tmp_path / "egwalker.py").write_text("raise ImportError('no engine')\n")
    done = subprocess.run(
        [sys.executable, PROGRAM, FIXTURES / "odd.json"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "`make`" in done.stderr
    assert ".venv/bin/python tests/conformance.py" in done.stderr
