"""The servers that `load.py` measures, each in a process of its own; run as a program, pycrdt-websocket's."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
START_TIMEOUT = 30.0
STOP_TIMEOUT = 60.0
WHERE = re.compile(r"http://[^ ]*?:(\d+)/")


class Kind(NamedTuple):
    """A server program. `durability`: what it does before it says that it has an edit."""

    name: str
    durability: str
    command: list[str]


def ours(idle: float, profile: Path | None) -> Kind:
    """`egwalker serve`, profiled if a file is named for that. The folder of documents is to be appended."""
    python = [sys.executable]
    if profile is not None:
        python += ["-m", "cProfile", "-o", str(profile)]
    command = [*python, "-m", "egwalker", "serve", "--port", "0", "--idle", str(idle)]
    return Kind("egwalker", "fsync, then acknowledged", command)


def in_memory(idle: float) -> Kind:
    """Our server with documents that are kept nowhere, as pycrdt-websocket's are."""
    command = [sys.executable, str(Path(__file__).resolve()), "--in-memory", str(idle)]
    return Kind("egwalker (in memory)", "none: acknowledged, not stored", command)


def theirs(asgi: str, keep: bool) -> Kind:
    """pycrdt-websocket behind an ASGI server."""
    command = [sys.executable, str(Path(__file__).resolve()), "--asgi", asgi, *(["--keep"] if keep else [])]
    return Kind(f"pycrdt-websocket ({asgi})", "none: no store, no acknowledgements", command)


class Server:
    """A running server."""

    def __init__(self, kind: Kind, folder: Path | None) -> None:
        self.kind = kind
        command = [*kind.command, *([str(folder)] if folder is not None else [])]
        self._said = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self._said, text=True
        )
        assert self._process.stdout is not None
        found = WHERE.search(self._process.stdout.readline())
        if found is None:
            self.stop()
            raise ConnectionError(f"{kind.name} does not start: {self.said(300)}")
        self.port = int(found[1])

    @property
    def rss(self) -> int:
        """Bytes of memory in use; 0 if it is gone."""
        try:
            return int(self._proc("statm").split()[1]) * PAGE
        except (OSError, IndexError):
            return 0

    @property
    def cpu(self) -> float:
        """Seconds of processor time so far."""
        try:
            fields = self._proc("stat").rpartition(")")[2].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / TICKS if len(fields) > 12 else 0.0

    @property
    def files(self) -> int:
        """How many files and sockets it has open: who does not read cannot see that they were dropped."""
        try:
            return len(os.listdir(f"/proc/{self._process.pid}/fd"))
        except OSError:
            return 0

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def _proc(self, name: str) -> str:
        return Path(f"/proc/{self._process.pid}/{name}").read_text()

    def said(self, size: int) -> str:
        """The end of what it said on stderr."""
        self._said.seek(0)
        return self._said.read()[-size:].strip()

    def errors(self) -> int:
        """How many errors it reported."""
        self._said.seek(0)
        return len(re.findall(r"^\S*(?:Error|Exception|ExceptionGroup)\b", self._said.read(), re.MULTILINE))

    def stop(self) -> None:
        """End it."""
        if self.alive:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._said.close()


# --- pycrdt-websocket ---------------------------------------------------------------------------------------


async def serve(asgi: str, keep: bool) -> None:
    """Run pycrdt-websocket, as its documentation says. `keep`: rooms stay when all have left."""
    from pycrdt.websocket import ASGIServer, WebsocketServer, exception_logger  # noqa: PLC0415

    rooms = WebsocketServer(auto_clean_rooms=not keep, exception_handler=exception_logger)
    app: Any = ASGIServer(rooms)
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", 0))
        listener.listen(1024)
        port = listener.getsockname()[1]
        async with rooms:
            print(f"serving at http://127.0.0.1:{port}/", flush=True)
            if asgi == "uvicorn":
                import uvicorn  # noqa: PLC0415

                config = uvicorn.Config(app, log_level="warning", loop="asyncio", lifespan="off")
                await uvicorn.Server(config).serve(sockets=[listener])
            else:
                from hypercorn import Config  # noqa: PLC0415
                from hypercorn.asyncio import serve as run  # noqa: PLC0415

                settings = Config()
                settings.bind = [f"fd://{listener.fileno()}"]
                settings.loglevel = "warning"
                await run(app, settings, mode="asgi")


# --- ours, that stores nothing ------------------------------------------------------------------------------


async def serve_memory(idle: float) -> None:
    """What `egwalker serve` runs, with documents that live as long as the process."""
    from egwalker import Document  # noqa: PLC0415
    from egwalker.transports.aiohttp import AiohttpTransport  # noqa: PLC0415
    from egwalker.transports.memory import MemoryPlace  # noqa: PLC0415

    documents: dict[str, Document] = {}

    async def open_place(name: str) -> MemoryPlace:
        return MemoryPlace(documents.setdefault(name, Document()))

    def ready(url: str) -> None:
        print(f"serving at {url}", flush=True)

    await AiohttpTransport().serve(open_place, host="127.0.0.1", port=0, idle=idle, ready=ready)


def run(work: Coroutine[Any, Any, None]) -> None:
    """On the event loop that `egwalker serve` and uvicorn both take where it is installed."""
    import uvloop  # noqa: PLC0415

    uvloop.run(work)


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve documents that are not stored.")
    parser.add_argument("--in-memory", type=float, metavar="IDLE", help="our server")
    parser.add_argument("--asgi", choices=("uvicorn", "hypercorn"), default="uvicorn")
    parser.add_argument("--keep", action="store_true", help="keep rooms that nobody is in")
    options = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        if options.in_memory is not None:
            run(serve_memory(options.in_memory))
        else:
            run(serve(options.asgi, options.keep))


if __name__ == "__main__":
    main()
