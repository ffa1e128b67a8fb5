"""Hubs: documents opened when they are needed, each once, and let go of when they are not."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import timeless
import uvloop
from serving import PATIENCE, FakePlace, FakePlaces, files, full, link, running, until

from egwalker import ContentError, DecodeError, Document, LockedError, Run, SyncError, hookimpl
from egwalker.egw_file import EgwFile
from egwalker.hub import Hub, Permission, is_blank, settle
from egwalker.links import Link
from egwalker.messages import UPDATE
from egwalker.plugin_manager import manager
from egwalker.transports.memory import MemoryChannel

NewLoop = Callable[[], asyncio.AbstractEventLoop]


class Plugin:
    """Notes what hooks are called, and refuses what says so."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, ...]] = []
        self.broken: set[str] = set()

    def note(self, *call: str) -> None:
        self.calls.append(call)
        if call[0] in self.broken:
            raise ValueError("a broken plugin")

    @hookimpl
    def document_loaded(self, name: str, document: Document) -> None:
        self.note("loaded", name, document.content)

    @hookimpl
    def before_edit(self, name: str, document: Document, who: str, runs: list[Run]) -> None:
        self.note("edit", name, who, repr(runs[0].ops), document.content)
        if "refuse me" in repr(runs):
            raise ContentError("this is not for here")

    @hookimpl
    def edit_stored(self, name: str, document: Document) -> None:
        self.note("stored", name)

    @hookimpl
    def document_unloading(self, name: str, document: Document) -> None:
        self.note("unloading", name, document.content)

    @hookimpl
    def peer_joined(self, name: str, who: str) -> None:
        self.note("joined", name, who)

    @hookimpl
    def peer_left(self, name: str, who: str) -> None:
        self.note("left", name, who)


@pytest.fixture
def plugin() -> Iterator[Plugin]:
    made = Plugin()
    manager().register(made, "notes")
    try:
        yield made
    finally:
        manager().unregister(made)


def visit(
    hub: Hub,
    name: str,
    document: Document,
    who: str = "ann",
    channel: type[MemoryChannel] = MemoryChannel,
    **options: Any,
) -> Link:
    """A link to a document of a hub, without a network."""

    async def open_channel() -> MemoryChannel:
        here, there = channel.pair()

        async def serve() -> None:
            async with hub.room(name) as room:
                await room.serve(there, Permission(who))

        task = asyncio.create_task(serve())
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        return here

    tasks: set[asyncio.Task[None]] = set()
    return Link(document, open_channel, **options)


def test_hooks_are_called_in_order(plugin: Plugin) -> None:
    async def main() -> None:
        places = FakePlaces()
        hub = Hub(places, idle=0.05)
        document = Document()
        async with visit(hub, "x", document) as one:
            await one.persisted()
            document.insert(0, "hi")
            await one.persisted()
        await until(lambda: not len(hub))
        await hub.close()
        assert plugin.calls == [
            ("loaded", "x", ""),
            ("joined", "x", "ann"),
            ("edit", "x", "ann", "((0, 0, 'hi'),)", ""),
            ("stored", "x"),
            ("left", "x", "ann"),
            ("unloading", "x", "hi"),
        ]
        assert places.places["x"].closed

    asyncio.run(main())


def test_a_plugin_refuses_an_edit(plugin: Plugin) -> None:
    async def main() -> None:
        places = FakePlaces()
        hub = Hub(places)
        ann, bob = Document(agent="ann"), Document(agent="bob")
        async with visit(hub, "x", ann) as one, visit(hub, "x", bob, "bob") as other:
            await one.persisted()
            await other.persisted()
            bob.insert(0, "fine ")
            await other.persisted()
            ann.insert(0, "refuse me ")
            with pytest.raises(SyncError, match="ContentError: this is not for here"):
                await one.persisted()
            bob.insert(0, "fine ")
            await other.persisted()
            assert bob.content == places.places["x"].stored == "fine fine "
        await hub.close()

    asyncio.run(main())


@pytest.mark.parametrize("broken", ["edit", "stored", "joined", "left", "unloading"])
def test_a_broken_plugin(plugin: Plugin, broken: str) -> None:
    """One that tells of things changes nothing; one that is asked refuses, and says nothing of why."""
    plugin.broken.add(broken)

    async def main() -> None:
        places = FakePlaces()
        hub = Hub(places)
        document = Document()
        async with visit(hub, "x", document) as one:
            await one.persisted()
            document.insert(0, "hi")
            if broken == "edit":
                with pytest.raises(SyncError, match="an internal error$"):
                    await one.persisted()
            else:
                await one.persisted()
        await hub.close()
        assert places.places["x"].closed
        assert places.places["x"].stored == ("" if broken == "edit" else "hi")

    asyncio.run(asyncio.wait_for(main(), PATIENCE))


def test_a_plugin_that_fails_as_a_document_is_loaded(plugin: Plugin) -> None:
    plugin.broken.add("loaded")

    async def main() -> None:
        places = FakePlaces()
        hub = Hub(places)
        with pytest.raises(ValueError, match="broken plugin"):
            async with hub.room("x"):
                pass
        assert places.places["x"].closed
        assert not len(hub)
        plugin.broken.clear()
        async with hub.room("x"):
            pass
        await hub.close()

    asyncio.run(main())


def test_many_at_once_open_a_document_once() -> None:
    async def main() -> None:
        places = FakePlaces()
        places.gate.clear()
        hub = Hub(places)
        rooms = set()

        async def enter() -> None:
            async with hub.room("x") as room:
                rooms.add(room)
                room.document.insert(0, "x")

        entering = [asyncio.create_task(enter()) for _ in range(100)]
        await until(lambda: places.opened)
        places.gate.set()
        await asyncio.gather(*entering)
        assert (len(rooms), places.opened) == (1, ["x"])
        await hub.close()
        assert len(places.places["x"].stored) == 100

    asyncio.run(main())


def test_all_who_wait_are_told_that_it_cannot_be_opened() -> None:
    async def main() -> None:
        places = FakePlaces()
        places.gate.clear()
        places.failing["x"] = DecodeError("damaged", 17)
        hub = Hub(places)

        async def enter(name: str) -> None:
            async with hub.room(name) as room:
                room.document.insert(0, "x")

        entering = [asyncio.create_task(enter(name)) for name in ["x"] * 50 + ["y"] * 50]
        await until(lambda: len(places.opened) == 2)
        places.gate.set()
        found = await asyncio.gather(*entering, return_exceptions=True)
        assert [type(error) for error in found] == [DecodeError] * 50 + [type(None)] * 50
        assert sorted(places.opened) == ["x", "y"]
        await hub.close()

    asyncio.run(main())


def test_opened_while_it_is_unloaded() -> None:
    """The fake places say if one is opened that is not closed yet."""

    async def main() -> None:
        places = FakePlaces()
        hub = Hub(places, idle=0.01)
        for i in range(30):
            async with hub.room("x") as room:
                room.document.insert(0, "x")
                places.places["x"].gate.clear()
            await asyncio.sleep(0.001 * i)
            entering = asyncio.create_task(hub._enter("x", True))
            await asyncio.sleep(0)
            places.places["x"].gate.set()
            again = await asyncio.wait_for(entering, PATIENCE)
            assert again.document.content == "x" * (i + 1)
            again.users -= 1
        assert 1 < len(places.opened) <= 31
        await hub.close()

    asyncio.run(main())


def test_entered_the_moment_it_is_unloaded() -> None:
    """Between the end of the work and its callbacks: once an endless loop that nothing could interrupt."""

    def give_up(*_: object) -> None:
        raise TimeoutError("the event loop is stuck")

    async def main() -> None:
        left = asyncio.Event()

        class Signalling(FakePlace):
            async def close(self) -> None:
                await super().close()
                left.set()

        async def open_place(name: str) -> FakePlace:
            return Signalling()

        hub = Hub(open_place, idle=0.01)

        async def enter() -> None:
            await left.wait()
            async with hub.room("x"):
                pass

        entering = asyncio.create_task(enter())
        async with hub.room("x"):
            pass
        await entering
        await hub.close()

    old = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(int(PATIENCE))
    try:
        asyncio.run(main())
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, old)


def test_what_is_stored_at_last_is_told_to_slow_ones_too() -> None:
    class Slow(MemoryChannel):
        def write(self, message: bytes) -> bool:
            super().write(message)
            return False

        async def drain(self) -> None:
            await asyncio.sleep(0.1)
            await super().drain()

    async def main() -> None:
        places = FakePlaces()
        hub = Hub(places)
        document = Document()
        async with visit(hub, "x", document, channel=Slow, reconnect=False) as one:
            await one.persisted()
            places.places["x"].gate.clear()
            document.insert(0, "hello")
            await one.synced()
            waiting = asyncio.create_task(one.persisted())
            closing = asyncio.create_task(hub.close())
            await asyncio.sleep(0.05)
            places.places["x"].gate.set()
            await waiting
            await closing
        assert places.places["x"].stored == "hello"

    timeless.run(main())


def test_who_loses_patience_leaves_nothing_open() -> None:
    async def main() -> None:
        places = FakePlaces()
        hub = Hub(places, idle=0.05)
        for opened in (1, 2):
            places.gate.clear()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01), hub.room("x"):
                    pass
            assert len(places.opened) == opened
            places.gate.set()
            if opened == 1:
                await until(lambda: "x" in places.places)
                await until(lambda: places.places["x"].closed)
        await hub.close()
        assert places.places["x"].closed

    asyncio.run(main())


def test_an_idle_document_is_released(tmp_path: Path) -> None:
    """Another process can open its file then, and no sooner."""
    path = tmp_path / "x.egw"
    code = "import sys; from egwalker.egw_file import EgwFile; EgwFile.open(sys.argv[1]).close()"

    async def main() -> None:
        hub = Hub(files(tmp_path), idle=0.05)
        async with visit(hub, "x", Document()) as one:
            await one.persisted()
            with pytest.raises(LockedError):
                EgwFile.open(path)
        await until(lambda: not len(hub))
        await asyncio.to_thread(subprocess.run, [sys.executable, "-c", code, str(path)], check=True)
        async with hub.room("x"):
            pass
        await hub.close()

    asyncio.run(main())


def test_thousands_of_documents(tmp_path: Path) -> None:
    async def main() -> None:
        hub = Hub(files(tmp_path), idle=0.3)
        gate = asyncio.Semaphore(50)

        async def use(i: int) -> None:
            async with gate, hub.room(f"doc{i}") as room:
                room.document.insert(0, f"text {i}")

        for begin in range(0, 1500, 500):
            await asyncio.gather(*[use(i) for i in range(begin, begin + 500)])
        await until(lambda: not len(hub))
        assert not hub._busy
        async with hub.room("doc1234") as room:
            assert room.document.content == "text 1234"
        await hub.close()
        assert len(list(tmp_path.iterdir())) == 1500

    asyncio.run(main())


def test_a_place_that_fails_to_commit_concerns_its_document_only(plugin: Plugin) -> None:
    async def main() -> None:
        places = FakePlaces()
        hub = Hub(places)
        x, y, z = Document(), Document(), Document()
        async with visit(hub, "x", x) as one, visit(hub, "x", z) as two, visit(hub, "y", y) as other:
            for found in one, two, other:
                await found.persisted()
            places.places["x"].error = full()
            x.insert(0, "lost?")
            for found in one, two:
                with pytest.raises(SyncError, match="StorageError: document 'x' cannot be stored"):
                    await asyncio.wait_for(found.persisted(), PATIENCE)
            assert ("stored", "x") not in plugin.calls
            y.insert(0, "kept")
            await other.persisted()
        async with visit(hub, "x", x) as one:
            await one.persisted()
        await hub.close()
        assert (places.places["x"].stored, places.places["y"].stored) == ("lost?", "kept")

    asyncio.run(asyncio.wait_for(main(), PATIENCE))


def test_any_error_of_a_place_is_told() -> None:
    async def main() -> None:
        places = FakePlaces()
        hub = Hub(places)
        document = Document()
        async with visit(hub, "x", document) as one:
            await one.persisted()
            places.places["x"].error = RuntimeError("a bug")
            document.insert(0, "hi")
            with pytest.raises(SyncError, match="cannot be stored"):
                await one.persisted()
        await hub.close()

    asyncio.run(asyncio.wait_for(main(), PATIENCE))


def test_closing_stores_everything_and_says_so(tmp_path: Path) -> None:
    """What was received when the server goes down is stored, and its sender knows; nobody idles first."""

    async def main() -> None:
        documents = [Document(agent=f"agent{i}") for i in range(50)]
        async with running(files(tmp_path), idle=10 * PATIENCE) as server:
            links = [
                link(f"{server.url}doc{i}", document, reconnect=False) for i, document in enumerate(documents)
            ]
            for one in links:
                await one.__aenter__()
            await asyncio.gather(*[one.persisted() for one in links])
            for i, document in enumerate(documents):
                document.insert(0, f"text {i}")
            await asyncio.gather(*[one.synced() for one in links])
            waiting = [asyncio.create_task(one.persisted()) for one in links]
            await asyncio.wait_for(server.hub.close(), PATIENCE)
            await asyncio.wait_for(asyncio.gather(*waiting), PATIENCE)
            with pytest.raises(SyncError, match="going down"):
                async with server.hub.room("doc1"):
                    pass
        await asyncio.gather(*[one.close() for one in links])
        for i in range(50):
            with EgwFile.open(tmp_path / f"doc{i}.egw") as file:
                assert file.document.content == f"text {i}"

    asyncio.run(main())


def test_a_hub_closes_while_documents_open() -> None:
    async def main() -> None:
        places = FakePlaces()
        places.gate.clear()
        hub = Hub(places)
        entering = [asyncio.create_task(hub._enter(f"doc{i}", True)) for i in range(10)]
        await until(lambda: len(places.opened) == 10)
        closing = asyncio.create_task(hub.close())
        await until(lambda: hub.closed)
        places.gate.set()
        await closing
        found = await asyncio.gather(*entering, return_exceptions=True)
        assert [type(error) for error in found] == [SyncError] * 10
        assert all(place.closed for place in places.places.values())

    asyncio.run(main())


def test_a_document_that_nobody_made(tmp_path: Path, plugin: Plugin) -> None:
    """Looking for it makes no file, and calls no hook."""

    async def main() -> None:
        hub = Hub(files(tmp_path))
        for _ in range(3):
            with pytest.raises(FileNotFoundError):
                async with hub.room("x", create=False):
                    pass
        assert (len(hub), plugin.calls, list(tmp_path.iterdir())) == (0, [], [])
        # Somebody is there who may make it, and has not.
        async with hub.room("x"):
            with pytest.raises(FileNotFoundError):
                async with hub.room("x", create=False):
                    pass
        await until(lambda: not len(hub))
        assert list(tmp_path.iterdir()) == []
        async with visit(hub, "x", Document()) as one:
            await one.persisted()
            async with hub.room("x", create=False) as room:
                assert not is_blank(room.document)
        await hub.close()
        assert [path.name for path in tmp_path.iterdir()] == ["x.egw"]

    asyncio.run(main())


def test_a_place_that_keeps_nothing() -> None:
    class Forgetful(FakePlace):
        durable = False

    async def open_place(name: str) -> FakePlace:
        return Forgetful()

    async def main() -> None:
        hub = Hub(open_place)
        async with visit(hub, "x", Document()) as one:
            await one.synced()
            with pytest.raises(SyncError, match="does not say what it has made durable"):
                await one.persisted()
        await hub.close()

    asyncio.run(asyncio.wait_for(main(), PATIENCE))


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_who_takes_long_to_tell_everybody_rests_as_long(new_loop: NewLoop) -> None:
    """Or others, in other documents, would have no turn."""
    took = 0.02
    begun = []

    class Slow(MemoryChannel):  # of bob, who sends no UPDATE
        def write(self, message: bytes) -> bool:
            if message[0] == UPDATE:
                begun.append(time.monotonic())
                time.sleep(took)
            return super().write(message)

    async def main() -> None:
        hub = Hub(FakePlaces())
        ann, bob = Document(), Document()
        async with visit(hub, "x", ann) as one, visit(hub, "x", bob, channel=Slow) as other:
            await one.synced()
            await other.synced()
            for _ in range(5):
                ann.insert(0, "!")
                await until(lambda: len(bob) == len(ann))
        await hub.close()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())
    assert len(begun) == 5
    assert min([after - before for before, after in pairwise(begun)]) > 1.8 * took


def test_blank() -> None:
    document = Document()
    assert is_blank(document)
    assert not settle(document)
    document.insert(0, "x")
    assert not is_blank(document)
    assert settle(document)
    assert not is_blank(Document(id="0" * 32))
