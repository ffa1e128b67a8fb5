"""Time this engine beside pycrdt (Yrs) and loro, in one run, and compare the sizes of files.

    python asv_bench/peers.py S1 C1 A1 A2

Takes the names of traces. Each library makes the text of each trace, in turn, round after round: pycrdt and
loro from an update in their own format, this package from its event graph in memory, from the bytes of a
document without its content, and from those with it, beside a plain text file that is read. Prints one JSON
line a trace and library and what it does on stdout, and what people want to know on stderr. `ratio` is our
time over the library's (to theirs from the graph, to the plain text's from the content), in our own lines
over pycrdt's or, with the content, the plain text's; `target` is the largest ratio wanted. Times differ from
machine to machine, ratios hold; on a busy machine compare `ms_min`.

With `--keystroke` it also times how one keystroke from elsewhere enters the finished document of S1, and with
`--live` how it does while two people type into it at once, neither of whom ever knows the other's last
keystrokes: after 100, 1,000 and so on of them, up to `LIVE_STEPS`.
With `--size` it prints how many bytes documents take instead (see `sizes.py`), by default of all traces.

Exit codes: 0 all texts are right, 1 some are not, 2 the engine is not built or a file is missing.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from random import Random
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from contest import Contestant, Keystroke
    from libraries import Inputs, Library


class Aim(NamedTuple):
    """Whom we compare with, and by trace how long we may take at most: a ratio to their time."""

    yardstick: str
    targets: dict[str, float]


YARDSTICK = "pycrdt"
AIMS = {
    "graph -> text": Aim(YARDSTICK, {"S1": 0.10, "C1": 1.3, "A1": 0.45, "A2": 1.6}),
    "bytes -> text, full replay": Aim(YARDSTICK, {"S1": 0.12, "C1": 0.50, "A1": 0.25, "A2": 0.50}),
    "bytes -> text, cached content": Aim("plain text file", {"S1": 3.0, "C1": 3.0, "A1": 3.0, "A2": 3.0}),
}
"""By what we do."""

KEYSTROKE_TRACE = "S1"
KEYSTROKE_TARGETS = {"": 20.0, ", as bytes": 1.5, ", as bytes over a link": 1.5}
"""By how it travels, how many microseconds a keystroke from elsewhere may take at most."""
BYTES_TARGETS = {", as bytes": 32, ", as bytes over a link": 12}
"""How many bytes it may have at most."""
KEYSTROKE_CASES = {
    "typing": "each next to the last one and after all that is held",
    "random": "at random places, after all that is held",
    "concurrent": "at random places, concurrent with the last event that is held",
}
BLOCKS, BLOCK = 10, 30
"""So many blocks of so many keystrokes each; the libraries do a block in turn."""
LIVE_WAITING = 2
"""How many keystrokes of a live session are on their way."""
LIVE_STEPS = (100, 1_000, 5_000, 10_000, 20_000, 50_000)
"""After how many from each side one is timed: the median of the last `LIVE_BLOCK`."""
LIVE_BLOCK = 100
LIVE_LIMIT = 1000.0
"""Who takes more microseconds for one does not go on: 50,000 would take hours."""
SEED = 20240914


class Trace(NamedTuple):
    """A trace as it was read. `exact`: the text is known; without agents' names it may be another one."""

    name: str
    text: str
    exact: bool
    events: int
    inputs: list[tuple[Library, Inputs]]


def say(message: str) -> None:
    print(f"peers: {message}", file=sys.stderr, flush=True)


def read_trace(name: str, libraries: list[Library], folder: Path, peers: Path, scratch: Path) -> Trace:
    """A trace and what each library has of it."""
    from benchmarks import traces  # noqa: PLC0415  (needs the engine)
    from libraries import Source  # noqa: PLC0415

    say(f"{name}: reading")
    loaded = traces.load(name, folder)
    runs = loaded.document.history()
    source = Source(name, loaded.document, runs, peers, scratch)
    found = [(library, library.inputs(source)) for library in libraries]
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


@contextmanager
def contestants(trace: Trace) -> Iterator[list[Contestant]]:
    """The libraries that take part, our graph first."""
    from contest import Contestant  # noqa: PLC0415  (needs the engine)

    with ExitStack() as stack:
        yield [stack.enter_context(Contestant(library, inputs)) for library, inputs in trace.inputs]


# --- whole histories ----------------------------------------------------------------------------------------


def compare(trace: Trace, rounds: int) -> bool:
    """Time all libraries on a trace and print a line for each; whether all texts were right."""
    with contestants(trace) as all_of_them:
        merged = [contestant.first_merge() for contestant in all_of_them]
        say(f"{trace.name}: {rounds} rounds of {', '.join([label(each.library) for each in all_of_them])}")
        for _ in range(rounds):
            for contestant in all_of_them:
                contestant.times.append(contestant.merge())
        right = True
        for contestant, (text, peak, size) in zip(all_of_them, merged, strict=True):
            right &= is_right(trace, contestant.library, text)
            line = {
                **about(trace, contestant),
                "what": contestant.library.what,
                "ms": round(median(contestant.times), 3),
                "ms_min": round(min(contestant.times), 3),
                "bytes": size,
                "peak_mib": None if peak is None else round(peak / 2**20, 2),
                "ratio": ratio(contestant, rival(contestant, all_of_them)),
                "events": trace.events,
                "length": len(text),
            }
            aim = AIMS.get(contestant.library.what)
            if is_ours(contestant.library) and aim is not None:
                line |= judged(line["ratio"], aim.targets.get(trace.name))
            print(json.dumps(line), flush=True)
    return right


def is_ours(library: Library) -> bool:
    return library.name == "egwalker"


def label(library: Library) -> str:
    return f"{library.name} ({library.what})"


def is_right(trace: Trace, library: Library, text: str) -> bool:
    """Whether a library's text is the trace's, as far as the trace can tell. Says so if it is not."""
    if text == trace.text:
        return True
    what = f"{trace.name}: the text of {label(library)} is not the one expected"
    if len(text) != len(trace.text):
        what += f": it has {len(text)} code points instead of {len(trace.text)}"
    if trace.exact or is_ours(library):
        say(what)
        return False
    # Each library orders concurrent inserts at one place in its own way. What was recorded at a position
    # after that then hits other text, and so even the length may differ.
    say(f"{what}; nobody can know it, as the trace has lost the names that break ties")
    return True


def about(trace: Trace, contestant: Contestant) -> dict[str, Any]:
    library = contestant.library
    return {"trace": trace.name, "library": library.name, "version": library.version}


def rival(contestant: Contestant, all_of_them: list[Contestant]) -> Contestant | None:
    """Whom to compare with: one of ours with its yardstick, None if that is not there, others with ours."""
    library = contestant.library
    if is_ours(library):
        yardstick = AIMS[library.what].yardstick
        return next((other for other in all_of_them if other.library.name == yardstick), None)
    # pycrdt is the yardstick of two: the first one is the graph.
    for other in all_of_them:
        if is_ours(other.library) and AIMS[other.library.what].yardstick == library.name:
            return other
    return all_of_them[0]


def ratio(contestant: Contestant, other: Contestant | None) -> float | None:
    """Our median over the library's, whichever of the two is ours; None if there is no other."""
    if other is None:
        return None
    ours, theirs = (contestant, other) if is_ours(contestant.library) else (other, contestant)
    return round(median(ours.times) / median(theirs.times), 4)


def judged(value: float | None, target: float | None) -> dict[str, Any]:
    """The target, and whether it is met; None where there is nothing to compare."""
    return {"target": target, "within": None if value is None or target is None else value <= target}


# --- single keystrokes --------------------------------------------------------------------------------------


def compare_keystrokes(trace: Trace) -> bool:
    """Time keystrokes from elsewhere and print a line a case and library; whether all texts were right."""
    right = True
    for case, meaning in KEYSTROKE_CASES.items():
        say(f"{trace.name}: {BLOCKS * BLOCK} keystrokes, {meaning}")
        with contestants(trace) as all_of_them:
            blocks = keystrokes(case, len(trace.text))
            typed = sum(1 if key.here is None else 2 for block in blocks for key in block)
            for contestant in all_of_them:
                contestant.open_pair()
            sizes = []
            for block in blocks:
                results = [contestant.keystrokes(block) for contestant in all_of_them]
                for contestant, (times, _) in zip(all_of_them, results, strict=True):
                    contestant.times += times
                sizes = [size for _, size in results]
            for contestant, size in zip(all_of_them, sizes, strict=True):
                here, there = contestant.texts()
                if here != there or len(here) != len(trace.text) + typed:
                    say(f"{case}: the two replicas of {contestant.library.name} have not come together")
                    right = False
                form = contestant.library.keystroke
                line = {
                    **about(trace, contestant),
                    "what": f"remote keystroke, {case}{form}",
                    "us": round(median(contestant.times), 2),
                    "us_min": round(min(contestant.times), 2),
                    "us_first": round(contestant.times[0], 2),
                    "keystrokes": len(contestant.times),
                    "bytes": size,
                    "ratio": ratio(contestant, rival(contestant, all_of_them)),
                }
                if is_ours(contestant.library):
                    line |= judged(line["us"], KEYSTROKE_TARGETS[form])
                if form in BYTES_TARGETS and case != "concurrent":
                    line |= {"target_bytes": BYTES_TARGETS[form]}
                    line |= {"within_bytes": size is not None and size <= BYTES_TARGETS[form]}
                print(json.dumps(line), flush=True)
    return right


def keystrokes(case: str, length: int) -> list[list[Keystroke]]:
    """The places of all keystrokes of a case in a document of `length` code points, block by block."""
    from contest import Keystroke  # noqa: PLC0415  (needs the engine)

    random = Random(SEED)
    start = random.randrange(length)
    return [
        [
            Keystroke(
                start + block * BLOCK + i if case == "typing" else random.randrange(length),
                random.randrange(length) if case == "concurrent" else None,
            )
            for i in range(BLOCK)
        ]
        for block in range(BLOCKS)
    ]


# --- live sessions ------------------------------------------------------------------------------------------


def compare_live(trace: Trace) -> bool:
    """Time keystrokes of a session that never pauses, print a line each; whether all texts were right."""
    right = True
    with contestants(trace) as all_of_them:
        for contestant in all_of_them:
            contestant.open_pair()
        typed = dict.fromkeys(all_of_them, 0)
        going_on = all_of_them
        for step in LIVE_STEPS:
            say(f"{trace.name}: a live session, up to {step} keystrokes from each side")
            for contestant in going_on:
                places = live_places(typed[contestant], step, len(trace.text))
                contestant.times = contestant.live(places, LIVE_WAITING)[-LIVE_BLOCK:]
                typed[contestant] = step
            for contestant in going_on:
                line = {
                    **about(trace, contestant),
                    "what": f"remote keystroke, live session{contestant.library.keystroke}",
                    "typed": 2 * step,
                    "us": round(median(contestant.times), 2),
                    "us_min": round(min(contestant.times), 2),
                    "ratio": ratio(contestant, rival(contestant, going_on)),
                }
                print(json.dumps(line), flush=True)
            going_on = [each for each in going_on if median(each.times) < LIVE_LIMIT]
        for contestant in all_of_them:
            here, there = contestant.texts()
            if here != there or len(here) != len(trace.text) + 2 * typed[contestant]:
                say(f"the two replicas of {contestant.library.name} have not come together")
                right = False
    return right


def live_places(start: int, end: int, length: int) -> list[Keystroke]:
    """The places of keystrokes number `start` to `end` of a live session: two people who type on."""
    from contest import Keystroke  # noqa: PLC0415  (needs the engine)

    # What the other one types further to the front moves the text by one a keystroke.
    return [Keystroke(length // 2 + max(0, 2 * i - LIVE_WAITING), length // 4 + i) for i in range(start, end)]


# --- the command --------------------------------------------------------------------------------------------


def available(kinds: Iterable[type[Library]]) -> list[Library]:
    """Those libraries that are installed."""
    found: list[Library] = []
    for kind in kinds:
        try:
            found.append(kind())
        except ImportError:
            say(f"{kind.name} is not installed, left out (python3 tools/develop.py bench)")
    return found


def run(options: argparse.Namespace) -> bool:
    """Do what was asked for; whether all texts were right. `OSError` if a trace is not there."""
    from benchmarks import traces  # noqa: PLC0415  (needs the engine)
    from libraries import MERGING, TYPING  # noqa: PLC0415

    from egwalker import DecodeError  # noqa: PLC0415

    peers = options.peers or options.traces.parent / "peers"
    if options.size:
        return run_sizes(options.names, options.traces, peers)
    jobs: list[tuple[str, list[Library], Callable[[Trace], bool]]] = []
    if options.names:
        merging = available(MERGING)
        jobs += [(name, merging, lambda trace: compare(trace, options.rounds)) for name in options.names]
    if options.keystroke:
        jobs.append((KEYSTROKE_TRACE, available(TYPING), compare_keystrokes))
    if options.live:
        jobs.append((KEYSTROKE_TRACE, available(TYPING), compare_live))
    for name, _, _ in jobs:
        # Before minutes of work.
        traces.find(name, options.traces)
    right = True
    with TemporaryDirectory(prefix="egwalker-peers-") as scratch:
        for name, libraries, job in jobs:
            try:
                right &= job(read_trace(name, libraries, options.traces, peers, Path(scratch)))
            except DecodeError as error:
                say(f"{name}: {error}")
                right = False
    load, processors = os.getloadavg()[0], os.cpu_count() or 1
    if load > processors:
        say(f"others are at work here (load {load:.1f} on {processors} processors): compare ms_min")
    return right


def run_sizes(names: list[str], folder: Path, peers: Path) -> bool:
    """Print the sizes for these traces, by default for all that are there; whether all texts were right."""
    import sizes  # noqa: PLC0415  (needs the engine)
    from benchmarks import traces  # noqa: PLC0415

    from egwalker import DecodeError  # noqa: PLC0415

    for name in names:
        traces.find(name, folder)
    right = True
    for name in names or sizes.TRACES:
        say(f"{name}: sizes")
        try:
            for line, is_right in sizes.compare(name, folder, peers, say):
                print(json.dumps(line), flush=True)
                right &= is_right
        except FileNotFoundError as error:
            say(f"{error}, left out")
        except DecodeError as error:
            say(f"{name}: {error}")
            right = False
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
    parser.add_argument("--live", action="store_true", help="and while two people type at once")
    parser.add_argument("--size", action="store_true", help="compare sizes and time nothing")
    options = parser.parse_args(arguments)
    if not options.names and not options.keystroke and not options.live and not options.size:
        parser.error("name at least one trace, or give --keystroke, --live or --size")
    if (options.keystroke or options.live) and options.size:
        parser.error("--size is for itself, without --keystroke and --live")
    if options.rounds < 1:
        parser.error("--rounds: at least 1")
    try:
        import contest  # noqa: F401, PLC0415
    except ImportError as error:
        say(f"egwalker is not importable ({error}): run `make build`, then use .venv/bin/python")
        return 2
    try:
        return 0 if run(options) else 1
    except OSError as error:
        say(str(error))
        return 2


def go_on_in_venv() -> None:
    """Started by a Python that lacks the package, go on with the one that `make build` installed it for."""
    venv = Path(__file__).resolve().parents[1] / ".venv"
    python = venv / "bin" / "python"
    if find_spec("egwalker") is None and python.exists() and Path(sys.prefix) != venv:
        os.execv(python, [str(python), *sys.argv])


if __name__ == "__main__":
    go_on_in_venv()
    sys.exit(main())
