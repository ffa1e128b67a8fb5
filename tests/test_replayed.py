"""Replayed documents against a replay by the book: whatever arrives, and however late."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice, pairwise
from random import Random
from typing import Any

import pytest
import replayed as book
from hypothesis import given, settings
from hypothesis import strategies as st
from replayed import KEPT, KINDS, Peers, Plugin
from test_damage import Form, Parts, damaged, mutate

import egwalker
from egwalker import (
    Change,
    ConflictError,
    DecodeError,
    Document,
    IdentityError,
    KindError,
    OperationError,
    PluginError,
    Run,
    formats,
    plugin_manager,
)
from egwalker import replayed as engine
from egwalker.cycore import encoder
from egwalker.cycore.oplog import OpLog
from egwalker.kinds import kind_of
from egwalker.replayed import Checkpoint, thinned
from egwalker.replica import Replica
from egwalker.transports.testing import assert_converged


@pytest.fixture(autouse=True, scope="module")
def trail() -> Iterator[None]:
    """A user's type, beside those that are built in."""
    egwalker.add_plugin(Plugin(), "trail")
    yield
    for cache in (plugin_manager.manager, plugin_manager.load_transports, plugin_manager.document_types):
        cache.cache_clear()


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undos are few and checkpoints near, so that short histories need both."""
    shrink(monkeypatch)


def shrink(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "BATCH", 3)
    monkeypatch.setattr(engine, "UNDOS", 4)
    monkeypatch.setattr(engine, "DISTANCE", 5)
    monkeypatch.setattr(engine, "BYTES_PER_OPERATION", 1 << 20)


# --- random histories ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(40))
@pytest.mark.usefixtures("small")
def test_peers(kind: str, seed: int) -> None:
    rng = Random(seed)
    peers = Peers(rng, kind, rng.randint(2, 5))
    for _ in range(rng.randint(5, 40)):
        peers.step()
    peers.converge()
    assert_converged(*peers.documents, thoroughly=True)


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    seed=st.integers(0, 2**32),
    count=st.integers(2, 5),
    steps=st.integers(1, 30),
)
def test_any_peers(kind: str, seed: int, count: int, steps: int) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        shrink(monkeypatch)
        peers = Peers(Random(seed), kind, count)
        for _ in range(steps):
            peers.step()
        peers.converge()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(10))
@pytest.mark.usefixtures("small")
def test_who_was_away_returns(kind: str, seed: int) -> None:
    """Hundreds of operations behind: from a checkpoint, with the same result as a replay from nothing."""
    rng = Random(seed)
    peers = Peers(rng, kind, 3)
    ann, bob, away = peers.documents
    for _ in range(rng.randint(0, 5)):
        peers.perform(ann)
    bob.merge(ann)
    away.merge(ann)
    for _ in range(150):
        one, other = rng.sample((ann, bob), 2)
        peers.perform(one)
        if rng.random() < 0.7:
            other.merge(one)
    ann.merge(bob)
    for _ in range(rng.randint(1, 5)):
        peers.perform(away)
    change = ann.merge(away)
    assert change.rewound > 100
    peers.converge()


def ops_of(document: Document) -> list[Any]:
    """All operations in the total order."""
    ops = {(run.agent, run.seq + i): op for run in document.history() for i, op in enumerate(run.operations)}
    return [ops[group.agent, group.seq + i] for group in document.groups() for i in range(group.length)]


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.usefixtures("small")
def test_what_a_change_says(seed: int) -> None:
    """Its edits put the new operations where they are; and it was rewound to the first one's place."""
    rng = Random(seed)
    peers = Peers(rng, "trail", 3)
    told: list[Change] = []
    with peers.documents[0].subscribe(told.append):
        for _ in range(30):
            one = peers.documents[0]
            before, version, seen = ops_of(one), one.version, len(told)
            if rng.random() < 0.3:
                with one.transaction():
                    peers.perform(one)
                    peers.perform(one)
            elif rng.random() < 0.5:
                peers.perform(rng.choice(peers.documents[1:]))
                continue
            else:
                peers.bring(one, rng.choice(peers.documents[1:]))
            now = before.copy()
            for change in told[seen:]:
                assert change.before == version
                version = change.after
                assert change.rewound == max((len(now) - change.edits[0].pos, 0)) or len(change.edits) > 1
                assert change.rewound <= len(now) - change.edits[0].pos
                for pos, deleted, inserted in change.edits:
                    assert deleted == 0
                    now[pos:pos] = inserted
            assert now == ops_of(one)
            assert version == one.version


@pytest.mark.usefixtures("small")
def test_rewound_is_how_many_were_undone() -> None:
    ann = Document("trail", agent="ann")
    bob = ann.fork("bob")
    zoe = ann.fork("zoe")
    for i in range(10):
        zoe.perform(i)
    bob.perform("b")
    assert zoe.merge(bob).rewound == 10
    assert zoe.content == ["b", *range(10)]
    ann.perform("a")
    assert zoe.merge(ann).rewound == 11
    assert bob.merge(zoe).rewound == 1
    assert ann.merge(bob).rewound == 0


def test_local_operations_are_never_rewound() -> None:
    rng = Random(5)
    peers = Peers(rng, "trail", 4)
    told: list[Change] = []
    for _ in range(60):
        document = rng.choice(peers.documents)
        with document.subscribe(told.append):
            peers.perform(document)
        document.merge(rng.choice(peers.documents))
    assert len(told) == 60
    assert all(change.local and change.rewound == 0 for change in told)


@pytest.mark.parametrize("count", [1, 2, 3, 10, 100, 1000])
def test_checkpoints_are_few_and_near(count: int) -> None:
    rng = Random(count)
    places: list[Checkpoint] = []
    at = 0
    for _ in range(count):
        at += rng.randint(1, 20)
        places = thinned([*places, Checkpoint(at, b"")])
    found = [0, *[checkpoint.place for checkpoint in places]]
    assert found[-1] == at
    assert len(found) < 4 + 3 * at.bit_length()
    for before, after in pairwise(found):
        # As near as what follows: or there never was one between.
        assert after - before <= max(at - after, 20)


def test_undos_are_not_kept_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    shrink(monkeypatch)
    doc = Document("counter", agent="ann")
    for _ in range(500):
        doc.perform(1)
    replay = doc._replica.main
    assert isinstance(replay, engine.Replay)
    assert len(replay._undos) <= 2 * engine.UNDOS + engine.BATCH
    assert len(replay._checkpoints) < 30
    doc._check()


# --- what is refused ----------------------------------------------------------------------------------------

BAD: dict[str, list[Any]] = {
    "map": [None, 3, {}, {"set": ["a"]}, {"set": [], "to": 1}, {"set": "a", "to": 1}, {"set": [1], "to": 1},
            {"remove": ["a"], "to": 1}, {"set": ["a"] * 201, "to": 1}],
    "counter": [None, "1", 1.0, True, 1 << 60],
    "table": [None, {"insert": "a"}, {"insert": 1, "row": {}}, {"update": "a", "row": 3}, {"delete": None},
              {"delete": "a", "row": {}}],
    "queue": [None, "first", {"join": "a", "leave": "b"}],
    "trail": [None],
}  # fmt: skip


def everything(document: Document) -> tuple[Any, ...]:
    return document.content, document.version, document.version_vector, document.groups(), document.pending


@pytest.mark.parametrize(("kind", "op"), [(kind, op) for kind, ops in BAD.items() for op in ops])
def test_what_is_no_operation(kind: str, op: Any) -> None:
    """It is refused wherever it comes from, is named, and changes nothing."""
    doc = Document(kind, agent="ann", id="0" * 32)
    good = book.random_op(Random(1), kind)
    doc.perform(good)
    before = everything(doc)
    with pytest.raises(OperationError) as caught:
        doc.perform(op)
    assert repr(op)[:100] in str(caught.value)
    with pytest.raises(OperationError):
        doc.branch().perform(op)
    # Behind a good one: the update is refused as a whole.
    runs = [Run("bob", 0, (), ((0, 0, [good]),)), Run("bob", 1, (("bob", 0),), ((1, 0, [op]),))]
    with pytest.raises(OperationError) as caught:
        doc.receive(runs)
    assert repr(op)[:100] in str(caught.value)
    lax = smuggled(kind, runs)
    for data in (lax.encode(), lax.encode(since={"bob": [(0, 1)]}), lax.encode(since={"ann": []})):
        with pytest.raises(DecodeError) as error:
            doc.apply(data)
        assert repr(op)[:100] in str(error.value)
    with pytest.raises(DecodeError):
        Document.decode(lax.encode())
    assert everything(doc) == before
    doc._check()


def document_of(provided: Any, agent: str) -> Document:
    """A document of a type that is not registered."""
    kind = kind_of(provided)
    log = OpLog(True)
    return Document._of(Replica(kind, kind.checkout(log)), agent, "0" * 32)


def smuggled(kind: str, runs: list[Run]) -> Document:
    """A document of somebody whose type checks nothing."""

    class Lax(book.Trail):
        name = kind

        def check(self, op: Any) -> None:
            pass

    document = document_of(Lax(), "eve")
    document.receive(runs)
    return document


@pytest.mark.parametrize(
    "ops",
    [((0, 1, []),), ((1, 0, [5]),), ((0, 0, [5]), (0, 0, [5])), ((0, 0, [5]), (1, 1, [])), ((5, 0, [5]),)],
)
def test_events_that_are_no_operations(ops: Any) -> None:
    """Each is inserted at the position that is its seq: there are no others, by which they could differ."""
    doc = Document("counter", agent="ann", id="0" * 32)
    doc.perform(1)
    before = everything(doc)
    with pytest.raises(DecodeError, match="is no operation"):
        doc.receive([Run("bob", 0, (), ops)])
    with pytest.raises(DecodeError, match="is no operation"):
        doc.receive([Run("bob", 7, (("ann", 0),), ops), Run("cy", 0, (), ((0, 0, [5]),))])
    assert everything(doc) == before
    doc._check()
    # The same in a document and in an update.
    other = Document("list", agent="bob", id="0" * 32)
    other.insert(0, [5, 5])
    other.delete(0)
    with pytest.raises(DecodeError, match="is no operation"):
        doc.apply(other.encode(since={"cy": [(0, 1)]}))
    with pytest.raises(KindError):
        doc.apply(other.encode())
    assert everything(doc) == before


def test_an_operation_that_is_known_with_something_else() -> None:
    doc = Document("counter", agent="ann")
    doc.perform(1)
    with pytest.raises(ConflictError):
        doc.receive([Run("ann", 0, (), ((0, 0, [2]),))])


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("before", [0, 3, 30])
def test_one_that_fails(before: int) -> None:
    """Here, from elsewhere, and where it comes to stand: the document is as it was, and it is named."""
    doc = Document("trail", agent="ann")
    bob = doc.fork("bob")
    for i in range(before):
        doc.perform(i)
    known = everything(doc)
    with pytest.raises(OperationError, match=r"ann:\d+, 'fail', failed: RuntimeError: it was not allowed"):
        doc.perform("fail")
    branch = doc.branch([])
    with pytest.raises(OperationError, match="'fail'"):
        branch.perform("fail")
    assert branch.content == []
    bob.perform("allow")
    bob.perform("fail")
    cy = bob.fork("cy")
    cy.perform("after")
    # Alone "fail" fails, and so does all that comes with it.
    runs = [Run(*run) for run in cy.history()]
    assert [run.operations for run in runs] == [["allow", "fail"], ["after"]]
    bad = Run("bob", 0, (), ((0, 0, ["x", "fail", "y"]),))
    with pytest.raises(OperationError, match="bob:1, 'fail'"):
        doc.receive([bad, Run("dee", 0, (), ((0, 0, ["good"]),))])
    assert everything(doc) == known
    doc._check()
    doc.merge(cy)
    assert "after" in doc.content
    doc._check()


@pytest.mark.usefixtures("small")
def test_one_that_fails_because_of_one_that_came_late() -> None:
    """What was allowed is not any more when somebody has taken that back in time."""
    zoe = Document("trail", agent="zoe")
    zoe.perform("allow")
    bob = zoe.fork("bob")
    ann = zoe.fork("ann")
    bob.perform("fail")
    for i in range(20):
        bob.perform(i)
    ann.perform({"cut": 1})
    known = everything(bob)
    told: list[Change] = []
    with bob.subscribe(told.append), pytest.raises(OperationError, match="bob:0, 'fail'"):
        bob.merge(ann)
    assert told == []
    assert everything(bob) == known
    bob._check()
    with pytest.raises(OperationError, match="bob:0, 'fail'"):
        ann.merge(bob)
    assert ann.content == []
    zoe.perform("later")
    bob.merge(zoe)
    assert bob.content == ["allow", "later", "fail", *range(20)]


def test_one_that_waited_and_fails_is_dropped(caplog: pytest.LogCaptureFixture) -> None:
    doc = Document("trail", agent="ann")
    doc.receive([Run("bob", 1, (("bob", 0),), ((1, 0, ["fail"]),))])
    assert doc.pending == 1
    doc.receive([Run("bob", 0, (), ((0, 0, ["first"]),))])
    assert doc.pending == 0
    assert doc.content == ["first"]
    assert "dropped the events of 'bob' from 1 on" in caplog.text
    doc._check()


class Unpicklable(book.Trail):
    name = "unpicklable"

    def initial(self) -> list[Any]:
        return [lambda: None]


class Forgetful(book.Trail):
    """Its `undo` undoes nothing."""

    name = "forgetful"

    def undo(self, state: list[Any], undo: Any) -> None:
        pass


class Refusing(book.Trail):
    name = "refusing"

    def undo(self, state: list[Any], undo: Any) -> None:
        raise RuntimeError("no way back")


@pytest.mark.usefixtures("small")
def test_types_that_are_wrong() -> None:
    doc = document_of(Unpicklable(), "ann")
    for _ in range(4):
        doc.perform(1)
    with pytest.raises(PluginError, match="the state of a unpicklable document cannot be copied"):
        doc.perform(1)
    assert len(doc) == 4
    with pytest.raises(PluginError):
        doc.fork("bob")

    for provided in (Forgetful(), Refusing()):
        zoe = document_of(provided, "zoe")
        zoe.perform("z")
        late = Run("ann", 0, (), ((0, 0, ["a"]),))
        if isinstance(provided, Refusing):
            with pytest.raises(OperationError, match="could not be undone: RuntimeError: no way back"):
                zoe.receive([late])
            assert zoe.content == ["z"]
            zoe._check()
            continue
        zoe.receive([late])
        told: list[Change] = []
        with zoe.subscribe(told.append), pytest.raises(DecodeError, match="not what the history makes"):
            zoe.verify()
        assert len(told) == 1
        assert zoe.content == ["a", "z"]
        zoe.verify()


def test_only_replayed_documents_take_operations() -> None:
    doc = Document("map", agent="ann")
    wrong: Callable[[], object]
    for wrong in (
        lambda: doc.insert(0, ["x"]),
        lambda: doc.delete(0),
        lambda: doc.slice(0, 0),
        doc.cursor,
        doc.blame,
        lambda: doc.branch().insert(0, ["x"]),
        lambda: doc.branch().delete(0),
    ):
        with pytest.raises(KindError, match="'map' has no positions: `perform` edits it"):
            wrong()
    for kind in ("text", "list"):
        with pytest.raises(KindError, match="has no operations"):
            Document(kind).perform(1)
        with pytest.raises(KindError, match="has no operations"):
            Document(kind).branch().perform(1)
    assert doc.events == 0


# --- as other documents -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("suffix", [".egw", ".json", ".json.gz"])
def test_files(kind: str, suffix: str, tmp_path: Any) -> None:
    rng = Random(f"{kind}{suffix}")
    peers = Peers(rng, kind, 3)
    for _ in range(20):
        peers.step()
    peers.converge()
    doc = peers.documents[0]
    path = tmp_path / f"doc{suffix}"
    formats.save(doc, path)
    again = formats.load(path, "ann").document
    assert_converged(doc, again, thoroughly=True)
    op = book.random_op(rng, kind)
    again.perform(op)
    doc.perform(op)
    assert_converged(doc, again)


@pytest.mark.parametrize("kind", KINDS)
def test_bytes(kind: str) -> None:
    rng = Random(kind)
    peers = Peers(rng, kind, 3)
    for _ in range(30):
        peers.step()
    peers.converge()
    doc = peers.documents[0]
    data = doc.encode()
    assert data == doc.encode(deleted=False)
    assert (data == doc.encode(content=False)) == (kind == "trail"), "it cannot write its state down"
    assert_converged(doc, Document.decode(data), thoroughly=True)
    for at in range(0, doc.events + 1, 7):
        version = doc.version_at(at)
        assert doc.checkout(version) == peers.book.content(version)
        part = Document(kind, agent="part", id=doc.id)
        part.apply(doc.encode(since={}))
        assert part.content == doc.content


def test_positions_take_a_byte_a_run() -> None:
    """They say nothing: one goes on from its agent's last one."""
    doc = Document("counter", agent="ann")
    bob = doc.fork("bob")
    for i in range(100):
        doc.perform(i)
        if not i % 10:
            bob.merge(doc)
            bob.perform(i)
            doc.merge(bob)
    columns = encoder.write(doc._replica.log, [(0, len(doc._replica.log))])
    assert len(columns.lengths) == 21
    assert len(columns.positions) <= 21


def test_content_is_nobody_elses() -> None:
    """What one was given, or gave, may be changed: the document is not."""
    doc = Document("map", agent="ann")
    value = {"b": [1]}
    doc.perform({"set": ["a"], "to": value})
    value["b"].append(2)
    content = doc.content
    content["a"]["b"].append(3)
    content["c"] = 4
    assert doc.content == {"a": {"b": [1]}}
    told: list[Change] = []
    with doc.subscribe(told.append):
        doc.perform({"set": ["d"], "to": {}})
    told[0].edits[0].inserted[0]["to"]["x"] = 1
    assert doc.content == {"a": {"b": [1]}, "d": {}}


def test_the_order_of_keys_is_the_same_everywhere() -> None:
    ann = Document("map", agent="ann")
    bob = ann.fork("bob")
    ann.perform({"set": ["b"], "to": {"z": 1, "a": [{"y": 1, "x": 2}]}})
    ann.perform({"set": ["a"], "to": 1})
    bob.perform({"remove": ["b"]})
    bob.perform({"set": ["c"], "to": 1})
    ann.merge(bob)
    bob.merge(ann)
    assert repr(ann.content) == repr(bob.content) == repr(Document.decode(ann.encode()).content)
    doc = Document("map")
    doc.perform({"set": ["q"], "to": {"z": 1, "a": [{"y": 1, "x": 2}]}})
    assert repr(doc.content) == "{'q': {'a': [{'x': 2, 'y': 1}], 'z': 1}}"


def forms(kind: str) -> dict[str, Form]:
    """A whole document, an update and a single run."""
    peers = Peers(Random(kind), kind, 3)
    for _ in range(12):
        peers.step()
    peers.converge()
    doc = peers.documents[0]
    half = doc.vector_at(doc.version_at(doc.events // 2))
    part = Document(kind, agent="part", id=doc.id)
    part.receive(doc.history())
    before = part.version_vector
    peers.perform(doc)

    def replica() -> Document:
        found = Document(kind, agent="target", id=doc.id)
        found.merge(part)
        return found

    return {
        "whole": Form(doc.encode(), kind, lambda: Document(kind, agent="target", id=doc.id)),
        "update": Form(doc.encode(since=half), kind, replica),
        "run": Form(doc.encode(since=before), kind, replica),
    }


def check_opened(wrong: bytes, right: Document) -> None:
    """What was damaged is not opened, or its history is found to be damaged when it is read."""
    try:
        opened = Document.decode(wrong)
    except DecodeError:
        return
    assert opened.content == right.content
    with pytest.raises(DecodeError):
        opened.checkout([])
    assert opened.content == right.content


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["whole", "update", "run"])
def test_damage(kind: str, name: str) -> None:
    """Any byte changed: the checksums find it. Anything in the columns: an error, or a sound document."""
    form = forms(kind)[name]
    doc = form.target()
    before = everything(doc)
    right = form.target()
    right.apply(form.data)
    for wrong in islice(damaged(form.data), 0, None, 7):
        if wrong == form.data:
            continue
        try:
            doc.apply(wrong)
        except (DecodeError, IdentityError):
            pass
        else:
            # A cached state that was not looked at.
            assert (name, kind in KEPT) == ("whole", True)
            assert everything(doc) == everything(right)
            doc = form.target()
        assert everything(doc) == before
        if name == "whole":
            check_opened(wrong, right)
    rng = Random(f"{kind}{name}")
    parts = Parts.of(form)
    found: Counter[str] = Counter()
    for _ in range(150):
        wrong_parts = parts
        for _ in range(rng.choice((1, 1, 2))):
            field = rng.choice(wrong_parts.fields())
            wrong_parts = wrong_parts.put(field, mutate(rng, wrong_parts.get(field)))
        doc = form.target()
        before = everything(doc)
        try:
            doc.apply(wrong_parts.build())
        except egwalker.EgwalkerError as error:
            assert everything(doc) == before
            found[type(error).__name__] += 1
        else:
            doc.verify()
            assert Document.decode(doc.encode()).content == doc.content
            found["applied"] += 1
        doc._check()
    assert found["DecodeError"] > 50
