"""Tables of histories: that they look as they should, and that they leave nothing out."""

from __future__ import annotations

import ast
import re
from random import Random

import generate
import pytest
from deliver import runs

from egwalker import Document, Run, VersionError, tables

Row = dict[str, str]


def histories(count: int) -> list[tuple[generate.World, Document]]:
    """Random histories of several agents, in a document that has received them in their causal order."""
    found = []
    for seed in range(count):
        world = generate.World(Random(seed), 2 + seed % 4, odd=seed % 2 == 0, crowded=seed % 3 == 0)
        world.run(30)
        doc = Document(agent="reader")
        doc.receive(runs(world.txns))
        found.append((world, doc))
    return found


def rows(table: str) -> list[Row]:
    """The cells of a table, by column."""
    lines = [
        [cell.strip() for cell in line[1:-1].split("│")] for line in table.splitlines() if line[0] == "│"
    ]
    return [dict(zip(lines[0], line, strict=True)) for line in lines[1:]]


def text(cell: str) -> str:
    return str(ast.literal_eval(cell)) if cell[:1] in ("'", '"') else cell


def numbers(cell: str) -> list[int]:
    assert re.fullmatch(r"\[\]|\[ [0-9, -]+ \]", cell), cell
    found: list[int] = []
    for part in re.findall(r"[0-9-]+", cell):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


def test_events_say_all_that_there_is() -> None:
    """Whoever types in the table again has the same document."""
    for _, doc in histories(30):
        found = rows(tables.events(doc))
        assert [row[""] for row in found] == [str(i) for i in range(len(found))]
        ids = [(text(row["site"]), int(row["clock"])) for row in found]
        copy = Document(agent="reader")
        for i, row in enumerate(found):
            op = (int(row["pos"]), int(row["delCount"]), text(row["content"]))
            copy.receive([Run(*ids[i], tuple([ids[parent] for parent in numbers(row["parents"])]), (op,))])
        assert copy.content == doc.content
        assert copy.version_vector == doc.version_vector
        assert copy.version == doc.version


def test_runs_say_all_that_there_is() -> None:
    seen = set()
    for _, doc in histories(30):
        ops, parents = map(rows, tables.runs(doc))
        after = {int(row["range"].split("-")[0]): numbers(row["parents"]) for row in parents}
        ids: list[tuple[str, int]] = []
        copy = Document(agent="reader")
        for row in ops:
            first, last = map(int, row["range"].split("-"))
            assert first == len(ids)
            length, pos, content = last + 1 - first, int(row["pos"]), text(row["content"])
            kind = "insert" if row["delCount"] == "0" else "delete"
            step = int(row.get("step", kind == "insert"))
            seen.add((kind, step))
            assert length == len(content) + int(row["delCount"])
            edits = tuple([(pos + step * i, int(not content), content[i : i + 1]) for i in range(length)])
            before = tuple([ids[parent] for parent in after.get(first, [first - 1])])
            ids += [(text(row["site"]), int(row["clock"]) + i) for i in range(length)]
            copy.receive([Run(*ids[first], before, edits)])
        assert copy.content == doc.content
        assert copy.version_vector == doc.version_vector
    assert seen == {("insert", 1), ("insert", 0), ("delete", 0), ("delete", -1)}


def test_a_walk_brings_each_event_to_its_parents() -> None:
    moved = 0
    for world, doc in histories(40):
        rng = Random(len(world.txns))
        log = rows(tables.events(doc))
        ids = [(text(row["site"]), int(row["clock"])) for row in log]
        past: list[set[int]] = []
        for i, row in enumerate(log):
            past.append({i}.union(*[past[parent] for parent in numbers(row["parents"])]))

        a, _ = generate.random_version(rng, world.document.graph, world.document.graph.everything)
        before = set().union(*[past[ids.index(event)] for event in a])
        shown = tables.walk(doc, a, doc.version).splitlines()
        head, shared, new = (numbers(line.split(": ")[1].rstrip(",")) for line in shown[2:5])
        assert set(new) == set(range(len(log))) - before
        assert set(shared) <= before
        outside = set().union(*[past[event] for event in head])
        assert before == outside | set(shared), (
            "what is not walked again is in the version that the walk starts at"
        )

        walked: set[int] = set()
        prepared: set[int] = set()
        for at in range(6, len(shown), 5):
            event = int(shown[at].removeprefix("doOp "))
            retreated, advanced = (
                numbers(line.split(": ")[1].rstrip(",")) for line in shown[at + 2 : at + 4]
            )
            moved += len(retreated)
            wanted = past[event] - {event} - outside
            if not retreated and not advanced and wanted >= walked:
                prepared = set(walked)  # all that came before: what the walk knew is dropped
            assert set(retreated) <= prepared
            assert not set(advanced) & prepared
            prepared = prepared - set(retreated) | set(advanced)
            assert prepared == wanted & walked
            assert wanted <= walked | before
            walked.add(event)
            prepared.add(event)
        assert set(new) <= walked <= set(new) | set(shared)
    assert moved > 1000


def test_a_walk_between_versions_that_do_not_follow_each_other() -> None:
    alice = Document(agent="alice")
    alice.insert(0, "ab")
    bob = alice.fork("bob")
    alice.insert(2, "c")
    bob.insert(2, "d")
    theirs = bob.version
    alice.insert(3, "e")
    alice.merge(bob)
    assert tables.walk(alice, [("alice", 2)], theirs).splitlines()[:6] == [
        "diff [ 2 ] [ 2, 4 ]",
        "{",
        "  head: [ 1 ],",
        "  shared: [ 2 ],",
        "  bOnly: [ 4 ],",
        "}",
    ]
    with pytest.raises(VersionError, match="bob:9"):
        tables.walk(alice, (), [("bob", 9)])


def test_what_would_not_be_seen_is_spelled_out() -> None:
    doc = Document(agent="日 x")
    doc.insert(0, "漢 \n'\u0301\u200d")
    doc.delete(5)
    assert tables.events(doc) == "\n".join(
        [
            "┌───┬─────┬──────────┬──────────┬──────┬───────┬─────────┐",
            "│   │ pos │ delCount │ content  │ site │ clock │ parents │",
            "├───┼─────┼──────────┼──────────┼──────┼───────┼─────────┤",
            "│ 0 │ 0   │ 0        │ 漢       │ 日 x │ 0     │ []      │",
            "│ 1 │ 1   │ 0        │ ' '      │ 日 x │ 1     │ [ 0 ]   │",
            "│ 2 │ 2   │ 0        │ '\\n'     │ 日 x │ 2     │ [ 1 ]   │",
            '│ 3 │ 3   │ 0        │ "\'"      │ 日 x │ 3     │ [ 2 ]   │',
            "│ 4 │ 4   │ 0        │ '\u0301'       │ 日 x │ 4     │ [ 3 ]   │",
            "│ 5 │ 5   │ 0        │ '\\u200d' │ 日 x │ 5     │ [ 4 ]   │",
            "│ 6 │ 5   │ 1        │          │ 日 x │ 6     │ [ 5 ]   │",
            "└───┴─────┴──────────┴──────────┴──────┴───────┴─────────┘",
        ]
    )


def test_lists_show_the_json_of_their_values() -> None:
    doc = Document("list", agent="a")
    doc.insert(0, [1, "one", {"k": ["\u200d"]}])
    assert [row["content"] for row in rows(tables.events(doc))] == ["1", '"one"', '{"k": ["\\u200d"]}']
    assert [row["content"] for row in rows(tables.runs(doc).ops)] == ['1, "one", {"k": ["\\u200d"]}']


def test_state_vectors_show_gaps() -> None:
    doc = Document(agent="a")
    assert tables.state_vector(doc) == "{}"
    doc.insert(0, "ab")
    doc.receive(
        [
            Run("b", 0, (), ((0, 0, "x"),)),
            Run("b", 5, (), ((0, 0, "xyz"),)),
            Run("c d\n", 1, (), ((0, 0, "x"),)),
        ]
    )
    assert tables.state_vector(doc) == "{ a: 2, b: [ 0, 5-7 ], 'c d\\n': [ 1 ] }"


def test_nothing_to_show() -> None:
    doc = Document()
    assert rows(tables.events(doc)) == rows(tables.runs(doc).ops) == rows(tables.runs(doc).parents) == []
    assert tables.walk(doc, (), ()) == "diff [] []\n{\n  head: [],\n  shared: [],\n  bOnly: [],\n}"
