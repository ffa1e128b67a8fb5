"""Load our server and pycrdt-websocket in turn, with the same clients and keystrokes, in one run.

    python asv_bench/load.py [--clients 1000] [--documents 1000] [--seconds 5] [--never-read 100]

Three scenarios: `one document`, which all clients share and a tenth of them never read; `many documents`
with two clients each; and `idle documents`, the memory that one takes when all have left. Each server runs in
a process of its own, all clients in this one (`load_client.py`). Keystrokes are typed at a rate that doubles
until the server does not keep up: some have not arrived a second after the last one was typed, or the slowest
hundredth took a second. Between the last rate that it sustains and the first that it does not, a few more
are tried, each with a new server.

Prints one JSON line a scenario, server and rate on stdout, what people want to know on stderr, and at the end
`ratio` lines: our throughput over theirs at the highest rates that each sustains, and the p99 of both at the
highest rate that both do. `latency` is from a keystroke at one client to its arrival in the documents of
others; `server_cpu` and `client_cpu` are parts of one processor: when the clients' comes near to 1 it is not
the server that is measured. Ours answers an edit when it is on disk; theirs keeps nothing, and so does ours
`in memory`, which shows what storing costs.

Exit codes: 0 all targets are met, 1 some are not, 2 something is missing.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from load_client import Client, Crowd, Room, Speaker, Struck
    from load_servers import Kind, Server

ONE, MANY, IDLE = "one document", "many documents", "idle documents"
TARGET_THROUGHPUT = 5.0
TARGET_P99 = 1.0
SLOWEST = 1.0
"""Seconds: the p99 of a rate that is sustained."""
GRACE = 1.0
"""Seconds after the last keystroke within which all must have arrived."""
BEHIND = 3.0
"""A step ends early when what was typed so many seconds ago has not arrived."""
FAST_IDLE = 4.0
"""Seconds after which our server unloads a document, where that is what is measured."""
KIB = 1024
SERVERS = ("theirs", "memory", "ours")


class Side(NamedTuple):
    """A server, and those who speak its protocol."""

    kind: Kind
    full: Callable[..., Any]
    light: Callable[[], Speaker]
    stores: bool


class Result(NamedTuple):
    """How a server did at a rate."""

    rate: float
    throughput: float
    p99: float
    sustained: bool


def say(message: str) -> None:
    print(f"load: {message}", file=sys.stderr, flush=True)


def show(line: dict[str, Any]) -> None:
    print(json.dumps(line), flush=True)


def percentile(values: list[float], part: float) -> float:
    """The nearest-rank percentile of sorted values; infinite of none."""
    return values[max(0, math.ceil(part * len(values)) - 1)] if values else math.inf


# --- servers and clients ------------------------------------------------------------------------------------


def sides(options: argparse.Namespace, *, idle: float = 60.0, keep: bool = False) -> list[Side]:
    """All servers, theirs first: what it sustains is then asked of ours as well."""
    import load_client as client  # noqa: PLC0415  (needs the engine)
    import load_servers as servers  # noqa: PLC0415

    found = []
    if "theirs" in options.servers:
        kind = servers.theirs(options.asgi, keep)
        found.append(Side(kind, client.TheirFull, client.TheirLight, False))
    if "memory" in options.servers:
        found.append(Side(servers.in_memory(idle), client.OurFull, client.OurLight, False))
    if "ours" in options.servers:
        found.append(Side(servers.ours(idle, options.profile), client.OurFull, client.OurLight, True))
    return found


@contextmanager
def started(side: Side, options: argparse.Namespace) -> Iterator[tuple[Server, Crowd]]:
    """A new server with an empty folder, and a crowd that nobody is in yet."""
    from load_client import Crowd  # noqa: PLC0415
    from load_servers import Server  # noqa: PLC0415

    with ExitStack() as stack:
        folder = None
        if side.stores:
            folder = Path(tempfile.mkdtemp(prefix="egwalker-load-", dir=options.folder))
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
        server = stack.enter_context(Server(side.kind, folder))
        crowd = Crowd(server.port, options.lag / 1000)
        stack.callback(crowd.close)
        yield server, crowd


def text_of(options: argparse.Namespace) -> str:
    """What each document holds at first."""
    words = "all that is written here was here before anybody came "
    size: int = options.text
    return (words * (size // len(words) + 1))[:size]


class Scene(NamedTuple):
    """Clients that are there, and can begin to type."""

    typists: list[Client]
    rooms: list[Room]
    clients: int


def one_document(side: Side, crowd: Crowd, options: argparse.Namespace) -> Scene:
    """All in one document: typists and a few readers full, the rest light, some of whom never read."""
    from load_client import Room  # noqa: PLC0415

    room = Room("shared", text_of(options))
    count = min(options.typists, options.clients)
    typists = crowd.join([(room, side.full(room, 0, first=True), True)])
    typists += crowd.join([(room, side.full(room, number), True) for number in range(1, count)])
    never = min(options.never_read, options.clients - count)
    rest = options.clients - count - never
    samples = min(options.samples, rest)
    others: list[tuple[Room, Speaker, bool]] = [(room, side.light(), False) for _ in range(never)]
    others += [(room, side.light(), True) for _ in range(rest - samples)]
    # Full ones are spread: servers serve clients in some order.
    for number in range(samples):
        others.insert(number * len(others) // max(1, samples), (room, side.full(room), True))
    crowd.join(others)
    return Scene(typists, [room], options.clients)


def many_documents(side: Side, crowd: Crowd, options: argparse.Namespace) -> Scene:
    """Two clients in each document, one of whom types."""
    from load_client import Room  # noqa: PLC0415

    text = text_of(options)
    rooms = [Room(f"doc{number}", text) for number in range(options.documents)]
    typists = crowd.join([(room, side.full(room, 0, first=True), True) for room in rooms])
    crowd.join([(room, side.full(room), True) for room in rooms])
    return Scene(typists, rooms, 2 * options.documents)


# --- rates --------------------------------------------------------------------------------------------------


class Ladder:
    """The rates at which one server is asked to keep up."""

    def __init__(
        self,
        scenario: str,
        side: Side,
        scene: Callable[[Side, Crowd, argparse.Namespace], Scene],
        options: argparse.Namespace,
    ) -> None:
        self.scenario = scenario
        self.side = side
        self.results: list[Result] = []
        self._scene = scene
        self._options = options

    def climb(self, first: float, also: list[float]) -> None:
        """Double the rate until it is too much, then look between; try the rates in `also` too."""
        options = self._options
        rates = []
        rate = first
        while rate <= options.max_rate:
            rates.append(rate)
            rate *= 2
        rates = sorted({*rates, *also})
        if options.rates:
            rates = sorted(options.rates)
        while rates and not self._run(rates):
            # It broke down; what it was not asked yet is asked of a new one only if it is also wanted.
            tried = {result.rate for result in self.results}
            rates = [rate for rate in rates if rate in also and rate not in tried]
        for _ in range(0 if options.rates else options.refine):
            good = max([r.rate for r in self.results if r.sustained], default=0.0)
            bad = min([r.rate for r in self.results if not r.sustained and r.rate > good], default=0.0)
            if not good or not bad:
                break
            self._run([float(f"{math.sqrt(good * bad):.3g}")])

    def _run(self, rates: list[float]) -> bool:
        """Start a server and ask for these rates, until one is too much; whether all were kept up with."""
        options = self._options
        name = self.side.kind.name
        with started(self.side, options) as (server, crowd):
            empty = server.rss
            begun = time.monotonic()
            try:
                scene = self._scene(self.side, crowd, options)
            except OSError as error:
                show({"scenario": self.scenario, "server": name, "error": f"{error}; {server.said(200)}"})
                say(f"{self.scenario}, {name}: {error}; {server.said(2000)}")
                self.results.append(Result(rates[0], 0.0, math.inf, False))
                return True
            joined = server.rss
            joining = time.monotonic() - begun
            say(f"{self.scenario}, {name}: {scene.clients} clients have joined in {joining:.1f} s")
            gc.collect()
            gc.freeze()
            gc.disable()
            try:
                for rate in rates:
                    cpu, now = server.cpu, time.monotonic()
                    struck = crowd.step(scene.typists, rate, options.seconds, BEHIND, GRACE)
                    used = (server.cpu - cpu) / (time.monotonic() - now)
                    result = self._judge(struck, crowd, server)
                    self.results.append(result)
                    line = self._line(struck, result, scene, crowd, server, used)
                    line |= {"rss_mib": mib(server.rss), "rss_empty_mib": mib(empty)}
                    line["kib_per_client"] = round((server.rss - empty) / scene.clients / KIB, 1)
                    line["kib_per_client_joined"] = round((joined - empty) / scene.clients / KIB, 1)
                    show(line)
                    gc.collect(0)
                    if not result.sustained:
                        return False
            finally:
                gc.enable()
                gc.unfreeze()
        return True

    def _judge(self, struck: Struck, crowd: Crowd, server: Server) -> Result:
        struck.latencies.sort()
        p99 = percentile(struck.latencies, 0.99)
        # What arrived, over the time it took; no more than was typed.
        rate = struck.typed * struck.delivered / max(struck.seconds, struck.typed / struck.rate)
        whole = struck.delivered >= 1.0 and struck.typed >= round(struck.rate * self._options.seconds)
        return Result(struck.rate, rate, p99, whole and p99 < SLOWEST and not crowd.errors and server.alive)

    def _line(
        self, struck: Struck, result: Result, scene: Scene, crowd: Crowd, server: Server, used: float
    ) -> dict[str, Any]:
        options = self._options
        latencies = struck.latencies
        return {
            "scenario": self.scenario,
            "server": self.side.kind.name,
            "durability": self.side.kind.durability,
            "clients": scene.clients,
            "documents": len(scene.rooms),
            "typists": len(scene.typists),
            "never_read": options.never_read if len(scene.rooms) == 1 else 0,
            "lag_ms": options.lag,
            "rate": struck.rate,
            "sustained": result.sustained,
            "keystrokes_per_s": round(result.throughput, 2),
            "deliveries_per_s": round(struck.deliveries / max(struck.seconds, 1e-9)),
            "messages_per_s": round(struck.messages / max(struck.seconds, 1e-9)),
            "delivered": round(struck.delivered, 4),
            "p50_ms": ms(percentile(latencies, 0.5)),
            "p99_ms": ms(result.p99),
            "max_ms": ms(percentile(latencies, 1.0)),
            "samples": len(latencies),
            "server_cpu": round(used, 2),
            "client_cpu": round(struck.busy, 2),
            "typed_late_ms": ms(struck.late),
            "dropped_never_readers": crowd.dropped,
            "server_files": server.files,
            "errors": len(crowd.errors),
            "error": crowd.errors[0] if crowd.errors else None,
            "server_errors": server.errors(),
        }


def ms(seconds: float) -> float | None:
    return None if math.isinf(seconds) else round(1000 * seconds, 2)


def mib(size: float) -> float:
    return round(size / KIB / KIB, 1)


# --- memory -------------------------------------------------------------------------------------------------


def idle_memory(options: argparse.Namespace) -> bool:
    """What a document takes that all have left, and after our server has unloaded it."""
    from load_client import Room  # noqa: PLC0415

    for side in sides(options, idle=FAST_IDLE, keep=True):
        with started(side, options) as (server, crowd):
            rooms = [Room(f"doc{number}", text_of(options)) for number in range(options.documents + 20)]

            def visit(
                some: list[Room], side: Side = side, crowd: Crowd = crowd, server: Server = server
            ) -> tuple[int, int]:
                crowd.join([(room, side.full(room, 0, first=True), True) for room in some])
                there = server.rss
                crowd.leave()
                time.sleep(1.0)
                return there, server.rss

            # What the first few take is not a document's.
            _, before = visit(rooms[:20])
            there, left = visit(rooms[20:])
            line = {
                "scenario": IDLE,
                "server": side.kind.name,
                "documents": options.documents,
                "characters": options.text,
                "rss_before_mib": mib(before),
                "kib_per_document_with_client": per_document(there - before, options),
                "kib_per_idle_document": per_document(left - before, options),
                "kib_per_unloaded_document": None,
            }
            if side.stores:
                time.sleep(FAST_IDLE * 1.5 + 2.0)
                line["kib_per_unloaded_document"] = per_document(server.rss - before, options)
            show(line)
    return True


def per_document(size: int, options: argparse.Namespace) -> float:
    documents: int = options.documents
    return round(size / documents / KIB, 1)


# --- the command --------------------------------------------------------------------------------------------


def compare(
    scenario: str,
    scene: Callable[[Side, Crowd, argparse.Namespace], Scene],
    first: float,
    options: argparse.Namespace,
) -> bool:
    """Load both servers; whether ours is as much better as it should be."""
    theirs: dict[float, Result] | None = None
    good = True
    also: list[float] = []
    for side in sides(options):
        ladder = Ladder(scenario, side, scene, options)
        ladder.climb(first, also)
        found = {result.rate: result for result in ladder.results if result.sustained}
        if side.full.__name__ == "TheirFull":
            theirs, also = found, list(found)[-1:]
        elif theirs is not None:
            within = ratio(scenario, side.kind.name, found, theirs)
            good &= within or not side.stores  # what stores nothing is shown to see what storing costs
    return good


def ratio(scenario: str, name: str, ours: dict[float, Result], theirs: dict[float, Result]) -> bool:
    """Show how much better one of ours is than theirs; whether that is enough."""
    if not theirs or not ours:
        say(f"{scenario}: {name if theirs else 'theirs'} sustains none of these rates")
        return bool(ours)
    best_ours, best_theirs = (max(found.values(), key=lambda r: r.throughput) for found in (ours, theirs))
    both = max(ours.keys() & theirs.keys(), default=None)
    throughput = best_ours.throughput / best_theirs.throughput
    line: dict[str, Any] = {
        "scenario": scenario,
        "what": "ratio",
        "server": name,
        "ours_keystrokes_per_s": round(best_ours.throughput, 2),
        "theirs_keystrokes_per_s": round(best_theirs.throughput, 2),
        "throughput_ratio": round(throughput, 2),
        "target": TARGET_THROUGHPUT,
        "within": throughput >= TARGET_THROUGHPUT,
        "same_rate": both,
    }
    if both is not None:
        slower = ours[both].p99 / theirs[both].p99
        line |= {
            "ours_p99_ms": ms(ours[both].p99),
            "theirs_p99_ms": ms(theirs[both].p99),
            "p99_ratio": round(slower, 3),
            "target_p99": TARGET_P99,
            "within_p99": slower < TARGET_P99,
        }
    show(line)
    return bool(line["within"] and line.get("within_p99"))


def raise_limit(wanted: int) -> None:
    """Allow so many open files, here and in the servers. `OSError` if that is not allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise OSError(f"{wanted} open files are needed, ulimit -Hn allows {hard}")
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def run(options: argparse.Namespace) -> bool:
    """Do what was asked for; whether all targets are met."""
    raise_limit(2 * max(options.clients, 2 * options.documents) + 500)
    load = os.getloadavg()[0]
    show(
        {
            "what": "run",
            "processors": os.cpu_count(),
            "load": round(load, 2),
            "seconds": options.seconds,
            "characters": options.text,
            "versions": {
                name: version_of(name) for name in ("egwalker", "aiohttp", "pycrdt-websocket", "pycrdt")
            },
        }
    )
    good = True
    if "one" in options.scenarios:
        good &= compare(ONE, one_document, options.first_rate, options)
    if "many" in options.scenarios:
        good &= compare(MANY, many_documents, options.first_rate * 16, options)
    if "idle" in options.scenarios:
        good &= idle_memory(options)
    load, processors = os.getloadavg()[0], os.cpu_count() or 1
    if load > processors:
        say(f"load {load:.1f} on {processors} processors: others may have been at work here")
    return good


def version_of(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description="Load our server and pycrdt-websocket with the same keystrokes; one JSON line each."
    )
    add = parser.add_argument
    add("--clients", type=int, default=1000, metavar="N", help="in one document (%(default)s)")
    add("--never-read", type=int, default=100, metavar="N", help="of them never read (%(default)s)")
    add("--documents", type=int, default=1000, metavar="N", help="with two clients each (%(default)s)")
    add("--typists", type=int, default=10, metavar="N", help="of the clients type (%(default)s)")
    add("--samples", type=int, default=10, metavar="N", help="others who hold the document (%(default)s)")
    add("--seconds", type=float, default=5.0, metavar="S", help="at each rate (%(default)s)")
    add(
        "--lag",
        type=float,
        default=0.0,
        metavar="MS",
        help="clients that hold the document look every so often, as over a slow network (%(default)s)",
    )
    add("--text", type=int, default=2000, metavar="N", help="characters in a document at first (%(default)s)")
    add(
        "--first-rate",
        type=float,
        default=4.0,
        metavar="R",
        help="keystrokes a second, 16 times as many in many documents (%(default)s)",
    )
    add("--max-rate", type=float, default=65536.0, metavar="R", help="no more (%(default)s)")
    add("--rates", type=float, nargs="*", metavar="R", help="these instead of ever higher ones")
    add("--refine", type=int, default=2, metavar="N", help="rates between the last good one and the next")
    add("--scenarios", nargs="*", default=["one", "many", "idle"], choices=("one", "many", "idle"))
    add("--servers", nargs="*", default=SERVERS, choices=SERVERS)
    add("--asgi", default="uvicorn", choices=("uvicorn", "hypercorn"), help="what runs theirs (%(default)s)")
    add("--folder", type=Path, metavar="DIR", help="where our server keeps documents for the time being")
    add("--profile", type=Path, metavar="FILE", help="profile our server (slow) and write the statistics")
    options = parser.parse_args(arguments)
    if not 1 <= options.typists <= 64:
        parser.error("--typists: 1 to 64")
    if min(options.clients, options.documents, options.seconds, options.first_rate) <= 0:
        parser.error("numbers must be positive")
    missing = [name for name in ("pycrdt", "uvloop", options.asgi) if find_spec(name) is None]
    if "theirs" in options.servers and (missing or find_spec("pycrdt.websocket") is None):
        say("pycrdt-websocket or its ASGI server is not installed: python3 tools/develop.py bench")
        return 2
    try:
        import load_client  # noqa: F401, PLC0415
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
