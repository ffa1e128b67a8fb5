"""Diamond Types' own reader and writer, the npm package `diamond-types-node`, for tests beside it."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from serving import PATIENCE

PACKAGE = "diamond-types-node"
VERSION = "1.0.2"
SCRIPT = Path(__file__).with_suffix(".mjs")
FOLDER = Path(__file__).resolve().parents[1] / "build" / f"{PACKAGE}-{VERSION}"
"""Where the package is installed, once for all runs."""


@cache
def why_not() -> str:
    """Why it cannot be used here; empty if it can."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        return "there is no node with npm here"
    if FOLDER.is_dir():
        return ""
    try:
        return install(npm)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{PACKAGE} cannot be installed: {error}"


def install(npm: str) -> str:
    """Install the package; returns why that is impossible."""
    FOLDER.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=FOLDER.parent) as part:
        options = ["--no-audit", "--no-fund", "--fetch-retries=0", "--prefix", part]
        done = subprocess.run(
            [npm, "install", *options, f"{PACKAGE}@{VERSION}"],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if done.returncode:
            return f"npm does not install {PACKAGE}: {done.stderr[-200:]}"
        with suppress(OSError):  # Another process was faster.
            os.rename(part, FOLDER)
        Path(part).mkdir(exist_ok=True)  # to be removed
    return ""


def ask(commands: list[dict[str, Any]]) -> list[Any]:
    """The answers to commands, see `dt_node.mjs`. Skips the test where that is impossible."""
    reason = why_not()
    if reason:
        pytest.skip(reason)
    done = subprocess.run(
        ["node", str(SCRIPT), str(FOLDER)],
        input=json.dumps(commands),
        capture_output=True,
        text=True,
        timeout=10 * PATIENCE,
        check=False,
    )
    if done.returncode:
        raise AssertionError(f"Diamond Types fails: {done.stderr[-2000:]}")
    answers: list[Any] = json.loads(done.stdout)
    return answers


def read(*files: bytes) -> dict[str, Any]:
    """The command that reads a file and merges others into it."""
    return {"what": "read", "files": [base64.b64encode(file).decode() for file in files]}


def make(steps: list[list[Any]]) -> dict[str, Any]:
    """The command that makes files."""
    return {"what": "make", "steps": steps}


def history(answer: dict[str, Any]) -> dict[Any, Any]:
    """What Diamond Types says of the events: by id the parents, what it does, where, what it inserts."""
    found: dict[Any, Any] = {}
    ops = []
    for kind, start, end, forwards, content in answer["ops"]:
        for i in range(end - start):
            if kind == "Ins":
                ops.append(("insert", start + i, [*content][i]))
            else:
                ops.append(("delete", start if forwards else end - 1 - i, ""))
    events = iter(ops)
    for entry in answer["history"]:
        parents = frozenset((agent, seq) for agent, seq in entry["parents"])
        for agent, seq in entry["ids"]:
            found[agent, seq] = (parents, *next(events))
            parents = frozenset([(agent, seq)])
    assert next(events, None) is None
    return found
