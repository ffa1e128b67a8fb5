"""Documents over a network that loses, doubles and reorders, is cut and healed. More in network.py."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import network
import pytest
from serving import PATIENCE

from egwalker import Document, IdentityError, SyncError
from egwalker.session import Acknowledged, Changed, Presence, Session
from egwalker.transports.memory import End, Memory, MemoryChannel, Network
from egwalker.transports.testing import Pair, assert_converged

RUNS = int(os.environ.get("EGWALKER_NETWORKS", "1000"))


# --- the network --------------------------------------------------------------------------------------------


def test_random_runs() -> None:
    """What each run checks is in `network.Run`."""
    done = [network.Run(seed).go() for seed in range(RUNS)]
    assert {result.peers for result in done} == set(range(2, 9))
    assert max(result.after for result in done) <= 3
    assert max(result.exchanges for result in done if result.peers == 2 and not result.shallow) == 3
    assert sum(result.partial for result in done) >= RUNS // 100
    assert sum(result.compared for result in done) > RUNS * 0.9


@pytest.mark.parametrize("kind", ["map", "counter", "table"])
def test_random_runs_of_operations(kind: str) -> None:
    """The same of documents that are replayed."""
    done = [network.Run(seed, kind=kind).go() for seed in range(RUNS // 20)]
    assert max(result.after for result in done) <= 3


def test_a_seed_replays_exactly() -> None:
    """Also in a process that hashes strings in another way."""
    code = "import network\nfor seed in range(20): print(network.Run(seed, traced=True).go().digest)"
    said = [
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=Path(__file__).parent,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
            text=True,
        ).stdout.split()
        for seed in ("1", "2")
    ]
    here = [network.Run(seed, traced=True).go().digest for seed in range(20)]
    assert said == [here, here]
    assert len(set(here)) == 20


def test_command_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert network.main(["--runs", "3"]) == 0
    assert "3 passed, 0 failed" in capsys.readouterr().out
    monkeypatch.setattr(network, "assert_converged", lambda *documents: pytest.fail("not the same"))
    with pytest.raises(pytest.fail.Exception):
        network.main(["--runs", "3"])
    monkeypatch.setattr(network, "assert_converged", lambda *documents: 1 / 0)
    assert network.main(["--runs", "3", "--keep-going"]) == 1
    assert "0 passed, 3 failed" in capsys.readouterr().out


def test_thorough_comparison() -> None:
    for seed in range(30):
        run = network.Run(seed)
        run.go()
        assert_converged(*run.documents, thoroughly=True)


def test_virtual_time() -> None:
    ann = Document(agent="ann")
    bob = ann.fork("bob")
    seen: list[tuple[float, str]] = []
    net = Network(1, delay=(1.0, 1.0))

    def on_event(end: End, event: object) -> None:
        seen.append((net.now, f"{end.document.agent}: {type(event).__name__}"))

    net.on_event = on_event
    net.link(ann, bob)
    ann.insert(0, "x")
    net.run(0.5)
    assert seen == []
    net.run(2.0)
    assert net.now == 2.5
    assert seen[:2] == [(1.0, "bob: Greeted"), (1.0, "ann: Greeted")]
    assert {when for when, _ in seen} == {1.0, 2.0}
    assert bob.content == "x"
    while net.step():
        pass
    assert net.settle() == 0
    assert repr(net) == "<Network of 2 documents and 1 wires at 3.000>"


def test_partition_and_disconnection() -> None:
    first = Document(agent="first")
    others = [first.fork(name) for name in "abc"]
    a, b, c = others
    net = Network(2)
    wires = [net.link(first, a), net.link(a, b), net.link(b, c)]
    net.run(2)
    assert all(wire.connected for wire in wires)
    net.partition([first, a])
    assert [wire.connected for wire in wires] == [True, False, True]
    first.insert(0, "left ")
    c.insert(0, "right ")
    net.run(5)
    assert_converged(first, a)
    assert_converged(b, c)
    assert a.content != b.content
    net.heal()
    net.run(5)
    assert_converged(first, *others)
    net.disconnect(wires[0])
    assert not wires[0].connected
    first.insert(0, "!")
    net.run(5)
    assert_converged(first, *others)
    net.remove(wires[2])
    first.insert(0, "?")
    net.settle()
    assert_converged(first, a, b)
    with pytest.raises(AssertionError, match="'first' and 'c' have not converged: version_vector is"):
        assert_converged(first, c)


def test_what_is_refused_is_not_connected_again() -> None:
    ann, bob = Document(agent="ann"), Document(agent="bob")
    ann.insert(0, "mine")
    bob.insert(0, "yours")
    net = Network(3)
    wire = net.link(ann, bob)
    net.run(10)
    assert wire.failed
    assert isinstance(wire.ends[0].error, (IdentityError, SyncError))
    assert net.settle() == 0
    assert (str(ann), str(bob)) == ("mine", "yours")
    reader = ann.fork("reader")
    wire = net.link(ann, reader, a_options={"can_write": False})
    reader.insert(0, "not ")
    net.settle()
    assert ann.content == "mine"
    assert not wire.failed
    with pytest.raises(ValueError, match="linked to another one"):
        net.link(ann, ann)


def test_a_message_that_answers_itself_without_end_is_noticed() -> None:
    ann = Document(agent="ann")
    bob = ann.fork("bob")

    def echo(end: End, event: object) -> None:
        if isinstance(event, Changed):
            end.document.insert(0, "x")

    net = Network(4, on_event=echo)
    net.link(ann, bob)
    ann.insert(0, "x")
    with pytest.raises(RuntimeError, match="no silence"):
        net.settle()


# --- the pytest plugin --------------------------------------------------------------------------------------

TESTS = """
from egwalker import Document
from egwalker.transports.testing import assert_converged

def test_pair(document_pair):
    alice, bob = document_pair
    alice.insert(0, "hello")
    bob.insert(0, "> ")
    document_pair.sync()
    assert_converged(alice, bob, thoroughly=True)

def test_network(faulty_network, document_pair):
    alice, bob = document_pair
    faulty_network.link(alice, bob)
    for i in range(20):
        alice.insert(0, "a")
        bob.insert(len(bob), "b")
        faulty_network.run(0.2)
    assert faulty_network.settle() <= 3
    assert_converged(alice, bob)

def test_made(make_network):
    assert make_network().random.random() == make_network().random.random()
    assert make_network(seed=1, loss=0.1).loss == 0.1
"""


def test_the_plugin_in_a_process_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["egwalker.transports.testing"]\n')
    (tmp_path / "test_it.py").write_text(TESTS)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "3 passed" in done.stdout, done.stdout + done.stderr


def test_what_has_not_converged_is_said() -> None:
    ann = Document(agent="ann")
    bob = ann.fork("bob")
    assert_converged(ann)
    Pair(ann, bob).sync()
    assert_converged(ann, bob, thoroughly=True)
    with pytest.raises(AssertionError, match="kind is 'text' and 'list'"):
        assert_converged(ann, Document("list"))
    with pytest.raises(AssertionError, match="id is"):
        assert_converged(ann, Document())
    ann.insert(0, "x" * 100)
    with pytest.raises(AssertionError, match="version_vector"):
        assert_converged(ann, bob)
    bob.merge(ann)
    bob._sequence().rope.insert(1, "!")
    with pytest.raises(
        AssertionError, match="content differs from element 1 on: 'xxx.*' and 'x!xx.*' from 0 on"
    ):
        assert_converged(ann, bob)


# --- asyncio ------------------------------------------------------------------------------------------------


def run(main: Callable[[], Any]) -> Any:
    async def limited() -> Any:
        return await asyncio.wait_for(main(), PATIENCE)

    return asyncio.run(limited())


def test_channels() -> None:
    async def main() -> None:
        a, b = MemoryChannel.pair()
        assert a.write(b"1")
        assert await b.receive() == b"1"
        waiting = asyncio.create_task(b.receive())
        await asyncio.sleep(0)
        assert not waiting.done()
        assert a.write(b"2")
        assert await waiting == b"2"
        for _ in range(63):
            assert a.write(b"x")
        assert not a.write(b"last")
        blocked = asyncio.create_task(a.drain())
        await asyncio.sleep(0.01)
        assert not blocked.done(), "the other end does not read"
        assert await b.receive() == b"x"
        await blocked
        a.write(b"more")
        more = asyncio.create_task(a.drain())
        reading = asyncio.create_task(a.receive())
        await asyncio.sleep(0.01)
        await b.close()
        await b.close()
        with pytest.raises(ConnectionError):
            await more
        assert await reading is None
        with pytest.raises(ConnectionError):
            b.write(b"x")
        rest = [message async for message in received(b)]
        assert len(rest) == 64
        assert rest[-2:] == [b"last", b"more"]

    async def received(channel: MemoryChannel) -> Any:
        while (message := await channel.receive()) is not None:
            yield message

    run(main)


def test_documents_of_a_process() -> None:
    memory = Memory()

    async def main() -> None:
        ann, bob = Document(agent="ann"), Document(agent="bob")
        shown: list[tuple[str, Any]] = []
        async with memory.connect("memory:notes", ann) as one:
            ann.insert(0, "hello")
            await one.synced()
            assert str(memory.documents["notes"]) == "hello"
            async with memory.connect(
                "memory:notes", bob, on_presence=lambda key, state: shown.append((key, state))
            ) as other:
                await other.synced()
                assert str(bob) == "hello"
                assert bob.id == ann.id
                bob.insert(5, "!")
                one.show({"at": 1})  # type: ignore[attr-defined]
                while str(ann) != "hello!" or not shown:
                    await asyncio.sleep(0.01)
                assert_converged(ann, bob, memory.documents["notes"])
                assert shown == [("ann", {"at": 1})]
        stranger = Document(agent="eve")
        stranger.insert(0, "other")
        async with memory.connect("memory:notes", stranger) as refused:
            with pytest.raises((SyncError, IdentityError)):
                await refused.synced()
        reader = Document(agent="reader")
        async with memory.connect("memory:notes", reader, write=False) as link:
            await link.synced()
            assert str(reader) == "hello!"
        writer = Document(agent="writer")
        async with memory.connect("memory:notes", writer, read=False) as link:
            await link.synced()
            assert str(writer) == ""
            writer.insert(0, "? ")
            await link.synced()
        assert str(memory.documents["notes"]) in ("? hello!", "hello!? ")
        nobody = Document(agent="nobody")
        async with memory.connect("memory:notes", nobody, read=False, write=False) as link:
            with pytest.raises(SyncError, match="neither read nor written"):
                await link.synced()

    run(main)

    async def later() -> None:
        """In another event loop the documents are still there."""
        cy = Document(agent="cy")
        async with memory.connect("memory:notes", cy) as link:
            await link.synced()
        assert "hello!" in str(cy)
        new = Document("list", agent="dee")
        async with memory.connect("memory:/list/", new) as link:
            await link.synced()
        assert memory.documents["list"].kind == "list"

    run(later)


def test_what_memory_cannot_do() -> None:
    memory = Memory()
    for url in ("memory:", "memory:///"):
        with pytest.raises(SyncError, match="such as memory:notes"):
            memory.connect(url, Document())
    with pytest.raises(NotImplementedError):
        run(lambda: memory.place("memory:x", "text"))


def test_sessions_by_hand_as_the_guide_has_it() -> None:
    """Two ends of any carrier; presence on the way."""
    ann = Document(agent="ann")
    left, right = Session(ann), Session(ann.fork("bob"), durable=True)
    left.show("ann", "here")
    events = []
    for _ in range(3):
        for one, other in ((left, right), (right, left)):
            while (message := one.poll()) is not None:
                events += other.receive(message)
        right.stored(right.mark())
    assert Presence("ann", "here") in events
    assert left.acknowledged == Acknowledged(0, 0)
