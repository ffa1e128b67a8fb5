"""Time this engine beside pycrdt (Yrs) and loro, in one run.

    python asv_bench/peers.py S1 C1 A1 A2

Takes the names of traces. Each library makes the text of each trace, in turn, round after round: pycrdt and
loro from an update in their own format, this package from its event graph in memory. Prints one JSON line a
trace and library on stdout, and what people want to know on stderr. `ratio` is our time over the library's,
in our own line over pycrdt's; `target` is the largest ratio wanted. Times differ from machine to machine,
ratios hold; on a busy machine compare `ms_min`.

With `--keystroke` it also times how one keystroke from elsewhere enters the finished document of S1.

Exit codes: 0 all texts are right, 1 some are not, 2 the engine is not built or a file is missing.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from random import Random
from statistics import median
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from libraries import Inputs, Library, Pair, Task

YARDSTICK = "pycrdt"
TARGETS = {"S1": 0.10, "C1": 1.3, "A1": 0.45, "A2": 1.6}
"""By trace, how long we may take at most, as a ratio to the yardstick's time."""

KEYSTROKE_TRACE = "S1"
KEYSTROKE_TARGET = 20.0
"""How many microseconds a keystroke from elsewhere may take at most."""
BLOCKS, BLOCK = 10, 30
"""So many blocks of so many keystrokes each. The libraries do a block in turn: all in the same minute, but
each with its own data in the processor's caches, as in an application."""
KEYSTROKE_CASES = {
    "typing": "each next to the last one and after all that is held",
    "random": "at random places, after all that is held",
    "concurrent": "at random places, concurrent with the last event that is held",
}
SEED = 20240914


class InputError(Exception):
    """Something that ends the run; the message says what."""


class Trace(NamedTuple):
    """A trace as it was read. `exact`: the text is known; without agents' names it may be another one."""

    name: str
    text: str
    exact: bool
    events: int
    inputs: list[tuple[Library, Inputs]]


def say(message: str) -> None:
    print(f"peers: {message}", file=sys.stderr, flush=True)


@contextmanager
def no_gc() -> Iterator[None]:
    """Collect garbage now, and none before the end of the block: whoever is timed pays for nobody else."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


# --- whole histories ----------------------------------------------------------------------------------------


def read_trace(name: str, libraries: list[Library], folder: Path, peers: Path) -> Trace:
    """A trace and what each library has of it; `InputError` if it is not there or cannot be read."""
    from benchmarks import traces  # noqa: PLC0415  (needs the engine)

    say(f"{name}: reading")
    try:
        loaded = traces.load(name, folder)
    except OSError as error:
        raise InputError(str(error)) from error
    runs = loaded.document.history()
    found = [(library, library.inputs(runs, name, peers)) for library in libraries]
    for library, inputs in found:
        if inputs is None:
            say(f"{name}: {peers} has no file for {library.name}, left out")
    return Trace(
        name,
        str(loaded.document),
        loaded.text_matches is True,
        sum(run.length for run in runs),
        [(library, inputs) for library, inputs in found if inputs is not None],
    )


def is_right(trace: Trace, library: str, text: str, ours: bool) -> bool:
    """Whether a library's text is the trace's, as far as the trace can tell. Says so if it is not."""
    if text == trace.text:
        return True
    what = f"{trace.name}: the text of {library} is not the one expected"
    if len(text) != len(trace.text):
        what += f": it has {len(text)} code points instead of {len(trace.text)}"
    if trace.exact or ours:
        say(what)
        return False
    # Each library orders concurrent inserts at one place in its own way. What was recorded at a position
    # after that then hits other text, and so even the length may differ.
    say(f"{what}; nobody can know it, as the trace has lost the names that break ties")
    return True


def time_rounds(tasks: list[Task], rounds: int) -> list[list[float]]:
    """By task, how many milliseconds it took in each round."""
    times: list[list[float]] = [[] for _ in tasks]
    for _ in range(rounds):
        for task, found in zip(tasks, times, strict=True):
            with no_gc():
                start = perf_counter_ns()
                result = task.merge()
                found.append((perf_counter_ns() - start) / 1e6)
            del result
    return times


def peak_of_merge(number: int, inputs: Any) -> int | None:
    """By how many bytes the memory of this process grows while the library of that number merges."""
    from benchmarks.growth import peak_growth  # noqa: PLC0415
    from libraries import LIBRARIES  # noqa: PLC0415  (needs the engine)

    return peak_growth(LIBRARIES[number]().task(inputs).merge)


def in_fresh_process(function: Callable[..., Any], *arguments: Any) -> Any:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def compare(trace: Trace, rounds: int) -> bool:
    """Time all libraries on a trace and print a line for each; whether all texts were right."""
    from libraries import LIBRARIES, version  # noqa: PLC0415  (needs the engine)

    tasks = [library.task(inputs) for library, inputs in trace.inputs]
    # This is also the warm-up.
    texts = [task.merge()[1] for task in tasks]
    right = [
        is_right(trace, library.name, text, ours=i == 0)
        for i, ((library, _), text) in enumerate(zip(trace.inputs, texts, strict=True))
    ]
    say(f"{trace.name}: {rounds} rounds of {', '.join([library.name for library, _ in trace.inputs])}")
    times = time_rounds(tasks, rounds)
    medians = {library.name: median(found) for (library, _), found in zip(trace.inputs, times, strict=True)}
    ours = medians[trace.inputs[0][0].name]
    numbers = [kind.name for kind in LIBRARIES]  # type: ignore[attr-defined]
    for i, (library, inputs) in enumerate(trace.inputs):
        peak = in_fresh_process(peak_of_merge, numbers.index(library.name), inputs)
        against = medians[library.name] if i else medians.get(YARDSTICK)
        line: dict[str, Any] = {
            "trace": trace.name,
            "library": library.name,
            "version": version(library),
            "what": library.what,
            "ms": round(medians[library.name], 3),
            "ms_min": round(min(times[i]), 3),
            "bytes": tasks[i].size,
            "peak_mib": None if peak is None else round(peak / 2**20, 2),
            "ratio": None if against is None else round(ours / against, 4),
            "events": trace.events,
            "length": len(texts[i]),
        }
        if i == 0:
            line |= judged(line["ratio"], TARGETS.get(trace.name))
        print(json.dumps(line), flush=True)
    return all(right)


def judged(value: float | None, target: float | None) -> dict[str, Any]:
    """The target, and whether it is met; None where there is nothing to compare."""
    return {"target": target, "within": None if value is None or target is None else value <= target}


# --- single keystrokes --------------------------------------------------------------------------------------


def time_keystrokes(case: str, pairs: list[Pair], length: int) -> tuple[list[list[float]], list[int | None]]:
    """By pair, how many microseconds each keystroke took, and the size of the last one."""
    random = Random(SEED)
    times: list[list[float]] = [[] for _ in pairs]
    sizes: list[int | None] = [None for _ in pairs]
    start = random.randrange(length)
    for block in range(BLOCKS):
        places = [(random.randrange(length), random.randrange(length)) for _ in range(BLOCK)]
        if case == "typing":
            places = [(start + block * BLOCK + i, 0) for i in range(BLOCK)]
        for i, pair in enumerate(pairs):
            for there, here in places:
                if case == "concurrent":
                    pair.type_here(here)
                take_in, sizes[i] = pair.keystroke(there)
                began = perf_counter_ns()
                result = take_in()
                times[i].append((perf_counter_ns() - began) / 1e3)
                del result
                if case == "concurrent":
                    pair.catch_up()
    return times, sizes


def compare_keystrokes(trace: Trace) -> bool:
    """Time keystrokes from elsewhere and print a line a case and library; whether all texts were right."""
    from libraries import version  # noqa: PLC0415  (needs the engine)

    right = True
    for case, about in KEYSTROKE_CASES.items():
        say(f"{trace.name}: {BLOCKS * BLOCK} keystrokes, {about}")
        pairs = [library.pair(inputs) for library, inputs in trace.inputs]
        with no_gc():
            times, sizes = time_keystrokes(case, pairs, len(trace.text))
        medians = {
            library.name: median(found) for (library, _), found in zip(trace.inputs, times, strict=True)
        }
        ours = medians[trace.inputs[0][0].name]
        typed = BLOCKS * BLOCK * (2 if case == "concurrent" else 1)
        for i, (library, _) in enumerate(trace.inputs):
            here, there = pairs[i].texts()
            if here != there or len(here) != len(trace.text) + typed:
                say(f"{case}: the two replicas of {library.name} have not come together")
                right = False
            against = medians[library.name] if i else medians.get(YARDSTICK)
            line: dict[str, Any] = {
                "trace": trace.name,
                "library": library.name,
                "version": version(library),
                "what": f"remote keystroke, {case}",
                "us": round(medians[library.name], 2),
                "us_min": round(min(times[i]), 2),
                "us_first": round(times[i][0], 2),
                "keystrokes": len(times[i]),
                "bytes": sizes[i],
                "ratio": None if against is None else round(ours / against, 4),
            }
            if i == 0:
                line |= judged(line["us"], KEYSTROKE_TARGET)
            print(json.dumps(line), flush=True)
    return right


# --- the command --------------------------------------------------------------------------------------------


def available() -> list[Library]:
    """The libraries that are installed, ours first."""
    from libraries import LIBRARIES  # noqa: PLC0415  (needs the engine)

    found = []
    for make in LIBRARIES:
        try:
            found.append(make())
        except ImportError as error:
            say(f"left out, not installed: {error.name} (python3 tools/develop.py bench)")
    return found


def run(options: argparse.Namespace) -> bool:
    from egwalker import DecodeError  # noqa: PLC0415  (needs the engine)

    libraries = available()
    peers = options.peers or options.traces.parent / "peers"
    right = True
    jobs: list[tuple[str, Callable[[Trace], bool]]] = [
        (name, lambda trace: compare(trace, options.rounds)) for name in options.names
    ]
    if options.keystroke:
        jobs.append((KEYSTROKE_TRACE, compare_keystrokes))
    for name, job in jobs:
        try:
            right &= job(read_trace(name, libraries, options.traces, peers))
        except DecodeError as error:
            say(f"{name}: {error}")
            right = False
    load, processors = os.getloadavg()[0], os.cpu_count() or 1
    if load > processors:
        say(f"others are at work here (load {load:.1f} on {processors} processors): compare ms_min")
    return right


def main(arguments: list[str] | None = None) -> int:
    shared = Path(os.environ.get("EGWALKER_SHARED", Path(__file__).resolve().parents[2] / "shared"))
    parser = argparse.ArgumentParser(
        description="Time this engine beside other libraries on recorded histories; one JSON line each."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="a trace, as S1, C1, A1, A2, friendsforever")
    parser.add_argument("--traces", type=Path, default=shared / "traces", metavar="DIR", help="(%(default)s)")
    parser.add_argument("--peers", type=Path, metavar="DIR", help="their files (default: TRACES/../peers)")
    parser.add_argument("--rounds", type=int, default=9, metavar="N", help="of each trace (%(default)s)")
    parser.add_argument("--keystroke", action="store_true", help="also time single remote keystrokes")
    options = parser.parse_args(arguments)
    if not options.names and not options.keystroke:
        parser.error("name at least one trace, or give --keystroke")
    if options.rounds < 1:
        parser.error("--rounds: at least 1")
    try:
        import libraries  # noqa: F401, PLC0415
    except ImportError as error:
        say(f"egwalker is not importable ({error}): run `make build`, then use .venv/bin/python")
        return 2
    try:
        return 0 if run(options) else 1
    except InputError as error:
        say(str(error))
        return 2


if __name__ == "__main__":
    sys.exit(main())
