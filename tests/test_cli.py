"""The `egwalker` command."""

from __future__ import annotations

import gzip
import io
import json
import os
import shlex
import stat
import subprocess
import sys
import time
from pathlib import Path
from random import Random
from typing import Any

import pytest
from serving import PATIENCE

import egwalker
from egwalker import Document, Run, cli, cli_words, egw_records, encoding, json_history
from egwalker.egw_file import EgwFile
from egwalker.formats import load, save
from egwalker.stats import encoded_sizes, stats

TRACE = {
    "kind": "concurrent",
    "endContent": "a-c!",
    "txns": [
        {"parents": [], "agent": 1, "patches": [[0, 0, "abc"]]},
        {"parents": [0], "agent": 0, "patches": [[1, 1, "-"]]},
        {"parents": [0], "agent": 1, "patches": [[3, 0, "!"]]},
    ],
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which commands run."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def document(
    name: str, agent: str, content: Any, base: Document | None = None, kind: str = "text"
) -> Document:
    """A document in a file, in which `agent` has inserted `content` at the start."""
    doc = Document(kind, agent=agent, id="1" * 32) if base is None else base.fork(agent)
    doc.insert(0, content)
    Path(name).write_bytes(json_history.dumps(doc))
    return doc


class Result:
    """What a command did."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status = status
        self.out = out
        self.err = err


class Runner:
    """Runs commands within this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, *args: str) -> Result:
        try:
            status = cli.main(args)
        except SystemExit as caught:
            status = int(caught.code or 0)
        out, err = self.capsys.readouterr()
        return Result(status, out, err)

    def done(self, *args: str) -> Result:
        """It works, and says in one line what it did."""
        result = self(*args)
        assert result.status == 0, result.err
        assert (result.out + result.err).endswith("\n")
        return result

    def refused(self, *args: str) -> str:
        """It fails with one line on standard error, which is returned, and leaves every file as it was."""
        before = {path: path.read_bytes() for path in Path().iterdir() if path.is_file()}
        result = self(*args)
        assert result.status == 2
        assert result.out == ""
        assert result.err.count("\n") == 1
        assert result.err.endswith("\n")
        assert result.err.startswith("egwalker")
        assert {path: path.read_bytes() for path in Path().iterdir() if path.is_file()} == before
        return result.err


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], folder: Path) -> Runner:
    return Runner(capsys)


class TestImport:
    def test_a_trace(self, run: Runner) -> None:
        Path("trace.json").write_text(json.dumps(TRACE))
        result = run.done("import", "trace.json", "doc.json.gz")
        data = Path("doc.json.gz").read_bytes()
        assert result.out == (
            "imported trace.json: 6 events by 2 agents, 4 code points; the text is as recorded; "
            f"wrote doc.json.gz ({len(data):,} bytes)\n"
        )
        assert result.err == ""
        assert json_history.loads(data).document.content == "a-c!"

    def test_a_trace_with_another_text(self, run: Runner) -> None:
        Path("trace.json").write_text(json.dumps(TRACE | {"endContent": "a-!c"}))
        assert "names break ties" in run.done("import", "trace.json", "doc.json").out

    def test_a_history_that_does_not_say(self, run: Runner) -> None:
        Path("a.json").write_text('{"txns": []}')
        assert run.done("import", "a.json", "doc.json").out == (
            "imported a.json: 0 events by 0 agents, 0 code points; wrote doc.json (83 bytes)\n"
        )

    def test_recorded(self, run: Runner, traces_folder: Path) -> None:
        result = run.done("import", str(traces_folder / "friendsforever.json.gz"), "ff.json.gz")
        assert "26,078 events by 2 agents, 21,362 code points; the text is as recorded" in result.out
        counts = json.loads(run.done("stat", "ff.json.gz", "--json").out)
        assert (counts["critical"], counts["windows"], counts["heads"]) == (9178, 146, 1)


class TestCat:
    def test_the_text_alone(self, run: Runner) -> None:
        document("a.json", "alice", "héllo\r\n\N{GRINNING FACE}")
        result = run.done("cat", "a.json")
        assert result.out == "héllo\r\n\N{GRINNING FACE}"
        assert result.err == "a.json at alice:7: 8 code points\n"

    def test_a_version(self, run: Runner) -> None:
        doc = document("a.json", "alice", "hello")
        bob = document("b.json", "bob:x, y", ">", doc)
        doc.insert(5, "!")
        doc.merge(bob)
        Path("m.json").write_bytes(json_history.dumps(doc))
        for version, text in {
            "alice:1": "he",
            "alice:5": "hello!",
            "bob:x, y:0": ">hello",
            "alice:5,bob:x, y:0": ">hello!",
            "bob:x, y:0,alice:5": ">hello!",
            "root": "",
            "": "",
        }.items():
            assert run.done("cat", "m.json", "--at", version).out == text
        assert run.done("cat", "m.json").err == "m.json at alice:5,bob:x, y:0: 7 code points\n"

    def test_a_list(self, run: Runner) -> None:
        document("a.json", "alice", [1, {"é": None}], kind="list")
        result = run.done("cat", "a.json")
        assert result.out == '[1,{"é":null}]\n'
        assert result.err == "a.json at alice:1: 2 values\n"

    @pytest.mark.parametrize("version", ["alice:5", "bob:0", "alice:5,alice:0", "alice:99999999999"])
    def test_a_version_that_is_not_held(self, run: Runner, version: str) -> None:
        document("a.json", "alice", "hello")
        assert "not held" in run.refused("cat", "a.json", "--at", version)

    @pytest.mark.parametrize(
        "version", ["alice", "alice:", ":1", "alice:x", "alice:-1", "alice:1,", ",", "a:1,b"]
    )
    def test_no_version(self, run: Runner, version: str) -> None:
        document("a.json", "alice", "hello")
        assert "agent:seq" in run.refused("cat", "a.json", "--at", version)


class TestBlame:
    def test_lines(self, run: Runner) -> None:
        doc = document("a.json", "alice", "held\n")
        bob = doc.fork("bob\n")
        bob.insert(2, "l" * 50)
        Path("b.json").write_bytes(json_history.dumps(bob))
        result = run.done("blame", "b.json")
        assert result.out.splitlines() == [
            'alice:0..1  "he"',
            f'bob\\n:0..49  "{"l" * 39}...',
            'alice:2..4  "ld\\n"',
        ]
        assert result.err == "b.json at bob\\n:49: 3 pieces by 2 agents, 55 code points\n"
        result = run.done("blame", "b.json", "--at", "alice:1")
        assert result.out == 'alice:0..1  "he"\n'
        assert result.err == "b.json at alice:1: 1 piece by 1 agent, 2 code points\n"

    def test_json(self, run: Runner) -> None:
        doc = document("a.json", "alice", [1, {"a": "x" * 100}], kind="list")
        doc.delete(0)
        Path("a.json").write_bytes(json_history.dumps(doc))
        assert json.loads(run.done("blame", "a.json", "--json").out) == {
            "agent": "alice",
            "seq": 1,
            "length": 1,
            "content": [{"a": "x" * 100}],
        }
        assert run.done("blame", "a.json", "--json", "--at", "root").out == ""

    def test_one_element(self, run: Runner) -> None:
        document("a.json", "alice", "h")
        assert run.done("blame", "a.json").out == 'alice:0  "h"\n'

    def test_no_version(self, run: Runner) -> None:
        document("a.json", "alice", "hello")
        assert "agent:seq" in run.refused("blame", "a.json", "--at", "alice")
        assert "event bob:0 is not held" in run.refused("blame", "a.json", "--at", "bob:0")
        assert "No such file" in run.refused("blame", "b.json")


class TestLog:
    def test_lines(self, run: Runner) -> None:
        doc = document("a.json", "alice", "hello")
        bob = document("b.json", "bob\n", "x" * 100, doc)
        doc.delete(1, 3)
        doc.merge(bob)
        doc.insert(0, "!")
        Path("m.json").write_bytes(json_history.dumps(doc))
        result = run.done("log", "m.json")
        assert result.out.splitlines() == [
            'alice:0..7  after root  insert "hello" at 0; delete 3 at 1',
            f'bob\\n:0..99  after alice:4  insert "{"x" * 39}... at 0',
            'alice:8  after alice:7,bob\\n:99  insert "!" at 0',
        ]
        assert result.err == "m.json: 3 runs, 109 events by 2 agents, 103 code points\n"

    def test_many_edits_are_shortened(self, run: Runner) -> None:
        doc = Document(agent="alice")
        for i in range(10):
            doc.insert(i // 2, "x")
        Path("a.json").write_bytes(json_history.dumps(doc))
        assert run.done("log", "a.json").out.rstrip().endswith("; 6 more")

    def test_json(self, run: Runner) -> None:
        doc = document("a.json", "alice", [1, {"a": "x" * 100}], kind="list")
        doc.delete(0)
        Path("a.json").write_bytes(json_history.dumps(doc))
        lines = run.done("log", "a.json", "--json").out.splitlines()
        assert [json.loads(line) for line in lines] == [
            {
                "agent": "alice",
                "seq": 0,
                "length": 3,
                "parents": [],
                "ops": [[0, 0, [1, {"a": "x" * 100}]], [0, 1, []]],
            }
        ]


class TestOperations:
    """The total order, and documents that are made in it."""

    def plan(self) -> None:
        alice = Document("map", agent="alice", id="1" * 32)
        alice.perform({"set": ["when"], "to": "Sunday"})
        bob = alice.fork("bob")
        alice.perform({"set": ["where"], "to": "the lake"})
        bob.perform({"remove": ["when"]})
        for doc in (alice, bob):
            Path(f"{doc.agent}.json").write_bytes(json_history.dumps(doc))

    def test_groups(self, run: Runner) -> None:
        self.plan()
        merged = run.done("merge", "alice.json", "bob.json", "-o", "plan.egw")
        assert "2 agents, 3 operations" in merged.out
        result = run.done("log", "plan.egw", "--groups")
        assert result.out == "alice:0..1  clock 0\nbob:0  clock 1\n"
        assert result.err == "plan.egw: 2 groups, 3 events by 2 agents, 3 operations\n"
        result = run.done("log", "plan.egw", "--groups", "--json")
        assert [json.loads(line) for line in result.out.splitlines()] == [
            {"agent": "alice", "seq": 0, "len": 2, "clock": 0},
            {"agent": "bob", "seq": 0, "len": 1, "clock": 1},
        ]
        document("text.json", "eve", "hello")
        assert run.done("log", "text.json", "--groups").out == "eve:0..4  clock 0\n"

    def test_reading(self, run: Runner) -> None:
        self.plan()
        run.done("merge", "alice.json", "bob.json", "-o", "plan.egw")
        result = run.done("cat", "plan.egw")
        assert result.out == '{"where":"the lake"}\n'
        assert result.err == "plan.egw at alice:1,bob:0: 3 operations\n"
        result = run.done("cat", "plan.egw", "--at", "alice:0")
        assert result.out == '{"when":"Sunday"}\n'
        assert result.err == "plan.egw at alice:0: 1 operation\n"
        result = run.done("log", "alice.json")
        assert result.out == (
            'alice:0..1  after root  {"set":["when"],"to":"Sunday"}; {"set":["where"],"to":"the lake"}\n'
        )
        assert "operations" in run.done("stat", "plan.egw").err
        assert json.loads(run.done("stat", "plan.egw", "--json").out)["kind"] == "map"
        assert "is sound" in run.done("verify", "plan.egw").out
        run.done("export", "plan.egw", "again.json.gz")
        run.done("import", "again.json.gz", "again.egw")
        assert run.done("cat", "again.egw").out == '{"where":"the lake"}\n'

    def test_what_cannot_be(self, run: Runner) -> None:
        self.plan()
        assert "no plain text form" in run.refused("export", "alice.json", "alice.txt")
        assert "'map'" in run.refused("export", "alice.json", "alice.dt")
        assert "no positions" in run.refused("blame", "alice.json")
        document("text.json", "eve", "hello")
        assert "kind" in run.refused("merge", "alice.json", "text.json", "-o", "both.egw")
        Path("bad.json").write_text(Path("alice.json").read_text().replace('"set":["when"]', '"set":"when"'))
        assert "txn 0: ops: {'set': 'when'" in run.refused("cat", "bad.json")


class TestStat:
    def test_json(self, run: Runner) -> None:
        doc = document("a.json", "alice", "hello")
        bob = document("b.json", "bob", "!!", doc)
        doc.delete(0, 2)
        doc.merge(bob)
        doc.insert(0, "x")
        Path("m.json").write_bytes(json_history.dumps(doc))
        counts = json.loads(run.done("stat", "m.json", "--json").out)
        memory, encoded = counts.pop("memory"), counts.pop("encoded")
        assert encoded["total"] == len(doc.encode())
        assert encoded["total"] > sum(encoded.values()) - encoded["total"] > 0
        assert counts == {
            "kind": "text",
            "events": 10,
            "inserted": 8,
            "deleted": 2,
            "runs": 3,
            "agents": 2,
            "heads": 1,
            "length": 6,
            "critical": 6,
            "windows": 1,
            "largest_window": 4,
        }
        assert {"graph", "ids", "operations", "content", "text"} <= set(memory)
        assert all(size >= 0 for size in memory.values())

    def test_table(self, run: Runner) -> None:
        doc = document("a.json", "alice", "hello" * 1000)
        result = run.done("stat", "a.json")
        table = dict(line.rsplit(None, 1) for line in result.out.splitlines())
        assert table["kind"] == "text"
        assert table["events"] == "5,000"
        assert table["largest window"] == "0"
        assert "memory: graph" in table
        assert "encoded: positions" in table
        counts = stats(doc)
        assert len(table) == len(counts) - 1 + len(counts["memory"]) + len(encoded_sizes(doc))
        assert result.err == "a.json: 5,000 events by 1 agent, 5,000 code points\n"


class TestMerge:
    def test_concurrent(self, run: Runner) -> None:
        doc = document("a.json", "alice", "hello")
        document("b.json", "bob", ">> ", doc)
        doc.insert(5, "!")
        Path("a.json").write_bytes(json_history.dumps(doc))
        result = run.done("merge", "a.json", "b.json", "-o", "m.json")
        size = len(Path("m.json").read_bytes())
        assert result.out == (
            "merged a.json (brought 1 event) and b.json (brought 3 events), 5 shared, concurrent: "
            f"9 events by 2 agents, 9 code points; wrote m.json ({size} bytes)\n"
        )
        assert run.done("cat", "m.json").out == ">> hello!"
        again = run.done("merge", "m.json", "b.json", "-o", "m.json").out
        assert "m.json (brought 1 event) and b.json (brought 0 events), 8 shared, nothing concurrent" in again

    def test_one_goes_on_from_the_other(self, run: Runner) -> None:
        doc = document("a.json", "alice", "hello")
        document("b.json", "bob", ">> ", doc)
        result = run.done("merge", "a.json", "b.json", "-o", "m.json.gz")
        assert (
            "a.json (brought 0 events) and b.json (brought 3 events), 5 shared, nothing concurrent"
            in result.out
        )

    def test_kinds_and_conflicts(self, run: Runner) -> None:
        document("a.json", "alice", "hello")
        document("b.json", "alice", "jello")
        document("c.json", "alice", [1], kind="list")
        assert "alice:0" in run.refused("merge", "a.json", "b.json", "-o", "a.json")
        assert "kind" in run.refused("merge", "a.json", "c.json", "-o", "a.json")


class TestExport:
    def test_text(self, run: Runner) -> None:
        document("a.json", "alice", "héllo\r\n")
        result = run.done("export", "a.json", "a.txt")
        assert Path("a.txt").read_bytes() == "héllo\r\n".encode()
        assert result.out == "exported a.json: 7 events by 1 agent, 7 code points; wrote a.txt (8 bytes)\n"

    def test_json(self, run: Runner) -> None:
        document("a.json", "alice", "hello")
        run.done("export", "a.json", "b.json.gz")
        assert gzip.decompress(Path("b.json.gz").read_bytes()) == Path("a.json").read_bytes()

    def test_a_list_is_no_text(self, run: Runner) -> None:
        document("a.json", "alice", [1], kind="list")
        assert "plain text" in run.refused("export", "a.json", "a.txt")


class TestFormats:
    """Every command takes and gives every format."""

    @pytest.mark.parametrize("source", ["a.egw", "a.dt", "a.json", "a.json.gz"])
    @pytest.mark.parametrize("target", ["b.egw", "b.dt", "b.json", "b.json.gz"])
    def test_conversions_keep_everything(self, run: Runner, source: str, target: str) -> None:
        doc = document("start.json", "alice", "héllo \N{GRINNING FACE}")
        bob = doc.fork("bob")
        bob.delete(1, 2)
        doc.insert(1, "!")
        doc.merge(bob)
        save(doc, source)
        for command in ("import", "export"):
            run.done(command, source, target)
            found = load(target).document
            assert (found.id, found.content, found.version) == (doc.id, doc.content, doc.version)
            assert found.history() == doc.history()
            Path(target).unlink()
        run.done("merge", source, source, "-o", target)
        assert run.done("cat", target, "--at", "alice:6").out == "héllo \N{GRINNING FACE}"
        assert run.done("verify", target).out.startswith(f"{target} is sound: 10 events by 2 agents")

    def test_lists_are_no_diamond_types(self, run: Runner) -> None:
        document("a.json", "alice", [1, "b"], kind="list")
        assert "list" in run.refused("export", "a.json", "a.dt")
        run.done("export", "a.json", "a.egw")
        assert run.done("cat", "a.egw").out == '[1,"b"]\n'

    def test_a_file_that_was_not_closed_is_read_with_a_remark(self, run: Runner) -> None:
        file = EgwFile.open("a.egw", "alice", create="text")
        file.document.insert(0, "hello")
        file.commit()
        result = run.done("cat", "a.egw")
        assert result.out == "hello"
        assert "a.egw was not closed" in result.err
        before = Path("a.egw").read_bytes()
        assert "open for writing" in run("repack", "a.egw").err
        assert "open for writing" in run("export", "a.egw", "a.egw").err
        assert Path("a.egw").read_bytes() == before
        file.close()
        assert "not closed" not in run.done("cat", "a.egw").err


class TestPlainText:
    def test_imports_are_one_document(self, run: Runner) -> None:
        """On two machines, each of which goes on with it, and imports it again after a restart."""
        Path("notes.txt").write_text("notes\n")
        for name, word in (("a.egw", "my "), ("b.egw", "all ")):
            run.done("import", "notes.txt", name)
            with EgwFile.open(name) as file:
                file.document.insert(0, word)
            again = run.done("import", "notes.txt", name)
            assert f"{name} held this document;" in again.out
        run.done("merge", "a.egw", "b.egw", "-o", "m.egw")
        assert sorted(run.done("cat", "m.egw").out.split()) == ["all", "my", "notes"]

    def test_another_text_does_not_replace_a_document(self, run: Runner) -> None:
        Path("a.txt").write_text("a")
        Path("b.txt").write_text("b")
        run.done("import", "a.txt", "doc.egw")
        assert "`--force` replaces it" in run.refused("import", "b.txt", "doc.egw")
        run.done("import", "b.txt", "doc.egw", "--force")
        assert run.done("cat", "doc.egw").out == "b"

    def test_unrelated_documents(self, run: Runner) -> None:
        Path("a.txt").write_text("a")
        Path("b.txt").write_text("b")
        run.done("import", "a.txt", "a.egw")
        run.done("import", "b.txt", "b.egw")
        assert "`--unrelated`" in run.refused("merge", "a.egw", "b.egw", "-o", "m.egw")
        run.done("merge", "a.egw", "b.egw", "-o", "m.egw", "--unrelated")
        assert sorted(run.done("cat", "m.egw").out) == ["a", "b"]


class TestDamage:
    @staticmethod
    def damaged(name: str, at: int) -> None:
        data = bytearray(Path(name).read_bytes())
        data[at] ^= 1
        Path(name).write_bytes(data)

    def test_verify_and_repack_save_what_can_be_saved(self, run: Runner) -> None:
        file = EgwFile.open("a.egw", "alice", create="text")
        for word in ("one ", "two ", "three "):
            file.document.insert(len(file.document), word)
            file.commit()
        Path("b.egw").write_bytes(Path("a.egw").read_bytes())
        file.close()
        self.damaged("b.egw", Path("b.egw").stat().st_size - 3)
        why = run.refused("verify", "b.egw")
        assert "b.egw is damaged: byte " in why
        assert "3 records before it can be saved, 8 events by 1 agent" in why
        assert "`egwalker repack b.egw -o SAVED.egw`" in why
        run.refused("cat", "b.egw")
        result = run.done("repack", "b.egw", "-o", "saved.egw")
        assert "left out what was from byte" in result.out
        assert run.done("cat", "saved.egw").out == "one two "
        run.done("verify", "saved.egw")

    def test_content_that_the_history_does_not_make(self, run: Runner) -> None:
        doc = document("a.json", "alice", "hello")
        log, summary = doc._replica.whole(), encoding.parse(doc.encode()).summary
        data = encoding.encode_document(log, bytes.fromhex(doc.id), summary, "jello")
        Path("a.egw").write_bytes(egw_records.frame_file(bytes(8), data))
        assert "from element 0 on" in run.refused("verify", "a.egw")

    def test_repack_is_smaller(self, run: Runner) -> None:
        rng = Random(1)
        doc = document("a.json", "alice", "".join(rng.choices("etaoinshrdlu ", k=4000)))
        doc.delete(3, 3000)
        save(doc, "a.egw")
        sizes = []
        for options in ([], ["--no-deleted"], ["--no-content"]):
            run.done("repack", "a.egw", *options)
            sizes.append(Path("a.egw").stat().st_size)
            assert run.done("cat", "a.egw").out == doc.content
        assert sizes[0] > sizes[1] > sizes[2]
        assert "deleted" in run.refused("cat", "a.egw", "--at", "alice:20")
        assert "deleted" in run.refused("export", "a.egw", "b.json")


class TestFiles:
    @pytest.mark.parametrize(
        ("args", "why"),
        [
            ((), "COMMAND"),
            (("frobnicate",), "frobnicate"),
            (("cat",), "DOCUMENT"),
            (("cat", "a.json", "b.json"), "b.json"),
            (("merge", "a.json", "a.json"), "-o"),
            (("cat", "none.json"), "cannot read none.json: No such file"),
            (("cat", "."), "cannot read .: Is a directory"),
            (("cat", "none"), "cannot read none: No such file"),
            (("cat", "new\nline"), r"cannot read new\nline: No such file"),
            (("cat", "file:///x.egw"), "file: is for linking documents, not for reading one"),
            (("cat", "http://127.0.0.1:1/x"), "http://127.0.0.1:1/x: Cannot connect"),
            (("cat", "http://"), "'http://' is no URL"),
            (("cat", "no-such-scheme://x"), "there are: file, http"),
            (("serve", "a.json"), "cannot serve a.json: File exists"),
            (("serve", "folder", "--port", "65536"), "a port is within 0..65535, not 65536"),
            (("serve", "folder", "--idle", "nan"), "a time is a number of seconds, not nan"),
            (("serve", "folder", "--kind", "poem"), "no plugin provides documents of kind 'poem'"),
            (("cat", "folder.json"), "folder.json: Is a directory"),
            (("cat", "a.doc"), r".json.gz, .json, .txt"),
            (("cat", "a.egw"), "byte 0: this is no .egw file"),
            (("cat", "a.dt"), "at byte 0"),
            (("cat", "latin.txt"), "byte 2: this is not UTF-8"),
            (("cat", "bad.json"), "cannot read bad.json: txn 0: seqStart"),
            (("log", "bad.json"), "txn 0: seqStart"),
            (("stat", "bad.json"), "txn 0: seqStart"),
            (("export", "bad.json", "a.txt"), "txn 0: seqStart"),
            (("import", "bad.json", "a.json"), "txn 0: seqStart"),
            (("merge", "a.json", "bad.json", "-o", "a.json"), "txn 0: seqStart"),
            (("import", "a.json", "a.doc"), "cannot write a.doc"),
            (("import", "a.json", "a.txt"), "export"),
            (("merge", "a.json", "a.json", "-o", "m.txt"), "export"),
            (("export", "a.json", "nowhere/a.json"), "cannot write nowhere/a.json: No such file"),
            (("export", "a.json", "folder.json"), "cannot write folder.json: Is a directory"),
        ],
    )
    def test_bad_input(self, run: Runner, args: tuple[str, ...], why: str) -> None:
        document("a.json", "alice", "hello")
        Path("a.txt").write_text("text")
        Path("a.doc").write_text("text")
        Path("a.egw").write_text("no such thing at all")
        Path("a.dt").write_text("no such thing at all")
        Path("latin.txt").write_bytes(b"ab\xe4c")
        Path("bad.json").write_text('{"txns": [{"agent": "a\\n", "parents": [], "ops": []}]}')
        Path("folder.json").mkdir()
        assert why in run.refused(*args)

    def test_messages_are_one_clean_line(self, run: Runner) -> None:
        Path("a.json").write_text('{"kind": "two\\nlines\\u001b[31m", "txns": []}')
        assert r"\x1b" in run.refused("cat", "a.json")

    def test_writing_is_all_or_nothing(self, run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
        document("a.json", "alice", "hello")
        document("b.json", "bob", "old")

        def full(_: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        assert "No space left" in run.refused("export", "a.json", "b.json")
        assert "No space left" in run.refused("export", "a.json", "c.json")
        assert sorted(path.name for path in Path().iterdir()) == ["a.json", "b.json"]

    def test_modes_and_links_stay(self, run: Runner) -> None:
        document("a.json", "alice", "hello")
        Path("real.txt").write_text("old")
        Path("real.txt").chmod(0o640)
        Path("link.txt").symlink_to("real.txt")
        run.done("export", "a.json", "link.txt")
        assert Path("link.txt").is_symlink()
        assert Path("real.txt").read_text() == "hello"
        assert stat.S_IMODE(Path("real.txt").stat().st_mode) == 0o640

    def test_new_files_have_the_usual_mode(self, run: Runner) -> None:
        document("a.json", "alice", "hello")
        Path("plain.txt").write_text("")
        run.done("export", "a.json", "a.txt")
        assert Path("a.txt").stat().st_mode == Path("plain.txt").stat().st_mode


class TestHelp:
    def test_version(self, run: Runner) -> None:
        assert run.done("--version").out == f"egwalker {egwalker.__version__}\n"

    def test_help_names_all(self, run: Runner) -> None:
        out = run.done("--help").out
        for word in ("import", "cat", "blame", "log", "stat", "merge", "export", ".json.gz", ".txt"):
            assert word in out

    @pytest.mark.parametrize("command", ["import", "cat", "blame", "log", "stat", "merge", "export"])
    def test_of_each_command(self, run: Runner, command: str) -> None:
        out = run.done(command, "--help").out
        assert out.startswith(f"usage: egwalker {command}")
        assert len(out.splitlines()) > 5


@pytest.mark.usefixtures("folder")
class TestProcess:
    """As people start it."""

    COMMAND = (sys.executable, "-m", "egwalker")

    def test_module(self) -> None:
        document("a.json", "alice", "h\N{GRINNING FACE}")
        done = subprocess.run([*self.COMMAND, "cat", "a.json"], capture_output=True, check=True)
        assert done.stdout == "h\N{GRINNING FACE}".encode()
        failed = subprocess.run([*self.COMMAND, "cat", "b.json"], capture_output=True, check=False)
        assert failed.returncode == 2
        assert failed.stderr == b"egwalker: cannot read b.json: No such file or directory\n"

    def test_a_terminal_that_knows_little(self) -> None:
        document("a.json", "älice", "h\N{GRINNING FACE}")
        done = subprocess.run(
            [*self.COMMAND, "log", "a.json"],
            capture_output=True,
            check=True,
            env=os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
        )
        assert rb"\xe4lice:0..1" in done.stdout

    @pytest.mark.parametrize("unbuffered", ["", "1"])
    def test_long_output_is_whole(self, unbuffered: str) -> None:
        document("a.json", "alice", "x" * 1_000_000)
        done = subprocess.run(
            [*self.COMMAND, "cat", "a.json"],
            capture_output=True,
            check=True,
            env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
        )
        assert len(done.stdout) == 1_000_000

    @pytest.mark.parametrize("command", [("cat", "a.json"), ("stat", "a.json"), ("plugins",)])
    def test_output_that_cannot_be_written(self, command: tuple[str, ...]) -> None:
        document("a.json", "alice", "hello")
        words = shlex.join([*self.COMMAND, *command])
        closed = subprocess.run(["sh", "-c", f"{words} >&-"], capture_output=True, check=False)
        assert (closed.returncode, closed.stderr) == (1, b"")
        quiet = subprocess.run(["sh", "-c", f"{words} 2>&-"], capture_output=True, check=False)
        assert quiet.returncode == 0
        assert b"code points" not in quiet.stdout
        if os.path.exists("/dev/full"):
            full = subprocess.run(["sh", "-c", f"{words} >/dev/full"], capture_output=True, check=False)
            why = b"egwalker: cannot write to standard output: No space left on device\n"
            assert (full.returncode, full.stderr) == (2, why)

    @pytest.mark.parametrize("command", ["cat", "blame", "log"])
    def test_nobody_reads_the_output(self, command: str) -> None:
        doc = Document()
        parents: tuple[tuple[str, int], ...] = ()
        for i in range(2000):
            run = Run("ab"[i % 2], i * 100, parents, ((0, 0, f"{i:0100}"),))
            doc.receive([run])
            parents = ((run.agent, i * 100 + 99),)
        Path("a.json").write_bytes(json_history.dumps(doc))
        process = subprocess.Popen(
            [*self.COMMAND, command, "a.json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(PATIENCE) == 1
        process.stderr.close()


class TestMeter:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    def test_shows_long_work_on_a_terminal(self, monkeypatch: pytest.MonkeyPatch) -> None:
        terminal = self.Terminal()
        monkeypatch.setattr(sys, "stderr", terminal)
        with cli_words.Meter() as meter:
            meter("reading", 1000, 3000)
            deadline = time.monotonic() + PATIENCE
            while "reading 1,000 of 3,000" not in terminal.getvalue():
                assert time.monotonic() < deadline
                time.sleep(0.01)
        assert terminal.getvalue().endswith(f"\r{cli_words.CLEAR}")

    def test_is_quiet_about_short_work(self, monkeypatch: pytest.MonkeyPatch) -> None:
        terminal = self.Terminal()
        monkeypatch.setattr(sys, "stderr", terminal)
        monkeypatch.setattr(cli_words, "DELAY", 1000.0)
        with cli_words.Meter() as meter:
            meter("reading", 1000, 3000)
        assert terminal.getvalue() == ""

    def test_is_quiet_in_scripts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        pipe = io.StringIO()
        monkeypatch.setattr(sys, "stderr", pipe)
        monkeypatch.setattr(cli_words, "DELAY", 0.0)
        with cli_words.Meter() as meter:
            meter("reading", 1000, 3000)
            time.sleep(0.3)
        assert pipe.getvalue() == ""
