"""Links: over WebSockets, kept up by themselves, and saying what has arrived and what is durable."""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
import time
from pathlib import Path
from random import Random

import pytest
import timeless
from aiohttp import web
from serving import PATIENCE, FakePlace, FakePlaces, files, free_port, full, link, running, until

from egwalker import Document, StorageError, SyncError, links
from egwalker.hub import Permission
from egwalker.session import Session
from egwalker.transports.memory import MemoryChannel
from egwalker.transports.testing import assert_converged


async def quickly(*awaitables: object) -> None:
    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(*awaitables)  # type: ignore[call-overload]


def test_live_editing(tmp_path: Path) -> None:
    """Ten people type at once, also into what others type, and see the same."""

    async def main() -> None:
        async with running(files(tmp_path)) as server:
            documents = [Document(agent=f"agent{i}") for i in range(10)]
            typing = set(documents)  # who leaves while somebody types would miss the end of it
            rng = Random(1)

            async def type_on(document: Document) -> None:
                async with link(server.url + "notes", document) as one:
                    await one.synced()
                    for _ in range(40):
                        if len(document) > 5 and rng.random() < 0.3:
                            document.delete(rng.randrange(len(document) - 3), 2)
                        else:
                            document.insert(rng.randint(0, len(document)), "word ")
                        await asyncio.sleep(rng.random() * 0.01)
                    await one.persisted()
                    typing.remove(document)
                    await until(lambda: not typing and len({document.version for document in documents}) == 1)

            await quickly(*[type_on(document) for document in documents])
            assert_converged(*documents, thoroughly=True)
        kept = await files(tmp_path)("notes")
        assert kept.document.content == documents[0].content != ""
        await kept.close()

    asyncio.run(main())


def s1(traces_folder: Path) -> Document:
    """A text as large as people write them, in hundreds of thousands of events."""
    document = Document(agent="author")
    with gzip.open(traces_folder / "S1.json.gz") as stream:
        for txn in json.load(stream)["txns"]:
            for pos, deleted, inserted in txn["patches"]:
                if deleted:
                    document.delete(pos, deleted)
                if inserted:
                    document.insert(pos, inserted)
    return document


def test_a_large_document_comes_in_chunks(traces_folder: Path, tmp_path: Path) -> None:
    async def main() -> None:
        large = s1(traces_folder)
        async with running(files(tmp_path)) as server:
            async with link(server.url + "large", large) as one:
                await one.persisted()
            got: list[int] = []
            reader = Document()
            async with link(server.url + "large", reader, on_progress=got.append) as one:
                await one.synced()
            assert_converged(large, reader)
            assert len(got) >= 3
            assert got == sorted(got, reverse=True)
            assert got[-1] == 0

    asyncio.run(main())


def test_resumes_by_itself_after_the_server_was_gone(tmp_path: Path) -> None:
    """Both sides go on offline; then each has what the other did, once."""

    async def main() -> None:
        port = free_port()
        ann, bob = Document(agent="ann"), Document(agent="bob")
        async with running(files(tmp_path), port) as server:
            first = link(server.url + "notes", ann)
            second = link(server.url + "notes", bob)
            await first.__aenter__()
            await second.__aenter__()
            ann.insert(0, "one ")
            await first.persisted()
            await until(lambda: bob.content == "one ")
        await until(lambda: not first.connected and not second.connected)
        ann.insert(0, "ann ")
        bob.insert(len(bob), "bob ")
        place = await files(tmp_path)("notes")
        place.document.insert(0, "server ")
        await place.close()
        async with running(files(tmp_path), port) as server:
            await quickly(first.persisted(), second.persisted())
            await until(lambda: ann.content == bob.content)
            assert sorted(ann.content.split()) == ["ann", "bob", "one", "server"]
            assert first.error is None
            await quickly(first.close(), second.close())
        with pytest.raises(SyncError, match="closed"):
            await first.synced()

    asyncio.run(main())


def test_backs_off() -> None:
    """Attempts come ever more seldom, and soon again after a connection that has worked."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        attempts: asyncio.Queue[float] = asyncio.Queue()
        there: list[MemoryChannel] = []
        up = False

        async def open_channel() -> links.Channel:
            attempts.put_nowait(loop.time())
            if not up:
                raise ConnectionError("nobody there")
            here, other = MemoryChannel.pair()
            there.append(other)
            return here

        async with links.Link(Document(), open_channel):
            last = await attempts.get()
            for number in range(20):
                up = number == 19
                longest = min(links.FIRST_WAIT * 2**number, links.LONGEST_WAIT)
                last, before = await attempts.get(), last
                assert longest / 2 <= last - before <= longest
            for lasted, longest in (
                (links.STEADY / 2, links.LONGEST_WAIT),
                (2 * links.STEADY, links.FIRST_WAIT),
            ):
                await asyncio.sleep(lasted)
                await there[-1].close()
                left = loop.time()
                assert longest / 2 <= await attempts.get() - left <= longest

    timeless.run(main())


def test_what_ends_a_link_says_why() -> None:
    async def main() -> None:
        document = Document("list")
        places = FakePlaces()
        places.places["text"] = FakePlace(Document(id="0" * 32))
        places.places["text"].closed = True
        places.places["text"].document.insert(0, "theirs")
        async with running(
            places, authenticate=lambda name, _: None if name == "x" else Permission("a")
        ) as server:
            cases = {
                server.url + "x": "403",
                server.url + "bad.": "400",
                server.url + "text": "KindError",
                "ws://[": "no URL",
                "ws://": "no URL",
            }
            for url, why in cases.items():
                async with link(url, document) as one:
                    with pytest.raises(SyncError, match=why):
                        await asyncio.wait_for(one.synced(), PATIENCE)
                    assert one.error is not None
                    with pytest.raises(SyncError, match=why):
                        await one.persisted()
            async with link(f"ws://127.0.0.1:{free_port()}/x", document, reconnect=False) as one:
                with pytest.raises(SyncError, match="no connection.*Connect call failed"):
                    await asyncio.wait_for(one.synced(), PATIENCE)

    asyncio.run(main())


def test_persisted_waits_for_the_place() -> None:
    async def main() -> None:
        places = FakePlaces()
        async with running(places) as server:
            document = Document()
            async with link(server.url + "x", document) as one:
                await quickly(one.synced())
                place = places.places["x"]
                await until(lambda: place.commits)
                place.gate.clear()
                document.insert(0, "hello")
                await quickly(one.synced())
                waiting = asyncio.create_task(one.persisted())
                await asyncio.sleep(0.2)
                assert not waiting.done()
                place.gate.set()
                await quickly(waiting)
                assert place.stored == "hello"

    asyncio.run(main())


def test_persisted_fails_with_the_place() -> None:
    async def main() -> None:
        places = FakePlaces()
        async with running(places) as server:
            document, other = Document(), Document()
            async with link(server.url + "x", document) as one, link(server.url + "y", other) as fine:
                await quickly(one.persisted(), fine.persisted())
                places.places["x"].error = full()
                document.insert(0, "hello")
                with pytest.raises(SyncError, match="StorageError: document 'x' cannot be stored") as caught:
                    await asyncio.wait_for(one.persisted(), PATIENCE)
                assert "secret" not in str(caught.value)
                other.insert(0, "fine")
                await quickly(fine.persisted())
            await until(lambda: places.places["x"].closed)
            assert not places.places["y"].closed
            # The disk has room again: nothing is lost.
            async with link(server.url + "x", document) as one:
                await quickly(one.persisted())
                assert places.places["x"].stored == "hello"

    asyncio.run(main())


def test_persisted_while_others_go_on_typing() -> None:
    """It is about what was there when it was called: a document that never rests keeps nobody waiting."""

    async def main() -> None:
        async with running(FakePlaces()) as server:
            document = Document()
            async with link(server.url + "x", document) as one:
                going = True

                def type_on() -> None:
                    while going:
                        document.insert(0, "x")
                        time.sleep(0.0002)

                thread = threading.Thread(target=type_on)
                thread.start()
                try:
                    for _ in range(20):
                        await quickly(one.persisted(), one.synced())
                finally:
                    going = False
                    thread.join()
                await quickly(one.synced())

    asyncio.run(main())


def test_persisted_while_there_is_always_something_new() -> None:
    """Whenever something has become durable, something else has been sent already."""

    async def main() -> None:
        document = Document()

        class Busy(FakePlace):
            async def commit(self) -> None:
                await super().commit()
                if not self.closed:
                    document.insert(0, "x")
                    await asyncio.sleep(0.01)

        async def open_place(name: str) -> FakePlace:
            return Busy()

        async with running(open_place) as server, link(server.url + "x", document) as one:
            for _ in range(5):
                await quickly(one.persisted())

    asyncio.run(main())


def test_edits_of_other_threads_are_sent() -> None:
    async def main() -> None:
        async with running(FakePlaces()) as server:
            ann, bob = Document(agent="ann"), Document(agent="bob")
            async with link(server.url + "x", ann) as one, link(server.url + "x", bob) as other:
                await quickly(one.synced(), other.synced())

                def work(n: int) -> None:
                    for i in range(100):
                        with ann.transaction():
                            ann.insert(len(ann), f"{n}.{i} ")

                await asyncio.gather(*[asyncio.to_thread(work, n) for n in range(4)])
                await until(lambda: len(bob.content.split()) == 400)
                assert bob.content == ann.content

    asyncio.run(main())


def test_a_reader_is_told_that_edits_are_not_taken() -> None:
    async def main() -> None:
        places = FakePlaces()
        places.places["x"] = FakePlace(Document(id="0" * 32))
        places.places["x"].closed = True
        places.places["x"].document.insert(0, "theirs")
        async with running(places, authenticate=lambda *_: Permission("r", write=False)) as server:
            document = Document()
            async with link(server.url + "x", document) as one:
                await quickly(one.synced())
                assert document.content == "theirs"
                with pytest.raises(SyncError, match="does not take edits"):
                    await asyncio.wait_for(one.persisted(), PATIENCE)
                document.insert(0, "mine")
                with pytest.raises(SyncError, match="does not take edits"):
                    await asyncio.wait_for(one.synced(), PATIENCE)
                assert one.error is None, "the link is still there"

    asyncio.run(main())


def test_presence(monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes, changes, goes with its link, and comes again with the next one."""

    async def main() -> None:
        seen: list[tuple[str, object]] = []
        port = free_port()
        places = FakePlaces()
        ann, bob = Document(agent="ann"), Document(agent="bob")
        first = link(f"ws://127.0.0.1:{port}/x", ann)

        def note(key: str, state: object) -> None:
            seen.append((key, state))
            raise ValueError("this must not end the link")

        second = link(f"ws://127.0.0.1:{port}/x", bob, on_presence=note)
        async with first, second:
            async with running(places, port):
                await quickly(first.synced(), second.synced())
                first.show({"cursor": 3})
                await until(lambda: second.presences == {"ann": {"cursor": 3}})
                first.show({"cursor": 4})
                await until(lambda: second.presences == {"ann": {"cursor": 4}})
                with pytest.raises(SyncError, match="bytes"):
                    first.show("x" * 5000)
            await until(lambda: not second.presences)
            first.show({"cursor": 5})
            async with running(places, port):
                await until(lambda: second.presences == {"ann": {"cursor": 5}})
                first.show(None)
                await until(lambda: not second.presences)
        assert [state and state["cursor"] for _, state in seen] == [3, 4, None, 5, None]  # type: ignore[index]

    asyncio.run(main())


def test_presences_of_different_people_do_not_collide() -> None:
    async def main() -> None:
        def by_query(_: str, request: web.Request) -> Permission:
            return Permission(request.query["who"])

        async with running(FakePlaces(), authenticate=by_query) as server:
            links_of = {
                who: link(f"{server.url}x?who={who}", Document(agent=who)) for who in ("ann", "bob", "cy")
            }
            async with links_of["ann"] as ann, links_of["bob"] as bob, links_of["cy"] as cy:
                await quickly(ann.synced(), bob.synced(), cy.synced())
                ann.show(1, "ann")
                await until(lambda: cy.presences == {"ann": 1})
                bob.show(2, "ann")
                await until(lambda: cy.presences == {"ann": 1, "bob/ann": 2})
                bob.show(None, "ann")
                await until(lambda: cy.presences == {"ann": 1})
                # Again from elsewhere, before the old link is known to be gone.
                async with link(f"{server.url}x?who=ann", Document()) as again:
                    await quickly(again.synced())
                    again.show(3, "ann")
                    await until(lambda: cy.presences == {"ann": 3})
                    await ann.close()
                    await asyncio.sleep(0.1)
                    assert cy.presences == {"ann": 3}

    asyncio.run(main())


def test_nobody_greets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "GREETING", 0.1)

    async def main() -> None:
        here, there = MemoryChannel.pair()
        session = Session(Document())
        error = await asyncio.wait_for(
            links.Talk(session, there, lambda _: None, answers=True).run(), PATIENCE
        )
        assert "no greeting" in str(error)
        assert await here.receive() is not None
        assert await here.receive() is None

    asyncio.run(main())


def test_a_channel_is_closed_whatever_happens() -> None:
    class Broken(MemoryChannel):
        closed = 0

        async def receive(self) -> bytes | None:
            raise ValueError("oh")

        async def close(self) -> None:
            Broken.closed += 1
            await super().close()

    async def main() -> None:
        async def open_channel() -> links.Channel:
            here, _ = MemoryChannel.pair()
            here.__class__ = Broken
            return here

        async with links.Link(Document(), open_channel) as one:
            with pytest.raises(SyncError, match="internal error.*oh"):
                await asyncio.wait_for(one.synced(), PATIENCE)
        assert Broken.closed == 1

    asyncio.run(main())


def test_two_documents_with_ids_are_not_merged() -> None:
    async def main() -> None:
        async with running(FakePlaces()) as server:
            ann, bob = Document(agent="ann"), Document(agent="bob")
            ann.insert(0, "ann")
            bob.insert(0, "bob")
            async with link(server.url + "x", ann) as one:
                await quickly(one.persisted())
                async with link(server.url + "x", bob) as other:
                    with pytest.raises(SyncError, match="IdentityError"):
                        await asyncio.wait_for(other.synced(), PATIENCE)
            assert (ann.content, bob.content) == ("ann", "bob")

    asyncio.run(main())


def test_a_new_document_takes_the_id_of_who_comes_first(tmp_path: Path) -> None:
    """And keeps it in its file, whatever history there is before."""

    async def main() -> None:
        document = Document(agent="ann")
        document.insert(0, "before")
        for _ in range(2):
            async with running(files(tmp_path)) as server, link(server.url + "x", document) as one:
                await quickly(one.persisted())
                document.insert(0, "x")
                await quickly(one.persisted())
        place = await files(tmp_path)("x")
        assert (place.document.id, place.document.content) == (document.id, "xxbefore")
        await place.close()

    asyncio.run(main())


def test_storage_error_is_one() -> None:
    assert isinstance(full(), StorageError)
