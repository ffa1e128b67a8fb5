"""Documents that were opened with their content, and whose history has not been read yet."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any

import generate
import pytest
from deliver import DOC_ID, runs
from oracle import Txn
from session import apply_edits

from egwalker import Change, Document, PositionError, encoding


def source(kind: str, rng: Random) -> Document:
    """A document with a history of several agents, some concurrent, in local order."""
    world = generate.World(rng, rng.randint(2, 4), values=kind == "list", odd=True).run(30)
    doc = Document(kind, agent="source", id=DOC_ID)
    doc.receive(runs(generate.causal_order(rng, world.txns)))
    return doc


class Twins:
    """A document opened lazily, and the same with its history read at once. All is done to both."""

    def __init__(self, doc: Document, agent: str = "me") -> None:
        data = doc.encode()
        self.lazy = Document.decode(data, agent=agent)
        self.eager = Document.decode(data, agent=agent)
        assert self.eager.history() == Document.decode(doc.encode(content=False)).history()
        self.both = self.lazy, self.eager
        assert self.is_lazy()
        assert self.eager._replica.unread is None
        self.seen: tuple[list[Change], list[Change]] = ([], [])
        self.mirror: Any = None

    def is_lazy(self) -> bool:
        return self.lazy._replica.unread is not None

    def watch(self) -> None:
        for doc, seen in zip(self.both, self.seen, strict=True):
            doc.subscribe(seen.append)
        self.mirror = self.lazy.content

    def do(self, act: Callable[[Document], Any]) -> Any:
        one, other = (act(doc) for doc in self.both)
        assert one == other
        self.compare()
        return one

    def compare(self) -> None:
        for ask in (
            lambda doc: doc.content,
            len,
            lambda doc: doc.version,
            lambda doc: doc.version_vector,
            lambda doc: doc.pending,
            lambda doc: doc.slice(len(doc) // 3, len(doc) // 2),
            repr,
            lambda doc: (doc.id, doc.kind, doc.agent),
        ):
            assert ask(self.lazy) == ask(self.eager)
        if self.lazy.kind == "text":
            for at in (0, len(self.lazy) // 2, len(self.lazy)):
                for ask_at in (Document.to_utf16, Document.to_utf8):
                    offset = ask_at(self.lazy, at)
                    assert offset == ask_at(self.eager, at)
                assert self.lazy.from_utf8(self.lazy.to_utf8(at)) == at
                assert self.lazy.from_utf16(self.lazy.to_utf16(at)) == at
        if self.mirror is not None:
            assert self.seen[0] == self.seen[1]
            for change in self.seen[0]:
                self.mirror = apply_edits(self.mirror, change.edits)
            for seen in self.seen:
                seen.clear()
            assert self.mirror == self.lazy.content

    def compare_all(self) -> None:
        """The history is read now; everything is the same."""
        self.compare()
        assert self.lazy.groups() == self.eager.groups()
        assert not self.is_lazy()
        assert self.lazy.history() == self.eager.history()
        assert self.lazy.encode() == self.eager.encode()
        self.compare()
        for doc in self.both:
            doc.verify()
            doc._check()


def edit(rng: Random, twins: Twins, world: generate.World) -> None:
    ops, _ = world.ops(len(twins.lazy), rng.randint(0, len(twins.lazy)))

    def act(doc: Document) -> None:
        for pos, deleted, inserted in ops:
            if deleted:
                doc.delete(pos, deleted)
            if len(inserted):
                doc.insert(pos, inserted)

    twins.do(act)


def edit_together(rng: Random, twins: Twins, world: generate.World) -> None:
    pos = rng.randint(0, len(twins.lazy))
    content = world.content(2)

    def act(doc: Document) -> None:
        with doc.transaction():
            doc.insert(pos, content)
            with doc.transaction():
                doc.delete(pos)

    twins.do(act)


def remote(rng: Random, twins: Twins, world: generate.World) -> None:
    """Somebody who has all of it goes on: as runs, or as the update of a keystroke."""
    lazy = twins.lazy
    agent = rng.choice(("ann", "bob", "new", "Cy"))
    seq = lazy.version_vector[agent][-1][1] if agent in lazy.version_vector else 0
    pos = rng.randint(0, len(lazy))
    deleted = min(rng.choice((0, 0, 2)), len(lazy) - pos)
    by_update = rng.random() < 0.5
    content = world.content(0 if deleted else 1 if by_update else 2)
    txn = Txn(agent, seq, lazy.version, ((pos, deleted, content),))
    if not by_update:
        twins.do(lambda doc: doc.receive(runs([txn])))
        return
    other = Document.decode(twins.eager.encode(), agent="other")
    before = other.version_vector
    other.receive(runs([txn]))
    update = other.encode(since=before or {"": []})
    assert encoding.RUN in encoding.parse(update).chunks
    twins.do(lambda doc: doc.apply(update))


def wrong(rng: Random, twins: Twins, world: generate.World) -> None:
    for doc in twins.both:
        with pytest.raises(PositionError):
            doc.insert(len(doc) + 1, world.content(1))
        with pytest.raises(PositionError):
            doc.delete(len(doc))
        with pytest.raises(PositionError):
            doc.slice(0, len(doc) + 1)
    twins.compare()


def beside(rng: Random, twins: Twins, world: generate.World) -> None:
    """Somebody who had what was opened, and nothing of what came since, is concurrent with that alone."""
    opened = twins.lazy._replica.unread
    assert opened is not None
    base = Document.decode(opened.data, agent="reader")
    agent = f"beside{rng.random()}"
    txn = Txn(agent, 0, base.version, ((rng.randint(0, len(base)), 0, world.content(3)),))
    twins.do(lambda doc: doc.receive(runs([txn])))


SEQUENTIAL = (edit, edit, edit_together, remote, remote, wrong)
NEEDS_NO_HISTORY = (*SEQUENTIAL, beside)


@pytest.mark.parametrize("kind", ["text", "list"])
@pytest.mark.parametrize("seed", range(12))
def test_what_needs_no_history(kind: str, seed: int) -> None:
    rng = Random(seed)
    twins = Twins(source(kind, rng), agent=rng.choice(("me", "ann")))
    world = generate.World(rng, values=kind == "list", odd=True)
    if seed % 2:
        twins.watch()
    cursors = [[doc.cursor(at) for doc in twins.both] for at in (0, len(twins.lazy) // 2)] if seed % 3 else []
    for _ in range(25):
        rng.choice(NEEDS_NO_HISTORY)(rng, twins, world)
        for one, other in cursors:
            assert one.position == other.position
        assert twins.is_lazy()
    twins.compare_all()


def concurrent(rng: Random, twins: Twins, world: generate.World, base: Document) -> None:
    first = base.history()[0]
    parents = rng.choice(((), ((first.agent, first.seq),)))
    txn = Txn("late", 0, parents, ((0, 0, world.content(3)),))
    twins.do(lambda doc: doc.receive(runs([txn])))


def merged(rng: Random, twins: Twins, world: generate.World, base: Document) -> None:
    other = base.fork("late")
    other.insert(rng.randint(0, len(other)), world.content(3))
    twins.do(lambda doc: doc.merge(other))


def applied(rng: Random, twins: Twins, world: generate.World, base: Document) -> None:
    other = Document(base.kind, agent="late", id=base.id)
    other.insert(0, world.content(3))
    if rng.random() < 0.5:
        other.merge(base)
    data = other.encode(since=rng.choice((None, {"me": [(0, 1)]})))
    twins.do(lambda doc: doc.apply(data))


def waiting(rng: Random, twins: Twins, world: generate.World, base: Document) -> None:
    txns = [
        Txn("late", i, (("late", i - 1),) if i else base.version, ((0, 0, world.content(1)),))
        for i in range(3)
    ]
    for txn in reversed(txns):
        twins.do(lambda doc: doc.receive(runs([txn])))  # noqa: B023


def past(rng: Random, twins: Twins, world: generate.World, base: Document) -> None:
    version = rng.choice(base.history())
    twins.do(lambda doc: doc.checkout([(version.agent, version.seq)]))


def branched(rng: Random, twins: Twins, world: generate.World, base: Document) -> None:
    content = world.content(2)

    def act(doc: Document) -> Any:
        branch = doc.branch(base.version)
        branch.insert(0, content)
        return branch.merge(), branch.content

    twins.do(act)


def told(rng: Random, twins: Twins, world: generate.World, base: Document) -> None:
    twins.do(lambda doc: doc.history(base.version_vector))


def compared(rng: Random, twins: Twins, world: generate.World, base: Document) -> None:
    twins.do(lambda doc: doc.diff(base.version, doc.version))


def forked(rng: Random, twins: Twins, world: generate.World, base: Document) -> None:
    twins.do(lambda doc: doc.fork("fork").content)


def verified(rng: Random, twins: Twins, world: generate.World, base: Document) -> None:
    twins.do(lambda doc: doc.verify())


def told_all(rng: Random, twins: Twins, world: generate.World, base: Document) -> None:
    vector = base.version_vector
    for agent in rng.sample(list(vector), rng.randint(1, len(vector))):
        del vector[agent]
    twins.do(lambda doc: doc.history(vector or None))
    twins.do(lambda doc: doc.encode(since=vector or None))


def sent(rng: Random, twins: Twins, world: generate.World, base: Document) -> None:
    twins.do(lambda doc: doc.encode(since=base.version_vector))


def received_again(rng: Random, twins: Twins, world: generate.World, base: Document) -> None:
    assert not twins.do(lambda doc: doc.receive(base.history()))


def without_history(kind: str, seed: int) -> tuple[Random, Document, Twins, generate.World]:
    """Twins of a document, to which some things have been done that need no history."""
    rng = Random(seed)
    base = source(kind, rng)
    twins = Twins(base, agent=rng.choice(("me", "ann")))
    world = generate.World(rng, values=kind == "list", odd=True)
    if seed:
        twins.watch()
    for _ in range(rng.randint(0, 8)):
        rng.choice(NEEDS_NO_HISTORY)(rng, twins, world)
    return rng, base, twins, world


@pytest.mark.parametrize("kind", ["text", "list"])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "act",
    [
        concurrent,
        merged,
        applied,
        past,
        branched,
        compared,
        verified,
        told_all,
        received_again,
    ],
)
def test_what_needs_the_history(
    act: Callable[[Random, Twins, generate.World, Document], None], kind: str, seed: int
) -> None:
    rng, base, twins, world = without_history(kind, seed)
    assert twins.is_lazy()
    act(rng, twins, world, base)
    assert not twins.is_lazy()
    for _ in range(6):
        rng.choice(SEQUENTIAL)(rng, twins, world)
    twins.compare_all()


@pytest.mark.parametrize("kind", ["text", "list"])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("act", [waiting, told, sent, forked])
def test_what_is_after_it_needs_no_history(
    act: Callable[[Random, Twins, generate.World, Document], None], kind: str, seed: int
) -> None:
    rng, base, twins, world = without_history(kind, seed)
    act(rng, twins, world, base)
    for _ in range(6):
        rng.choice(SEQUENTIAL)(rng, twins, world)
    assert twins.is_lazy()
    twins.compare_all()


@pytest.mark.parametrize("kind", ["text", "list"])
def test_a_fork_reads_it_itself(kind: str) -> None:
    base = source(kind, Random(kind))
    doc = Document.decode(base.encode(), agent="me")
    doc.insert(0, base.content[:1])
    fork = doc.fork("fork")
    fork.insert(len(fork), base.content[:1])
    assert fork.history() != doc.history()
    assert fork._replica.unread is None
    doc.merge(fork)
    assert doc.content == fork.content
    for one in doc, fork:
        one.verify()
        one._check()


@pytest.mark.parametrize("kind", ["text", "list"])
def test_what_waits_when_the_history_is_read(kind: str) -> None:
    """It goes on waiting, and so does who types beside others."""
    base = source(kind, Random(kind))
    element = base.content[:1] or ("x" if kind == "text" else [1])
    doc = Document.decode(base.encode(), agent="me")
    doc.insert(0, element)
    doc.receive(runs([Txn("other", 0, base.version, ((len(base), 0, element),))]))
    doc.insert(1, element)
    first = Txn("late", 0, base.version, ((0, 0, element),))
    doc.receive(runs([Txn("late", 1, (("late", 0),), ((0, 0, element),))]))
    doc.checkout([])
    doc.insert(2, element)
    assert doc.pending == 1
    assert [group.length for group in doc.groups() if group.agent == "me"] == [3]
    doc.receive(runs([first]))
    assert (doc.pending, len(doc)) == (0, len(base) + 6)
    doc.verify()
    doc._check()


@pytest.mark.parametrize("kind", ["text", "list"])
def test_seqs_go_on(kind: str) -> None:
    """Whoever opens the document again under the same name never uses a seq again."""
    rng = Random(kind)
    world = generate.World(rng, values=kind == "list", odd=True)
    doc = Document(kind, agent="ann")
    used: set[int] = set()
    for i in range(12):
        before = doc.version_vector.get("ann", [(0, 0)])[-1][1]
        doc.insert(rng.randint(0, len(doc)), world.content(2))
        doc.delete(0)
        (span,) = doc.version_vector["ann"]
        assert span == (0, before + 3)
        new = set(range(before, before + 3))
        assert not new & used
        used |= new
        doc = Document.decode(doc.encode(deleted=i % 4 != 3), agent="ann")
        assert doc._replica.unread is not None
    doc.verify()
    doc._check()


def test_seqs_go_on_behind_holes() -> None:
    doc = Document(agent="reader", id=DOC_ID)
    doc.receive(runs([Txn("ann", 7, (), ((0, 0, "abc"),)), Txn("ann", 2, (("ann", 9),), ((0, 0, "x"),))]))
    again = Document.decode(doc.encode(), agent="ann")
    again.insert(0, "!")
    assert again._replica.unread is not None
    assert again.version_vector == {"ann": [(2, 3), (7, 11)]}
    doc.merge(again)
    assert doc.content == again.content == "!xabc"


@pytest.mark.parametrize("kind", ["text", "list"])
def test_an_empty_document_becomes_what_comes(kind: str) -> None:
    base = source(kind, Random(kind))
    doc = Document(kind, agent="me")
    change = doc.apply(base.encode())
    assert doc._replica.unread is not None
    assert (change.before, change.after, change.local) == ((), base.version, False)
    assert apply_edits(base.content[:0], change.edits) == base.content
    assert (doc.id, doc.content, doc.version_vector) == (base.id, base.content, base.version_vector)
    assert not doc.apply(base.encode())
    doc.verify()
    doc._check()


@pytest.mark.parametrize("kind", ["text", "list"])
def test_of_nothing(kind: str) -> None:
    twins = Twins(Document(kind, agent="ann", id=DOC_ID))
    twins.watch()
    world = generate.World(Random(1), values=kind == "list")
    for _ in range(5):
        edit(Random(2), twins, world)
    assert twins.is_lazy()
    content = world.content(2)
    twins.do(lambda doc: doc.receive(runs([Txn("root", 0, (), ((0, 0, content),))])))
    twins.compare_all()


@pytest.mark.parametrize("kind", ["text", "list"])
def test_threads(kind: str) -> None:
    """Some type, some read, some bring what is concurrent, and so the history: nothing is lost."""
    base = source(kind, Random(1))
    for number in range(10):
        use_from_threads(base, past=number % 2 == 0)


def use_from_threads(base: Document, past: bool) -> None:
    element: Any = "x" if base.kind == "text" else [7]
    doc = Document.decode(base.encode(), agent="me")
    others = [base.fork(f"other{i}") for i in range(3)]
    for other in others:
        other.insert(0, element)

    def type_() -> None:
        for _ in range(50):
            doc.insert(len(base) // 2, element)

    def read() -> None:
        for _ in range(50):
            assert len(doc.content) >= len(base)
            assert doc.version_vector
            doc.slice(0, len(base))

    def merge(other: Document) -> None:
        doc.merge(other)

    def look_back() -> None:
        if past:
            doc.checkout(base.version)
        else:
            doc.history()

    acts: list[Callable[[], None]] = [type_, read, look_back, *[partial(merge, other) for other in others]]
    barrier = threading.Barrier(len(acts))
    errors: list[BaseException] = []

    def run(act: Callable[[], None]) -> None:
        try:
            barrier.wait()
            act()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert len(doc) == len(base) + 53
    assert doc.version_vector["me"] == [(0, 50)]
    doc._check()
    doc.verify()
