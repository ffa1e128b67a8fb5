"""Check the engine against files of histories whose end is known.

    python tests/conformance.py [--deliveries N] [--seed S] FILE.json.gz ...

A file is a JSON list, gzipped or not, of histories:

    {"endContent": str, "txns": [{"agent", "seqStart", "span", "parents", "ops"}, ...]}

Each is imported in its stored order and must end in its text. With `--deliveries N` it is also delivered N
times in random causal orders and random-sized pieces, to documents that merge after each piece; texts,
versions, version vectors and past versions are compared with the naive oracle.

Prints a line for each history that fails, one for each file, and at the end "N passed, M failed". Exit codes:
0 all passed, 1 some failed, 2 a file cannot be read or the engine is not built.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import sys
import time
import traceback
import zlib
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import Any

import oracle

GZIP_MAGIC = b"\x1f\x8b"


class FileError(Exception):
    """A file that cannot be read, or is no list of histories."""


def load(path: Path) -> list[dict[str, Any]]:
    """The histories of a file."""
    try:
        data = path.read_bytes()
        histories = json.loads(gzip.decompress(data) if data.startswith(GZIP_MAGIC) else data)
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise FileError(f"{path}: {error}") from error
    if not isinstance(histories, list):
        raise FileError(f"{path}: a list of histories was expected, not {type(histories).__name__}")
    return histories


def parse(path: Path, number: int, history: Any) -> tuple[list[oracle.Txn], str]:
    """A history's runs and the text that they must give."""
    try:
        text = history["endContent"]
        if not isinstance(text, str):
            raise TypeError(f"endContent is {type(text).__name__}")
        return oracle.read_history(history), text
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise FileError(f"{path}: history {number} is malformed: {type(error).__name__}: {error}") from error


def check(txns: list[oracle.Txn], text: str, deliveries: int, seed: str) -> str | None:
    """What is wrong with one history, None if nothing is."""
    from deliver import Delivery, MismatchError, stored_order  # noqa: PLC0415  (needs the engine)

    try:
        stored_order(txns, text)
    except MismatchError as error:
        return f"in stored order: {error}"
    except Exception as error:
        return f"in stored order: {describe(error)}"
    if not deliveries:
        return None
    document = oracle.replay(txns)
    if document.content() != text:
        return "the oracle's text is not endContent"
    for number in range(deliveries):
        delivery = Delivery(Random(f"{seed}:{number}"), txns, document)
        try:
            delivery.run()
        except MismatchError as error:
            return f"delivery {number}: {error}"
        except Exception as error:
            return f"delivery {number}, after {len(delivery.log)} steps: {describe(error)}"
    return None


def describe(error: Exception) -> str:
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({Path(place.filename).name}:{place.lineno})"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Check the engine against histories whose end is known.")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE.json.gz")
    parser.add_argument(
        "--deliveries",
        type=int,
        default=0,
        metavar="N",
        help="random causal orders of each history (default: 0)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the random orders (default: 0)")
    options = parser.parse_args(arguments)
    try:
        import egwalker.cycore.walker  # noqa: F401, PLC0415
    except ImportError as error:
        print(
            f"conformance: egwalker is not importable ({error}): build it with `make`, then run"
            " `.venv/bin/python tests/conformance.py FILE.json.gz ...`",
            file=sys.stderr,
        )
        return 2

    passed = failed = 0
    try:
        files = [(path, [parse(path, i, h) for i, h in enumerate(load(path))]) for path in options.files]
    except FileError as error:
        print(f"conformance: {error}", file=sys.stderr)
        return 2
    for path, histories in files:
        began = time.monotonic()
        bad = 0
        for number, (txns, text) in enumerate(histories):
            problem = check(txns, text, options.deliveries, f"{options.seed}:{path.name}:{number}")
            if problem is not None:
                bad += 1
                print(f"FAIL {path.name}[{number}] {problem}", flush=True)
        passed += len(histories) - bad
        failed += bad
        seconds = time.monotonic() - began
        print(f"{path.name}: {len(histories) - bad} passed, {bad} failed, {seconds:.1f} s", flush=True)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


def go_on_in_venv() -> None:
    """Started by a Python that lacks the package, go on with the one that `make build` installed it for."""
    venv = Path(__file__).resolve().parents[1] / ".venv"
    python = venv / "bin" / "python"
    if find_spec("egwalker") is None and python.exists() and Path(sys.prefix) != venv:
        os.execv(python, [str(python), *sys.argv])


if __name__ == "__main__":
    go_on_in_venv()
    sys.exit(main())
