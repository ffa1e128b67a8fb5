"""Servers that are killed in mid-traffic, again and again, while clients go on typing.

    python tests/server_crash.py --kills 100 [--clients 6] [--seed 0]

The server is the real one, in a process of its own, killed by SIGKILL and SIGTERM in turn. Clients type words
that nobody else types, at any place, never waiting for a connection. A word is *acknowledged* when
`persisted` has returned after it was typed. What each server leaves must have every acknowledged word, and
none twice; at the end all clients have all words.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
import tempfile
from pathlib import Path
from random import Random
from urllib.parse import quote

from serving import PATIENCE, free_port

from egwalker import Document, egw_records, links
from egwalker.hub import Place
from egwalker.links import Link
from egwalker.transport import connect
from egwalker.transports.aiohttp import AiohttpTransport
from egwalker.transports.file import FileTransport

NAME = "notes"
PAUSE = 4
"""After so many kills everybody stops typing until all have the same."""


async def serve(folder: Path, port: int) -> None:
    """What the server's process does."""

    async def open_place(name: str) -> Place:
        return await FileTransport().place(f"file:{quote(str(folder / name))}.egw", "text")

    def ready(_: str) -> None:
        print("ready", flush=True)

    await AiohttpTransport().serve(open_place, host="127.0.0.1", port=port, ready=ready)


class Client:
    """Somebody who types."""

    def __init__(self, number: int, url: str, rng: Random) -> None:
        self.agent = f"client{number}"
        self.document = Document(agent=self.agent)
        self.rng = rng
        self.going = asyncio.Event()  # unset: a pause
        self.going.set()
        self.typed = 0
        self.acknowledged = 0  # so many of those that were typed are
        link = connect(url, self.document)
        assert isinstance(link, Link)
        self.link = link

    def word(self, number: int) -> str:
        return f"{self.agent}.{number}"

    async def type_on(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await self.going.wait()
            # Somewhere between two words.
            text = self.document.content
            at = text.find(" ", self.rng.randint(0, len(text))) + 1
            self.document.insert(at, self.word(self.typed) + " ")
            self.typed += 1
            await asyncio.sleep(self.rng.random() * 0.01)

    async def acknowledge(self) -> None:
        while True:
            typed = self.typed
            await self.link.persisted()
            self.acknowledged = max(self.acknowledged, typed)
            await asyncio.sleep(self.rng.random() * 0.01)


class Crashes:
    """What a number of kills have shown."""

    def __init__(self, folder: Path, clients: int, seed: int) -> None:
        self.folder = folder
        self.rng = Random(seed)
        self.port = free_port()
        url = f"ws://127.0.0.1:{self.port}/{NAME}"
        self.clients = [Client(i, url, Random(f"{seed} {i}")) for i in range(clients)]
        self.kills = self.terms = self.reconnections = self.torn = 0
        self.errors: list[str] = []

    def __str__(self) -> str:
        typed = sum([client.typed for client in self.clients])
        acknowledged = sum([client.acknowledged for client in self.clients])
        return (
            f"{self.kills} servers killed by SIGKILL, {self.terms} by SIGTERM; {len(self.clients)} clients "
            f"resumed {self.reconnections} times, typed {typed} words, {acknowledged} acknowledged; "
            f"{len(self.errors)} errors"
        )

    async def _start(self) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            __file__,
            "--serve",
            str(self.folder),
            str(self.port),
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), PATIENCE)
        if line != b"ready\n":
            raise RuntimeError(f"the server says {line!r}")
        return process

    def _check(self, where: str, text: str, acknowledged: dict[str, int], typed: dict[str, int]) -> None:
        words = text.split()
        if len(words) != len(set(words)):
            self.errors.append(f"{where}: {len(words) - len(set(words))} words are there twice")
        found = set(words)
        for agent, number in acknowledged.items():
            lost = [i for i in range(number) if f"{agent}.{i}" not in found]
            if lost:
                self.errors.append(f"{where}: {len(lost)} acknowledged words of {agent} are lost: {lost[:5]}")
        made = {f"{agent}.{i}" for agent, number in typed.items() for i in range(number)}
        if found - made:
            self.errors.append(f"{where}: words that nobody typed: {sorted(found - made)[:5]}")

    def _numbers(self) -> tuple[dict[str, int], dict[str, int]]:
        return (
            {client.agent: client.acknowledged for client in self.clients},
            {client.agent: client.typed for client in self.clients},
        )

    async def run(self, times: int, show: bool = False) -> None:
        stop = asyncio.Event()
        process = await self._start()
        try:
            async with contextlib.AsyncExitStack() as stack:
                for client in self.clients:
                    await stack.enter_async_context(client.link)
                    await client.link.persisted()
                typing = [asyncio.create_task(client.type_on(stop)) for client in self.clients]
                waiting = [asyncio.create_task(client.acknowledge()) for client in self.clients]
                try:
                    for number in range(times):
                        await self._one(process, number)
                        process = await self._start()
                        if number % PAUSE == PAUSE - 1:
                            await self._pause()
                        if show and number % 10 == 9:
                            print(self, flush=True)
                    await self._all_connected()
                    stop.set()
                    await asyncio.gather(*typing)
                    await asyncio.wait_for(self._same(), PATIENCE)
                finally:
                    for task in (*typing, *waiting):
                        task.cancel()
                    await asyncio.gather(*typing, *waiting, return_exceptions=True)
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
            await asyncio.wait_for(process.wait(), PATIENCE)
        _, typed = self._numbers()
        for client in self.clients:
            self._check(client.agent, client.document.content, typed, typed)
        self._check("at the end", self._stored(), typed, typed)

    async def _all_connected(self) -> None:
        async with asyncio.timeout(PATIENCE):
            while not all(client.link.connected for client in self.clients):
                for client in self.clients:
                    if client.link.error is not None:
                        raise client.link.error
                await asyncio.sleep(0.01)

    async def _pause(self) -> None:
        """All have the same for a moment: without that, merging live takes ever longer."""
        for client in self.clients:
            client.going.clear()
        await self._all_connected()
        await asyncio.wait_for(self._same(), PATIENCE)
        for client in self.clients:
            client.going.set()

    async def _one(self, process: asyncio.subprocess.Process, number: int) -> None:
        """Kill a server, and look at what it has left."""
        if self.rng.random() < 0.8:
            await self._all_connected()
            self.reconnections += len(self.clients)
            # However slow it is, everybody is told of something that is stored.
            before, _ = self._numbers()
            async with asyncio.timeout(PATIENCE):
                while any(client.acknowledged == before[client.agent] for client in self.clients):
                    await asyncio.sleep(0.005)
            await asyncio.sleep(self.rng.random() * 0.3)
        term = number % 2 == 1
        process.send_signal(signal.SIGTERM if term else signal.SIGKILL)
        status = await asyncio.wait_for(process.wait(), PATIENCE)
        # What was on its way to the clients may still come: what is acknowledged by now was before the end.
        acknowledged, typed = self._numbers()
        self.kills += not term
        self.terms += term
        if status != (0 if term else -signal.SIGKILL):
            self.errors.append(f"kill {number}: the server ended with status {status}")
        self._check(f"kill {number}", self._stored(), acknowledged, typed)

    def _stored(self) -> str:
        path = self.folder / f"{NAME}.egw"
        if not path.exists():
            return ""
        content: str = egw_records.read(path, salvage=True)[0].content
        return content

    async def _same(self) -> None:
        for client in self.clients:
            await client.link.persisted()
            client.acknowledged = client.typed
        while len({client.document.version for client in self.clients}) > 1:
            await asyncio.sleep(0.01)
        if len({client.document.content for client in self.clients}) > 1:
            self.errors.append("clients differ")


async def crash(times: int, folder: Path, *, clients: int = 6, seed: int = 0, show: bool = False) -> Crashes:
    """Kill a server so many times."""
    links.LONGEST_WAIT = 0.5  # so that the rounds do not take long
    crashes = Crashes(folder, clients, seed)
    await crashes.run(times, show)
    return crashes


def main() -> int:
    parser = argparse.ArgumentParser(description="Kill servers at random moments.")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--clients", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--serve", nargs=2, metavar=("FOLDER", "PORT"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        asyncio.run(serve(Path(args.serve[0]), int(args.serve[1])))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        crashes = asyncio.run(
            crash(args.kills, Path(folder), clients=args.clients, seed=args.seed, show=True)
        )
    print(crashes)
    for error in crashes.errors:
        print(error)
    return 1 if crashes.errors else 0


if __name__ == "__main__":
    sys.exit(main())
