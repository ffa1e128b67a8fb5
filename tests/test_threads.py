"""Documents are safe to use from several threads, one at a time holding them."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import pairwise

import pytest
from serving import PATIENCE

from egwalker import Change, Document


@pytest.fixture(autouse=True)
def impatient() -> Iterator[None]:
    """Threads take turns a thousand times as often as they do otherwise: what can go wrong does."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(5e-6)
    yield
    sys.setswitchinterval(before)


def together(*works: Callable[[], None]) -> None:
    """Run functions in threads that start at the same time; raises what one of them raised."""
    barrier = threading.Barrier(len(works))
    errors: list[BaseException] = []

    def run(work: Callable[[], None]) -> None:
        try:
            barrier.wait(PATIENCE)
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(work,), daemon=True) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive(), "stuck"
    if errors:
        raise errors[0]


def repeat(times: int, work: Callable[[int], object]) -> Callable[[], None]:
    def run() -> None:
        for i in range(times):
            work(i)

    return run


def test_many_edit_one_document() -> None:
    doc = Document(agent="alice")

    def edit(letter: str) -> Callable[[], None]:
        def work(i: int) -> None:
            doc.insert(0, letter * 3)
            if i % 3 == 0:
                with doc.transaction():
                    doc.delete(len(doc) - 1)

        return repeat(300, work)

    together(*[edit(letter) for letter in "abcd"])
    assert len(doc) == 4 * (900 - 100)
    assert doc.version == (("alice", 4 * 1000 - 1),)
    doc._check()


def test_readers_see_whole_changes() -> None:
    doc = Document()
    done = threading.Event()

    def write() -> None:
        for i in range(300):
            with doc.transaction():
                doc.insert(0, "(")
                doc.insert(len(doc), ")")
            if i % 4 == 0:
                with doc.transaction():
                    doc.delete(0)
                    doc.delete(len(doc) - 1)
        done.set()

    def read() -> None:
        while not done.is_set():
            content = doc.content
            assert content.count("(") == content.count(")")
            version = doc.version
            assert doc.checkout(version) is not None

    together(write, read, read)


def test_two_documents_merge_each_other() -> None:
    """Both locks are taken in one order, whoever merges whom."""
    alice = Document(agent="alice")
    bob = alice.fork("bob")

    def work(mine: Document, other: Document) -> Callable[[], None]:
        def step(i: int) -> None:
            mine.insert(i % (len(mine) + 1), "x")
            mine.merge(other)

        return repeat(300, step)

    together(work(alice, bob), work(bob, alice))
    alice.merge(bob)
    bob.merge(alice)
    assert alice.content == bob.content == "x" * 600
    alice._check()
    bob._check()


def test_merging_each_other_while_a_third_holds_one() -> None:
    for _ in range(20):
        docs = [Document(), Document()]
        for held in docs:
            done = [False, False]

            def merge(number: int, docs: list[Document] = docs, done: list[bool] = done) -> None:
                docs[number].merge(docs[1 - number])
                done[number] = True

            threads = [threading.Thread(target=merge, args=(number,), daemon=True) for number in (0, 1)]
            with held.transaction():
                for thread in threads:
                    thread.start()
                # Both are now where they wait for a lock; whichever gets it must find the other one free.
                time.sleep(0.005)
            for thread in threads:
                thread.join(PATIENCE)
            assert done == [True, True], "stuck"


def test_a_ring_of_documents() -> None:
    docs = [Document(agent=f"agent {i}", id="1" * 32) for i in range(4)]

    def work(number: int) -> Callable[[], None]:
        mine, other = docs[number], docs[(number + 1) % 4]

        def step(_: int) -> None:
            mine.insert(len(mine), "x")
            mine.merge(other)
            mine.receive(docs[(number + 2) % 4].history(mine.version_vector))

        return repeat(60, step)

    together(*[work(number) for number in range(4)])
    for doc in docs:
        for other in docs:
            doc.merge(other)
    for doc in docs:
        assert doc.content == docs[0].content
        assert len(doc) == 240


def test_subscribers_are_called_one_at_a_time_and_in_order() -> None:
    doc = Document(agent="alice")
    seen: list[Change] = []
    inside = threading.Lock()

    def watch(change: Change) -> None:
        assert inside.acquire(blocking=False), "two at once"
        seen.append(change)
        inside.release()

    doc.subscribe(watch)
    together(*[repeat(200, lambda _: doc.insert(0, "x")) for _ in range(4)])
    assert len(seen) == 800
    assert all(one.after == two.before for one, two in pairwise(seen))
    assert seen[-1].after == doc.version


def test_callbacks_may_merge_both_ways() -> None:
    """Two documents that keep each other up to date by subscriptions, edited from two threads."""
    alice = Document(agent="alice")
    bob = alice.fork("bob")
    alice.subscribe(lambda _: bob.merge(alice))
    bob.subscribe(lambda _: alice.merge(bob))
    together(repeat(200, lambda _: alice.insert(0, "a")), repeat(200, lambda _: bob.insert(0, "b")))
    assert alice.content == bob.content
    assert sorted(alice.content) == ["a"] * 200 + ["b"] * 200


def test_callbacks_may_wait_for_another_thread() -> None:
    doc = Document()
    seen: list[str] = []

    def watch(change: Change) -> None:
        if change.edits[0].inserted == "a":
            other = threading.Thread(target=doc.insert, args=(0, "b"), daemon=True)
            other.start()
            other.join(PATIENCE)
            assert not other.is_alive(), "stuck"
        seen.append(change.edits[0].inserted)

    doc.subscribe(watch)
    together(lambda: doc.insert(0, "a"))
    assert seen == ["a", "b"]


def test_a_transaction_keeps_others_out() -> None:
    doc = Document()
    seen: list[Change] = []
    doc.subscribe(seen.append)
    started, finish = threading.Event(), threading.Event()

    def hold() -> None:
        with doc.transaction():
            doc.insert(0, "a")
            started.set()
            assert finish.wait(PATIENCE)
            doc.insert(1, "b")

    def wait() -> None:
        assert started.wait(PATIENCE)
        threading.Timer(0.05, finish.set).start()
        doc.insert(0, "c")
        # Whoever delivers, this thread's change and the one before it do get delivered.

    together(hold, wait)
    assert doc.content == "cab"
    assert [[edit.inserted for edit in change.edits] for change in seen] == [["a", "b"], ["c"]]


def test_a_transaction_delivers_nothing_before_its_end() -> None:
    """Not even what somebody else left in the queue."""

    class Gone(BaseException):
        """Ends a thread's delivery, as an interrupt does."""

    doc = Document()
    seen: list[str] = []
    delivering, go_on = threading.Event(), threading.Event()

    def watch(change: Change) -> None:
        seen.append(change.edits[0].inserted)
        if seen == ["1"]:
            delivering.set()
            assert go_on.wait(PATIENCE)
            raise Gone

    def insert() -> None:
        with suppress(Gone):
            doc.insert(0, "1")

    doc.subscribe(watch)
    other = threading.Thread(target=insert, daemon=True)
    other.start()
    assert delivering.wait(PATIENCE)
    doc.insert(0, "2")
    with doc.transaction():
        go_on.set()
        other.join(PATIENCE)
        doc.insert(0, "3")
        assert seen == ["1"]
    assert seen == ["1", "2", "3"]


def test_changes_are_not_lost_between_a_transaction_and_a_delivery() -> None:
    doc = Document()
    seen: list[Change] = []
    doc.subscribe(seen.append)

    def nested(_: int) -> None:
        with doc.transaction(), doc.transaction():
            doc.insert(0, "x")

    together(repeat(300, nested), repeat(300, lambda _: doc.insert(0, "y")), repeat(300, nested))
    assert len(seen) == 900
    assert len(doc) == 900


@pytest.mark.parametrize("size", [2000])
def test_one_walks_while_others_read(size: int) -> None:
    """Walks let go of the interpreter's lock, not of the document's."""
    alice = Document(agent="alice")
    bob, carol = alice.fork("bob"), alice.fork("carol")
    for i in range(size):
        alice.insert(i // 2, "a")
        bob.insert(i // 3, "b")
    before = carol.content

    def read() -> None:
        while len(carol) < 2 * size:
            assert carol.content in (before, *steps)

    merged = alice.fork("dave")
    merged.merge(bob)
    steps = (alice.content, merged.content)

    def write() -> None:
        carol.merge(alice)
        carol.merge(bob)

    together(write, read, read)
    assert carol.content == merged.content
