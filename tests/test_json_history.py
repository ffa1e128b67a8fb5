"""Histories and traces as JSON."""

from __future__ import annotations

import gzip
import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import generate
import oracle
import pytest

from egwalker import DecodeError, Document, KindError, LimitError, Run, json_history
from egwalker.json_history import dumps, dumps_gzip, loads

HISTORY: dict[str, Any] = {
    "endContent": "a-c!",
    "txns": [
        {"agent": "ann", "seqStart": 0, "span": [0, 3], "parents": [], "ops": [[0, 0, "abc"]]},
        {"agent": "bob", "seqStart": 4, "span": [3, 5], "parents": [2], "ops": [[1, 1, ""], [1, 0, "-"]]},
        {"agent": "ann", "seqStart": 3, "span": [5, 6], "parents": [2], "ops": [[3, 0, "!"]]},
    ],
}

TRACE: dict[str, Any] = {
    "kind": "concurrent",
    "endContent": "a-c!",
    "numAgents": 2,
    "txns": [
        {"parents": [], "agent": 1, "patches": [[0, 0, "abc"]], "time": "whenever"},
        {"parents": [0], "agent": 0, "patches": [[1, 1, "-"]]},
        {"parents": [0], "agent": 1, "patches": [[3, 0, "!"]]},
        {"parents": [1, 2], "agent": 0, "patches": []},
        {"parents": [3], "agent": 0, "patches": []},
    ],
}

SEQUENTIAL: dict[str, Any] = {
    "startContent": "abc",
    "endContent": "a-c!",
    "txns": [
        {"time": "2021-04-19T06:06:58.219Z", "patches": [[1, 1, "-"]]},
        {"time": "2021-04-19T06:06:58.219Z", "patches": [[3, 0, "?"], [3, 1, "!"]]},
    ],
}


def encoded(history: object) -> bytes:
    return json.dumps(history).encode()


def held(doc: Document) -> object:
    """A document's history, whatever pieces its runs are in."""
    log = doc._replica.log
    events = []
    for run in doc.history():
        parents = run.parents
        for op in log.ops(log.graph.lv(run.agent, run.seq), log.graph.lv(run.agent, run.seq) + run.length):
            for i in range(op.length):
                seq = run.seq + op.start + i - log.graph.lv(run.agent, run.seq)
                content = op.content[i : i + 1] if op.kind == "insert" else None
                events.append((run.agent, seq, parents, op.kind, op.pos + op.step * i, content))
                parents = ((run.agent, seq),)
    return events


class TestHistories:
    def test_read(self) -> None:
        doc, matches, _ = loads(encoded(HISTORY), agent="me")
        assert matches is True
        assert (doc.kind, doc.agent, doc.content) == ("text", "me", "a-c!")
        assert doc.version_vector == {"ann": [(0, 4)], "bob": [(4, 6)]}
        assert doc.history()[1] == Run("bob", 4, (("ann", 2),), ((1, 1, ""), (1, 0, "-")))
        doc._check()

    def test_compressed(self) -> None:
        assert loads(gzip.compress(encoded(HISTORY))).document.content == "a-c!"

    def test_without_an_end(self) -> None:
        history = {"txns": HISTORY["txns"]}
        assert loads(encoded(history)).text_matches is None
        assert loads(b'{"txns": []}').document.content == ""

    @pytest.mark.parametrize("name", ["three", "two_long"])
    def test_round_trip_of_fixtures(self, name: str) -> None:
        for history in generate.fixture(name)[:8]:
            doc = loads(encoded(history)).document
            data = dumps(doc)
            again, matches, _ = loads(data)
            assert matches is True
            assert held(again) == held(doc)
            assert again.version == doc.version
            # Other readers of this form agree about it.
            written = json.loads(data)
            assert oracle.replay(oracle.read_history(written)).content() == history["endContent"]

    def test_round_trip_of_a_list(self) -> None:
        doc = Document("list", agent="alice")
        doc.insert(0, [1, {"a": ["é\n"]}, None])
        doc.delete(1)
        doc.insert(2, [2.5])
        data = dumps(doc)
        assert json.loads(data)["kind"] == "list"
        again, matches, _ = loads(data)
        assert matches is True
        assert again.content == doc.content == [1, None, 2.5]
        assert held(again) == held(doc)

    def test_round_trip_of_nothing(self) -> None:
        assert loads(dumps(Document("list"))).document.content == []

    def test_one_txn_a_line(self) -> None:
        doc = loads(encoded(HISTORY)).document
        assert dumps(doc).decode().splitlines() == [
            f'{{"kind":"text","id":"{doc.id}","endContent":"a-c!","txns":[',
            '{"agent":"ann","seqStart":0,"span":[0,3],"parents":[],"ops":[[0,0,"abc"]]},',
            '{"agent":"bob","seqStart":4,"span":[3,5],"parents":[2],"ops":[[1,1,""],[1,0,"-"]]},',
            '{"agent":"ann","seqStart":3,"span":[5,6],"parents":[2],"ops":[[3,0,"!"]]}',
            "]}",
        ]

    def test_compressed_twice_is_the_same(self) -> None:
        doc = loads(encoded(HISTORY)).document
        assert dumps_gzip(doc) == dumps_gzip(doc)
        assert gzip.decompress(dumps_gzip(doc)) == dumps(doc)

    def test_names_and_texts_of_all_kinds(self) -> None:
        doc = Document(agent='a "quoted",\n\x00 \N{GRINNING FACE}')
        doc.insert(0, '\x00"\\\u2028\N{GRINNING FACE}')
        again = loads(dumps(doc)).document
        assert again.content == doc.content
        assert again.version == doc.version

    def test_progress(self) -> None:
        told: list[tuple[str, int, int]] = []
        loads(encoded(HISTORY), progress=lambda *args: told.append(args))
        assert told == [("reading", 0, 0), ("reading", 0, 3), ("replaying", 6, 6)]


class TestTraces:
    def test_concurrent(self) -> None:
        doc, matches, _ = loads(encoded(TRACE))
        assert matches is True
        assert doc.content == "a-c!"
        assert doc.version_vector == {"0": [(0, 2)], "1": [(0, 4)]}

    def test_positions_of_patches_go_on(self) -> None:
        txn = {"parents": [], "agent": 0, "patches": [[0, 0, "abc"], [1, 1, "xy"], [3, 0, "z"]]}
        trace = {"kind": "concurrent", "endContent": "axyzc", "txns": [txn]}
        assert loads(encoded(trace)).text_matches is True

    def test_sequential(self) -> None:
        doc, matches, _ = loads(encoded(SEQUENTIAL))
        assert matches is True
        assert doc.version == (("0", 7),)
        assert doc.checkout([("0", 2)]) == "abc"
        assert [run.length for run in doc.history()] == [8]

    def test_a_start_that_is_all(self) -> None:
        assert loads(b'{"startContent": "abc", "endContent": "abc", "txns": []}').document.content == "abc"

    def test_a_start_of_concurrent_txns(self) -> None:
        trace = deepcopy(TRACE)
        trace |= {"startContent": "<>", "endContent": "a-c!<>"}
        assert loads(encoded(trace)).text_matches is True

    def test_txns_without_patches_stand_for_their_parents(self) -> None:
        trace = deepcopy(TRACE)
        trace["txns"].append({"parents": [4], "agent": 1, "patches": [[4, 0, "."]]})
        trace["endContent"] = "a-c!."
        doc = loads(encoded(trace)).document
        assert doc.history()[-1].parents == (("0", 1), ("1", 3))

    def test_names_sort_as_numbers(self) -> None:
        txns = [{"parents": [], "agent": agent, "patches": [[0, 0, str(agent)]]} for agent in (10, 9, 100)]
        trace = {"kind": "concurrent", "endContent": "910100", "txns": txns}
        doc, matches, _ = loads(encoded(trace))
        assert matches is True
        assert list(doc.version_vector) == ["010", "009", "100"]

    def test_another_text_of_the_same_length(self) -> None:
        trace = TRACE | {"endContent": "a-!c"}
        doc, matches, _ = loads(encoded(trace))
        assert matches is False
        assert doc.content == "a-c!"

    def test_another_length(self) -> None:
        with pytest.raises(DecodeError, match=r"endContent.*5.*4"):
            loads(encoded(TRACE | {"endContent": "a-c!!"}))

    @pytest.mark.parametrize(
        "name", ["friendsforever", "automerge-paper", "node_nodecc-raw", "git-makefile-raw"]
    )
    def test_recorded_ones(self, traces_folder: Path, name: str) -> None:
        doc, matches, _ = loads((traces_folder / f"{name}.json.gz").read_bytes())
        assert matches is True
        again, matches, _ = loads(dumps_gzip(doc))
        assert matches is True
        assert again.version_vector == doc.version_vector


def changed(history: dict[str, Any], txn: int | None, field: str, value: object) -> dict[str, Any]:
    """A copy of a history with one field changed, or left out if the value is `...`."""
    copy = deepcopy(history)
    where = copy if txn is None else copy["txns"][txn]
    if value is ...:
        del where[field]
    else:
        where[field] = value
    return copy


class TestDamage:
    @pytest.mark.parametrize(
        ("txn", "field", "value", "why"),
        [
            (None, "txns", ..., '"txns"'),
            (None, "txns", {}, '"txns"'),
            (None, "txns", [5], "txn 0 should be a JSON object, not 5"),
            (None, "kind", 5, "kind.*5"),
            (None, "endContent", 5, "endContent: a text takes str, not int"),
            (None, "endContent", None, "endContent"),
            (None, "endContent", "a-c", "endContent: has 3 elements, but the txns make 4"),
            (None, "endContent", "a-d!", "endContent: differs.* from element 2 on"),
            (0, "agent", ..., "txn 0: agent: .*NoneType"),
            (1, "agent", 5, "txn 1: agent: .*int"),
            (1, "agent", "", "txn 1: agent"),
            (1, "agent", "x" * 256, "txn 1: agent: .*256"),
            (1, "agent", "\ud800", "txn 1: agent: .*surrogate"),
            (2, "seqStart", ..., "txn 2: seqStart: .*None"),
            (2, "seqStart", "3", "txn 2: seqStart: .*'3'"),
            (2, "seqStart", 3.0, r"txn 2: seqStart: .*3\.0"),
            (2, "seqStart", True, "txn 2: seqStart: .*True"),
            (2, "seqStart", -1, "txn 2: seqStart: .*-1"),
            (2, "seqStart", 2**53, "txn 2: seqStart"),
            (2, "seqStart", 10**400, "txn 2: seqStart"),
            (2, "seqStart", 2, "txn 2: seqStart: .*ann"),
            (2, "span", ..., r"txn 2: span: should be \[5, 6\].*None"),
            (2, "span", [5, 7], r"txn 2: span: .*\[5, 7\]"),
            (2, "span", [4, 5], r"txn 2: span"),
            (2, "span", "56", "txn 2: span"),
            (1, "parents", ..., "txn 1: parents: .*None"),
            (1, "parents", 2, "txn 1: parents: .*2"),
            (1, "parents", [3], "txn 1: parents: .*0:3, not 3"),
            (1, "parents", [-1], "txn 1: parents: .*-1"),
            (1, "parents", [2.0], r"txn 1: parents: .*2\.0"),
            (1, "parents", ["2"], "txn 1: parents: .*'2'"),
            (1, "parents", [10**30], "txn 1: parents"),
            (1, "ops", ..., "txn 1: ops: .*None"),
            (1, "ops", "abc", "txn 1: ops: .*'abc'"),
            (1, "ops", [[0, 0]], r"txn 1: ops: .*\[0, 0\]"),
            (1, "ops", [[0, 0, "a"], 5], "txn 1: ops: .*not 5"),
            (1, "ops", [[0, 0, 5]], "txn 1: ops: .*int"),
            (1, "ops", [[0, 0, "\udc00"]], "txn 1: ops: .*surrogate"),
            (1, "ops", [["0", 0, "ab"]], "txn 1: ops: .*'0'"),
            (1, "ops", [[0, None, "ab"]], "txn 1: ops: .*None"),
            (1, "ops", [[-1, 0, "ab"]], "txn 1: ops: .*-1"),
            (1, "ops", [[0, -1, "abc"]], "txn 1: ops: .*-1"),
            (1, "ops", [[0, 2**80, ""]], "txn 1: ops"),
            (1, "ops", [[4, 0, "ab"]], "txn 1: ops: .*bob:4.* 4"),
            (1, "ops", [[0, 0, "a"], [5, 0, "b"]], "txn 1: ops: .*bob:5.* 5"),
            (0, "ops", [[1, 0, "abc"]], "txn 0: ops: .*ann:0"),
            (2, "ops", [[3, 1, ""]], "txn 2: ops: .*ann:3"),
        ],
    )
    def test_histories(self, txn: int | None, field: str, value: object, why: str) -> None:
        with pytest.raises(DecodeError, match=why):
            loads(encoded(changed(HISTORY, txn, field, value)))

    @pytest.mark.parametrize(
        ("txn", "field", "value", "why"),
        [
            (None, "startContent", 5, "startContent: .*int"),
            (None, "startContent", "\ud800", "startContent: .*surrogate"),
            (1, "agent", "0", "txn 1: agent: .*'0'"),
            (1, "agent", -1, "txn 1: agent: .*-1"),
            (1, "agent", ..., "txn 1: agent"),
            (1, "agent", 10**300, "txn .: seqStart: agent name"),
            (1, "parents", ..., "txn 1: parents"),
            (1, "parents", [1], "txn 1: parents: .*0:1, not 1"),
            (1, "patches", ..., "txn 1: patches"),
            (1, "patches", [[0, 1]], "txn 1: patches"),
            (1, "patches", [[4, 0, "x"]], "txn 1: patches: .* 4"),
        ],
    )
    def test_traces(self, txn: int | None, field: str, value: object, why: str) -> None:
        with pytest.raises(DecodeError, match=why):
            loads(encoded(changed(TRACE, txn, field, value)))

    def test_an_id_twice(self) -> None:
        history = deepcopy(HISTORY)
        history["txns"].append(deepcopy(history["txns"][0]) | {"span": [6, 9]})
        with pytest.raises(DecodeError, match=r"txn 3: seqStart: .*ann from 0 on are in an earlier txn"):
            loads(encoded(history))
        history["txns"][3]["ops"] = [[0, 0, "xyz"]]
        with pytest.raises(DecodeError, match="txn 3: seqStart: event ann:0"):
            loads(encoded(history))

    @pytest.mark.parametrize("bad", range(9))
    def test_the_bad_one_of_many(self, bad: int) -> None:
        """What only a replay finds is blamed on the right txn."""
        txns = [
            {
                "agent": "a",
                "seqStart": 3 * i,
                "span": [3 * i, 3 * i + 3],
                "parents": [3 * i - 1] if i else [],
                "ops": [[3 * i, 0, "abc"]] if i != bad else [[3 * i, 0, "ab"], [99, 0, "c"]],
            }
            for i in range(9)
        ]
        with pytest.raises(DecodeError, match=f"txn {bad}: ops: event a:{3 * bad + 2} .* 99"):
            loads(encoded({"txns": txns}))

    @pytest.mark.parametrize(
        ("data", "why"),
        [
            (b"", "no JSON"),
            (b"\xff\xfe\xfd", "no JSON"),
            (b"DMNDTYPS", "no JSON"),
            (b'{"txns": [}', "no JSON"),
            (b'{"txns": [], "endContent": NaN}', "NaN"),
            (b"[]", "list"),
            (b'"text"', "str"),
            (b"[" * 100_000, "no JSON"),
            (b'{"txns": [' + b"9" * 5000 + b"]}", "no JSON"),
            (gzip.compress(b"{}", mtime=0)[:-6], "damaged"),
            (gzip.compress(b"{}", mtime=0)[:12] + b"\xff" * 10, "damaged"),
            (b"\x1f\x8b", "damaged"),
            (gzip.compress(b"nothing", mtime=0), "no JSON"),
        ],
    )
    def test_no_json(self, data: bytes, why: str) -> None:
        with pytest.raises(DecodeError, match=why):
            loads(data)

    def test_an_unknown_kind(self) -> None:
        with pytest.raises(KindError, match="'atlas'"):
            loads(b'{"kind": "atlas", "txns": []}')

    def test_values_that_are_none(self) -> None:
        txn = b'{"agent": "a", "seqStart": 0, "span": [0, 1], "parents": [], "ops": [[0, 0, %s]]}'
        data = b'{"kind": "list", "txns": [' + txn + b"]}"
        assert loads(data % b"[[1]]").document.content == [[1]]
        for bad in (b'"a"', b"5", b'["\\ud800"]', b"null"):
            with pytest.raises(DecodeError, match="txn 0: ops"):
                loads(data % bad)


class TestBounds:
    @pytest.fixture(autouse=True)
    def small(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(json_history, "MAX_BYTES", 1 << 20)

    def test_compressed_bombs(self) -> None:
        bomb = gzip.compress(b'{"txns": []' + b" " * (1 << 20) + b"}")
        assert len(bomb) < 2000
        with pytest.raises(DecodeError, match="more than 1 MiB"):
            loads(bomb)

    def test_what_could_not_be_read_back_is_not_written(self) -> None:
        doc = Document()
        doc.insert(0, "x" * 500_000)
        assert loads(dumps(doc)).text_matches is True
        doc.insert(0, "x" * 100_000)
        with pytest.raises(LimitError, match="more than 1 MiB"):
            dumps(doc)
