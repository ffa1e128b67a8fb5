"""Durable files: their format, what is refused, who may write, and what is stored when."""

from __future__ import annotations

import errno
import logging
import os
import signal
import stat
import struct
import subprocess
import sys
import threading
import time
import tracemalloc
import zlib
from collections.abc import Callable
from contextlib import closing, suppress
from functools import partial
from pathlib import Path

import pytest
from crash import FILE, SimulatedFileSystem
from serving import PATIENCE

from egwalker import (
    DecodeError,
    Document,
    EgwalkerError,
    KindError,
    LockedError,
    StorageError,
    egw_file,
    egw_records,
)
from egwalker.egw_file import EgwFile, Recovered
from egwalker.egw_records import dumps, frame, frame_file, read, scan


def put(at: int, text: str, file: EgwFile) -> None:
    file.document.insert(at, text)
    file.commit()


def example(path: Path, *, close: bool = True) -> bytes:
    """A file with a snapshot, updates that say 'hello', 'hello world', 'Hello world', and END."""
    with EgwFile.open(path, "alice", create="text") as file:
        put(0, "hello", file)
        put(5, " world", file)
        file.document.delete(0)
        put(0, "H", file)
        before = path.read_bytes()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(egw_file, "CLOSED_SHARE", 0.01)
            file.close()
    return path.read_bytes() if close else before


def parsed(data: bytes) -> list[tuple[int, int, bytes]]:
    """Offset, type and payload of each record, read as the module's docstring has it."""
    assert data[:8] == b"EGWALK\x01\x00"
    generation = data[8:16]
    records, at = [], 16
    while at < len(data):
        assert data[at : at + 4] == generation[:4]
        (crc,) = struct.unpack_from("<I", data, at + 4)
        (length,) = struct.unpack_from("<Q", data, at + 8)
        payload = data[at + 17 : at + 17 + length]
        assert len(payload) == length
        assert zlib.crc32(data[at + 8 : at + 17] + payload, zlib.crc32(generation)) == crc
        records.append((at, data[at + 16], payload))
        at += 17 + length
    return records


# --- the format ---------------------------------------------------------------------------------------------


def test_layout(tmp_path: Path) -> None:
    data = example(tmp_path / "a.egw")
    records = parsed(data)
    assert [kind for _, kind, _ in records] == [1, 2, 2, 2, 3]
    assert records[-1][2] == struct.pack("<QQ", 4, records[-1][0])
    doc = Document.decode(records[0][2])
    states = [doc.content]
    for _, _, payload in records[1:-1]:
        doc.apply(payload)
        states.append(doc.content)
    assert states == ["", "hello", "hello world", "Hello world"]
    assert doc.version_vector == {"alice": [(0, 13)]}


def test_read_tells_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "a.egw"
    data = example(path)
    doc, report = read(path, "bob")
    assert (doc.content, doc.agent) == ("Hello world", "bob")
    payloads = [len(payload) for _, _, payload in parsed(data)]
    assert report == (len(data), 5, 3, payloads[0], sum(payloads[1:4]), True, None)
    for source in (data, bytearray(data), memoryview(data), str(path)):
        assert read(source)[0].version_vector == doc.version_vector


def test_dumps_is_a_closed_file() -> None:
    doc = Document(agent="alice")
    doc.insert(0, "naïve 🙂")
    found, report = read(dumps(doc))
    assert (found.content, found.version) == (doc.content, doc.version)
    assert (report.records, report.closed) == (2, True)
    assert dumps(doc)[8:16] != dumps(doc)[8:16], "each file has another generation"


def snapshot(text: str = "") -> bytes:
    doc = Document(agent="alice")
    doc.insert(0, text)
    return doc.encode()


def built(*records: tuple[int, bytes], generation: bytes = b"-random-") -> bytes:
    return b"EGWALK\x01\x00" + generation + b"".join([frame(generation, *record) for record in records])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "byte 0: this is no .egw file"),
        (b"EGWALK\x01\x00-rando", "byte 0: this is no .egw file"),
        (b"EGWALL\x01\x00-random-", "byte 0: this is no .egw file"),
        (b"EGWALK\x02\x00-random-", "byte 6: version 2 of .egw files is not known, only 1"),
        (b"EGWALK\x01\x00-random-", "byte 16: the file ends within a record's header"),
        (built((2, b"")), "byte 16: a snapshot is the first record"),
        (built((200, b"")), "byte 16: a snapshot is the first record"),
        (built((1, snapshot()), (1, snapshot())), "a snapshot is the first record"),
        (built((1, snapshot()), (4, b"")), "a record of type 4, which is not known"),
        (built((1, snapshot()), (127, b"")), "a record of type 127, which is not known"),
        (built((1, snapshot()), (0, b"")), "a record of type 0, which is not known"),
        (built((1, snapshot()), (3, bytes(16))), "the file was closed with other records before its end"),
        (built((1, snapshot()), (3, b"")), "the file was closed with other records before its end"),
        (frame_file(b"-random-", snapshot()) + frame(b"-random-", 200, b""), "a record after the end"),
        (built((1, b"nonsense")), "byte 16: in this record: "),
        (built((1, snapshot()), (2, b"nonsense")), r"byte \d+: in this record: "),
    ],
)
def test_refused(data: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(DecodeError, match=message):
        read(data)
    path = tmp_path / "a.egw"
    path.write_bytes(data)
    with pytest.raises(DecodeError, match=message):
        EgwFile.open(path, create="text")
    assert path.read_bytes() == data
    assert os.listdir(tmp_path) == ["a.egw"]


def test_a_lost_update_is_noticed(tmp_path: Path) -> None:
    """Also when all records that are left are whole."""
    data = example(tmp_path / "a.egw", close=False)
    records = parsed(data)
    lost = data[: records[1][0]] + data[records[2][0] :]
    with pytest.raises(DecodeError, match=f"byte {records[1][0]}: in this record: "):
        read(lost)


def test_optional_records_are_skipped_and_dropped(tmp_path: Path) -> None:
    path = tmp_path / "a.egw"
    path.write_bytes(built((1, snapshot("hi")), (128, b"?"), (255, b"")))
    assert read(path)[1].records == 3
    with EgwFile.open(path) as file:
        put(2, "!", file)
        assert [kind for _, kind, _ in parsed(path.read_bytes())] == [1, 128, 255, 2]
        file.compact()
        assert [kind for _, kind, _ in parsed(path.read_bytes())] == [1, 3]
    assert read(path)[0].content == "hi!"


def test_kinds(tmp_path: Path) -> None:
    path = tmp_path / "a.egw"
    with EgwFile.open(path, create="list") as file:
        file.document.insert(0, [1, {"a": None}])
    with EgwFile.open(path, create="list") as file:
        assert file.document.content == [1, {"a": None}]
    with pytest.raises(KindError, match="holds a document of kind 'list', not 'text'"):
        EgwFile.open(path, create="text")
    with pytest.raises(KindError):
        EgwFile.open(tmp_path / "b.egw", create="nonsense")
    assert os.listdir(tmp_path) == ["a.egw"]


# --- damage -------------------------------------------------------------------------------------------------


def outcome(data: bytes) -> tuple[str, bool] | int:
    """The content and whether the file was closed, or the offset of what is wrong."""
    try:
        doc, report = read(data)
    except DecodeError as error:
        offset = error.offset
        return offset if offset is not None and str(error).startswith(f"byte {offset}: ") else -1
    return doc.content, report.closed


@pytest.fixture
def data(tmp_path: Path) -> bytes:
    return example(tmp_path / "a.egw")


def record_of(data: bytes, offset: int) -> int:
    """Where the record begins that the byte at `offset` belongs to; 16 also for the generation."""
    return max([at for at, _, _ in parsed(data) if at <= offset], default=16)


def test_every_bit_counts(data: bytes) -> None:
    for at in range(len(data)):
        for bit in range(8):
            bad = bytearray(data)
            bad[at] ^= 1 << bit
            expected = 0 if at < 6 else 6 if at < 8 else record_of(data, at)
            assert outcome(bytes(bad)) == expected, (at, bit)


def test_cut_at_every_length(data: bytes) -> None:
    """Whole records give an earlier state, which is reported not to have been closed."""
    contents = ["", "hello", "hello world", "Hello world"]
    states = dict(zip([at for at, _, _ in parsed(data)[1:]], contents, strict=True))
    for length in range(len(data)):
        if length in states:
            assert outcome(data[:length]) == (states[length], False)
        else:
            assert outcome(data[:length]) == (0 if length < 16 else record_of(data, length)), length


def test_a_byte_more_or_less(data: bytes) -> None:
    for at in range(len(data) + 1):
        for value in (0, 1, 0xFF, data[at - 1], data[at] if at < len(data) else 3):
            bad = data[:at] + bytes([value]) + data[at:]
            assert isinstance(outcome(bad), int), (at, value)
        if at < len(data):
            assert isinstance(outcome(data[:at] + data[at + 1 :]), int), at


def test_damage_between_whole_records_is_refused(data: bytes, tmp_path: Path) -> None:
    """To drop what follows would lose what was acknowledged. The same bytes at the end are a torn tail."""
    path = tmp_path / "a.egw"
    last = parsed(data)[-1][0]
    for at in range(16, last, 3):
        bad = bytearray(data)
        bad[at] ^= 0x40
        for damaged in (bytes(bad), data[:at] + data[at + 1 :], data[:at] + b"\0" + data[at:]):
            path.write_bytes(damaged)
            with pytest.raises(DecodeError, match=f"byte {record_of(data, at)}: "):
                EgwFile.open(path)
            assert path.read_bytes() == damaged
            if at >= parsed(data)[1][0]:
                _, report = read(damaged, salvage=True)
                assert report.damage is not None
                assert report.damage.offset == record_of(data, at)
                assert report.damage.next_record is not None


@pytest.mark.parametrize("tail", [b"", b"\0" * 700, b"\xff" * 5, b"other", None])
def test_a_torn_tail_is_cut_off(tail: bytes | None, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.egw"
    data = example(path, close=False)
    at = parsed(data)[-1][0]
    torn = data[at : (at + len(data)) // 2] if tail is None else tail
    path.write_bytes(data + torn)
    with caplog.at_level(logging.WARNING, "egwalker"):
        file = EgwFile.open(path, "bob")
    assert file.document.content == "Hello world"
    if torn:
        assert file.recovered == Recovered(len(data), len(torn))
        (record,) = caplog.records
        assert f"cut off a torn tail of {len(torn)} bytes from byte {len(data)} on" in record.getMessage()
    else:
        assert file.recovered is None
        assert not caplog.records
    assert path.read_bytes() == data
    file.document.insert(0, "> ")
    file.close()
    assert read(path)[0].content == "> Hello world"


def test_every_torn_update_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "a.egw"
    data = example(path, close=False)
    at = parsed(data)[-1][0]
    for length in range(at + 1, len(data)):
        path.write_bytes(data[:length])
        with EgwFile.open(path, "bob") as file:
            assert file.recovered == (at, length - at)
            assert file.document.content == "hello world"
            assert file.stored == {"alice": [(0, 11)]}


def test_a_bad_snapshot_is_never_a_torn_tail(tmp_path: Path) -> None:
    path = tmp_path / "a.egw"
    whole = built((1, snapshot("hello")))
    for bad in (whole[:-1], whole[:20], whole[:16], whole[:-1] + b"\0"):
        path.write_bytes(bad)
        with pytest.raises(DecodeError, match="byte 16: "):
            EgwFile.open(path)
        with pytest.raises(DecodeError, match="byte 16: "):
            read(path, salvage=True)
        assert path.read_bytes() == bad


@pytest.mark.parametrize("length", [2**16, 2**31 - 1, 2**32, 2**62, 2**63 - 1, 2**63, 2**64 - 18, 2**64 - 1])
@pytest.mark.parametrize("first", [False, True])
def test_lying_lengths_take_no_memory(length: int, first: bool, tmp_path: Path) -> None:
    start = b"EGWALK\x01\x00-random-" if first else built((1, snapshot("hello")))
    data = start + struct.pack("<4sIQB", b"-ran", 0, length, 1 if first else 2) + bytes(50)
    path = tmp_path / "a.egw"
    path.write_bytes(data)
    read(built((1, snapshot("hello"))))
    tracemalloc.start()
    try:
        with pytest.raises(DecodeError, match=f"{len(start)}: a record of {length} bytes, but 50 follow"):
            read(path)
        with suppress(DecodeError):
            EgwFile.open(path).close()
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_many_markers_are_not_all_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of them may pretend to begin a record of all that follows."""
    start = built((1, snapshot("hello")))
    fake = b"".join([struct.pack("<4sIQB", b"-ran", 0, 17 * (100_000 - i), 2) for i in range(100_000)])
    path = tmp_path / "a.egw"
    path.write_bytes(start + fake)
    tried = []

    def record_at(data: memoryview, generation: bytes, start: int) -> egw_records.Record:
        tried.append(start)
        return found(data, generation, start)

    found = egw_records.record_at
    monkeypatch.setattr(egw_records, "record_at", record_at)
    with pytest.raises(DecodeError, match=f"byte {len(start)}: "):
        EgwFile.open(path)
    assert egw_records.MAX_CANDIDATES < len(tried) < 2 * egw_records.MAX_CANDIDATES + 10
    assert path.read_bytes() == start + fake


# --- opening, committing, closing ---------------------------------------------------------------------------


def test_what_is_committed_is_there_again(tmp_path: Path) -> None:
    path = tmp_path / "a.egw"
    with EgwFile.open(path, "alice", create="text") as file:
        assert (file.stored, file.recovered) == ({}, None)
        file.document.insert(0, "abc")
        assert file.stored == {}
        assert file.commit() == file.stored == {"alice": [(0, 3)]}
        file.document.insert(3, "def")
    assert file.stored == {"alice": [(0, 6)]}
    with EgwFile.open(path, "bob") as file:
        assert (file.document.content, file.document.agent) == ("abcdef", "bob")
        assert file.stored == {"alice": [(0, 6)]}
    assert os.listdir(tmp_path) == ["a.egw"]


def test_a_document_that_there_is_gets_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.egw"
    doc = Document(agent="alice")
    doc.insert(0, "abc")
    with EgwFile.open(path, create=doc) as file:
        assert file.document is doc
        assert file.stored == {"alice": [(0, 3)]}
        doc.insert(3, "d")
    assert read(path)[0].content == "abcd"
    with pytest.raises(FileExistsError):
        EgwFile.open(path, create=doc)
    with EgwFile.open(path) as file:
        assert file.document.content == "abcd"


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        EgwFile.open(tmp_path / "a.egw")
    with pytest.raises(StorageError, match="cannot be created: .*No such file") as info:
        EgwFile.open(tmp_path / "no" / "a.egw", create="text")
    assert info.value.errno == errno.ENOENT
    assert os.listdir(tmp_path) == []


def test_nothing_new_writes_nothing() -> None:
    fs = SimulatedFileSystem()
    with EgwFile.open(FILE, create="text", fs=fs) as file:
        put(0, "abc", file)
        before = len(fs.calls)
        for _ in range(3):
            file.commit()
        assert len(fs.calls) == before
    before_close = fs.names_now[FILE].image
    with EgwFile.open(FILE, fs=fs):
        pass
    assert fs.names_now[FILE].image == before_close, "opened and closed without a change"


def test_each_commit_is_one_write_and_one_sync() -> None:
    fs = SimulatedFileSystem()
    file = EgwFile.open(FILE, create="text", fs=fs)
    put(0, "abc", file)
    before = len(fs.calls)
    put(0, "abc", file)
    assert fs.calls[before:] == ["write", "sync"]


def test_events_of_others_are_stored(tmp_path: Path) -> None:
    path = tmp_path / "a.egw"
    bob = Document(agent="bob")
    with EgwFile.open(path, "alice", create="text") as file:
        put(0, "abc", file)
        bob.merge(file.document)
        bob.insert(3, "def")
        file.document.merge(bob)
        assert file.commit() == {"alice": [(0, 3)], "bob": [(0, 3)]}
    assert read(path)[0].content == "abcdef"


def test_closed(tmp_path: Path) -> None:
    file = EgwFile.open(tmp_path / "a.egw", create="text")
    assert repr(file).endswith("a.egw', open>")
    file.close()
    file.close()
    assert repr(file).endswith("a.egw', closed>")
    file.document.insert(0, "abc")
    for work in (file.commit, file.compact):
        with pytest.raises(StorageError, match="a.egw is closed"):
            work()


def test_not_within_a_transaction(tmp_path: Path) -> None:
    with EgwFile.open(tmp_path / "a.egw", create="text") as file:
        with file.document.transaction():
            file.document.insert(0, "abc")
            for work in (file.commit, file.compact, file.close):
                with pytest.raises(RuntimeError, match="within a transaction"):
                    work()
        assert file.commit()


def test_subscribers_may_commit(tmp_path: Path) -> None:
    with EgwFile.open(tmp_path / "a.egw", "alice", create="text") as file:
        file.document.subscribe(lambda change: file.commit())
        file.document.insert(0, "abc")
        assert file.stored == {"alice": [(0, 3)]}


def test_symbolic_links_and_permissions_stay(tmp_path: Path) -> None:
    (tmp_path / "link.egw").symlink_to(tmp_path / "a.egw")
    with EgwFile.open(tmp_path / "link.egw", create="text") as file:
        (tmp_path / "a.egw").chmod(0o640)
        put(0, "abc", file)
        file.compact()
    assert (tmp_path / "link.egw").is_symlink()
    assert stat.S_IMODE((tmp_path / "a.egw").stat().st_mode) == 0o640
    assert sorted(os.listdir(tmp_path)) == ["a.egw", "link.egw"]


@pytest.mark.parametrize("name", ["new\nline (1).egw", "ünïcode 🙂.egw", ".egw", "x" * 230])
def test_names(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    with EgwFile.open(path, create="text") as file:
        put(0, "abc", file)
        file.compact()
    (tmp_path / f".{name}.0123abcd.compact").write_bytes(b"left")
    (tmp_path / f".{name}.0123abcd.part").write_bytes(b"somebody else's")
    EgwFile.open(path).close()
    assert sorted(os.listdir(tmp_path)) == sorted([name, f".{name}.0123abcd.part"])


# --- compaction ---------------------------------------------------------------------------------------------


def test_compaction_by_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(egw_file, "MIN_UPDATES", 3000)
    path = tmp_path / "a.egw"
    with EgwFile.open(path, "alice", create="text") as file:
        compacted = 0
        for number in range(400):
            before = read(path)[1].updates
            put(0, f"{number} ", file)
            doc, report = read(path)
            assert doc.content == file.document.content
            assert report.update_bytes <= max(3000, report.snapshot_bytes)
            compacted += report.updates < before
    assert 2 <= compacted <= 20
    assert read(path)[0].content == file.document.content


def test_closing_compacts_what_is_worth_it(tmp_path: Path) -> None:
    path = tmp_path / "a.egw"
    doc = Document(agent="alice")
    for number in range(1000):
        doc.insert(number * 7919 % (len(doc) + 1), f"{number * 104729 % 1000} ")
    with EgwFile.open(path, create=doc) as file:
        put(0, "a", file)
    assert read(path)[1].updates == 1, "a small one stays"
    with EgwFile.open(path) as file:
        for number in range(1000):
            file.document.insert(number * 6007 % (len(file.document) + 1), "xyz")
    assert read(path)[1].updates == 0


def test_a_compaction_that_fails_leaves_the_file_in_use(caplog: pytest.LogCaptureFixture) -> None:
    fs = SimulatedFileSystem()
    file = EgwFile.open(FILE, "alice", create="text", fs=fs)
    put(0, "abc", file)
    before = fs.names_now[FILE].image
    fs.fault = lambda number, name: errno.ENOSPC if name == "create" else None
    with pytest.raises(StorageError, match="cannot be compacted: ") as info:
        file.compact()
    assert info.value.errno == errno.ENOSPC
    assert fs.names_now[FILE].image == before
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(file, "_limit", 10)
        with caplog.at_level(logging.WARNING, "egwalker"):
            put(0, "def", file)
        assert "was not compacted" in caplog.text
        count = len(caplog.records)
        put(0, "g", file)
        assert len(caplog.records) == count, "not tried again at once"
    assert read(fs.only_stored().names_now[FILE].image)[0].content == "gdefabc"


@pytest.mark.parametrize("call", ["create", "copy_mode", "write", "sync"])
def test_a_compaction_that_fails_leaves_nothing(call: str) -> None:
    fs = SimulatedFileSystem()
    with EgwFile.open(FILE, "alice", create="text", fs=fs) as file:
        put(0, "abc", file)
        before = fs.names_now[FILE].image
        file.document.insert(0, "def")
        fs.fault = lambda number, name: -errno.ENOSPC if name == call else None
        with pytest.raises(StorageError, match="cannot be compacted: "):
            file.compact()
        assert list(fs.names_now) == [FILE]
        assert fs.names_now[FILE].image == before
        fs.fault = lambda number, name: None
        file.compact()
    assert not fs.files, "left open"
    assert read(fs.names_now[FILE].image)[0].content == "defabc"


@pytest.mark.parametrize("call", ["create", "write", "sync", "link", "unlink", "sync_folder"])
def test_a_creation_that_fails_leaves_nothing_open(call: str) -> None:
    fs = SimulatedFileSystem()
    fs.fault = lambda number, name: errno.EIO if name == call else None
    with pytest.raises(StorageError, match="/folder/doc.egw cannot be created: .*Input/output error"):
        EgwFile.open(FILE, create="text", fs=fs)
    assert not fs.files
    assert (FILE in fs.names_now) == (call in ("unlink", "sync_folder"))
    fs.fault = lambda number, name: None
    EgwFile.open(FILE, create="text", fs=fs).close()
    assert list(fs.names_now) == [FILE]


# --- who may write ------------------------------------------------------------------------------------------

HOLD = """
import sys
from egwalker.egw_file import EgwFile
file = EgwFile.open(sys.argv[1])
print("open", flush=True)
input()
"""


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "a.egw"
    with EgwFile.open(path, create="text") as file:
        for _ in range(2):
            with pytest.raises(LockedError, match="a.egw is open for writing already"):
                EgwFile.open(path, create="text")
            other = subprocess.run(
                [sys.executable, "-c", HOLD, path], capture_output=True, text=True, check=False
            )
            assert other.returncode == 1
            assert "LockedError" in other.stderr
            assert str(path) in other.stderr
            put(0, "abc", file)
            assert read(path)[0].content == file.document.content, "readers need no lock"
            file.compact()  # the lock goes on to the new file
    EgwFile.open(path).close()


def test_the_lock_of_a_killed_writer_is_free(tmp_path: Path) -> None:
    path = tmp_path / "a.egw"
    EgwFile.open(path, create="text").close()
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"open\n"
        with pytest.raises(LockedError):
            EgwFile.open(path)
        other.send_signal(signal.SIGKILL)
        other.wait(PATIENCE)
        EgwFile.open(path).close()


def test_nobody_gets_in_while_it_is_compacted(tmp_path: Path) -> None:
    path = tmp_path / "a.egw"
    done = threading.Event()
    got_in: list[EgwFile] = []
    tries = 0

    def intrude() -> None:
        nonlocal tries
        while not done.is_set():
            tries += 1
            with suppress(LockedError):
                got_in.append(EgwFile.open(path))

    with EgwFile.open(path, create="text") as file:
        thread = threading.Thread(target=intrude, daemon=True)
        thread.start()
        compacted = 0
        while compacted < 50 or tries <= 20:
            file.compact()
            compacted += 1
        done.set()
        thread.join(PATIENCE)
    assert not got_in


def test_a_file_that_is_replaced_while_it_is_opened() -> None:
    """The lock on what had the name before is worth nothing."""
    fs = SimulatedFileSystem()
    before = EgwFile.open(FILE, create="text", fs=fs)
    put(0, "abc", before)
    opened: list[int] = []
    really_open = fs.open

    def slow(path: str, create: bool = False) -> int:
        fd = really_open(path, create)
        if not opened:
            opened.append(fd)
            before.compact()
            put(3, "def", before)
            before.close()
        return fd

    fs.open = slow  # type: ignore[method-assign]
    with EgwFile.open(FILE, fs=fs) as file:
        assert opened
        put(6, "ghi", file)
        with pytest.raises(LockedError):
            EgwFile.open(FILE, fs=fs)
    assert read(fs.names_now[FILE].image)[0].content == "abcdefghi"
    assert not fs.files, "left open"


def test_only_one_creates_a_file(tmp_path: Path) -> None:
    def create(path: Path, barrier: threading.Barrier, files: list[EgwFile]) -> None:
        barrier.wait(PATIENCE)
        with suppress(LockedError):
            files.append(EgwFile.open(path, create="text"))

    for number in range(20):
        path = tmp_path / f"{number}.egw"
        files: list[EgwFile] = []
        together(*[partial(create, path, threading.Barrier(4), files)] * 4)
        (file,) = files
        with closing(file):
            put(0, "abc", file)
        assert read(path)[0].content == "abc"
    assert len(os.listdir(tmp_path)) == 20


def test_a_new_file_that_is_taken_for_a_leftover() -> None:
    """Another one who has just created the file tidies up before the lock is taken."""
    fs = SimulatedFileSystem()
    lock = fs.lock
    locked: list[int] = []

    def late(fd: int) -> bool:
        locked.append(fd)
        if len(locked) > 1:
            return lock(fd)
        (part,) = fs.names_now
        fs.unlink(part)
        return False

    fs.lock = late  # type: ignore[method-assign]
    EgwFile.open(FILE, create="text", fs=fs).close()
    assert (list(fs.names_now), fs.files) == ([FILE], {})


@pytest.mark.parametrize("how", ["replaced", "removed"])
def test_a_file_that_is_not_there_any_more_is_not_written(how: str, tmp_path: Path) -> None:
    path = tmp_path / "a.egw"
    file = EgwFile.open(path, create="text")
    put(0, "abc", file)
    if how == "replaced":
        (tmp_path / "b.egw").write_bytes(b"mine")
        (tmp_path / "b.egw").replace(path)
    else:
        path.unlink()
    with pytest.raises(StorageError, match="cannot be compacted: the file has been moved"):
        file.compact()
    file.document.insert(0, "d")
    with pytest.raises(StorageError, match="the file has been moved, removed or replaced"):
        file.commit()
    with pytest.raises(StorageError, match="read-only since writing failed"):
        file.close()
    assert not path.exists() or path.read_bytes() == b"mine"


# --- threads ------------------------------------------------------------------------------------------------


def together(*works: Callable[[], None]) -> None:
    """Run functions in threads; raises what one of them raised."""
    errors: list[BaseException] = []

    def run(work: Callable[[], None]) -> None:
        try:
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


def until(what: Callable[[], object]) -> None:
    """Wait for something to become true."""
    deadline = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < deadline, "stuck"
        time.sleep(0.001)


def waiting(file: EgwFile) -> int:
    """How many threads wait for their turn."""
    return len(file._turn._waiters)  # type: ignore[attr-defined]


def test_threads_share_syncs() -> None:
    """And whatever returns from `commit` is durable already: it is looked for at once."""
    threads, each = 8, 15
    fs = SimulatedFileSystem()
    file = EgwFile.open(FILE, "alice", create="text", fs=fs)
    sync, barrier, lock = fs.sync, threading.Barrier(threads), threading.Lock()
    syncs = returned = 0

    def slow(fd: int) -> None:
        """It ends when all others wait whose commit has not returned."""
        nonlocal syncs
        syncs += 1
        until(lambda: (returned + 1 + waiting(file)) % threads == 0)
        sync(fd)

    fs.sync = slow  # type: ignore[method-assign]

    def work(thread: int) -> Callable[[], None]:
        def run() -> None:
            nonlocal returned
            for number in range(each):
                token = f"<{thread}.{number}>"
                barrier.wait(PATIENCE)
                file.document.insert(0, token)
                stored = file.commit()
                with lock:
                    returned += 1
                doc, _ = read(fs.only_stored().names_now[FILE].image)
                assert token in doc.content
                assert doc.version_vector["alice"][-1][1] >= stored["alice"][-1][1]

        return run

    together(*map(work, range(threads)))
    assert syncs == 2 * each, "one for who comes first, and one for all others"
    fs.sync = sync  # type: ignore[method-assign]
    file.close()
    assert read(fs.names_now[FILE].image)[0].content == file.document.content


@pytest.mark.parametrize("fails", [False, True])
def test_commits_that_wait_take_one_sync(fails: bool) -> None:
    """All that come while one is being synced are stored by the next one, or told that it failed."""
    fs = SimulatedFileSystem()
    file = EgwFile.open(FILE, "alice", create="text", fs=fs)
    syncing, go_on = threading.Event(), threading.Event()
    sync = fs.sync
    syncs: list[int] = []
    failures: list[StorageError] = []

    def slow(fd: int) -> None:
        syncs.append(fd)
        syncing.set()
        assert go_on.wait(PATIENCE)
        if fails and len(syncs) > 1:
            raise OSError(errno.EIO, "failed")
        sync(fd)

    def commit() -> None:
        try:
            file.commit()
        except StorageError as error:
            failures.append(error)

    fs.sync = slow  # type: ignore[method-assign]
    file.document.insert(0, "first")
    leader = threading.Thread(target=commit, daemon=True)
    leader.start()
    assert syncing.wait(PATIENCE)
    others = []
    for number in range(6):
        file.document.insert(0, str(number))
        others.append(threading.Thread(target=commit, daemon=True))
        others[-1].start()
    until(lambda: waiting(file) == 6)
    assert all(thread.is_alive() for thread in others), "not before they are stored"
    assert file.stored == {}
    go_on.set()
    for thread in (leader, *others):
        thread.join(PATIENCE)
        assert not thread.is_alive(), "stuck"
    assert len(syncs) == 2
    assert len(failures) == (6 if fails else 0)
    content = "first" if fails else "543210first"
    assert read(fs.only_stored().names_now[FILE].image)[0].content == content


def test_closing_while_others_commit() -> None:
    """A commit that returns is stored, also by `close`; later ones are told."""
    for _ in range(10):
        fs = SimulatedFileSystem()
        file = EgwFile.open(FILE, "alice", create="text", fs=fs)
        fs.sync_seconds = 0.001
        returned: list[str] = []
        refused: list[str] = []

        def work(thread: int, file: EgwFile, returned: list[str], refused: list[str]) -> None:
            for number in range(1000):
                file.document.insert(0, f"<{thread}.{number}>")
                try:
                    file.commit()
                except StorageError as error:
                    refused.append(str(error))
                    return
                returned.append(f"<{thread}.{number}>")

        def close(file: EgwFile, returned: list[str]) -> None:
            until(lambda: len(returned) > 5)
            file.close()

        together(
            *[partial(work, i, file, returned, refused) for i in range(4)], partial(close, file, returned)
        )
        doc, report = read(fs.only_stored().names_now[FILE].image)
        assert report.closed
        assert refused == ["/folder/doc.egw is closed"] * 4, "closing has its turn before long"
        assert not [token for token in returned if token not in doc.content]


def test_all_who_wait_are_told_of_a_failure() -> None:
    """Those who let somebody else go first, too, when that one does not."""
    fs = SimulatedFileSystem()
    file = EgwFile.open(FILE, "alice", create="text", fs=fs)
    syncing, go_on = threading.Event(), threading.Event()

    def slow(fd: int) -> None:
        syncing.set()
        assert go_on.wait(PATIENCE)
        raise OSError(errno.EIO, "failed")

    def refused(work: Callable[[], object]) -> None:
        with pytest.raises(StorageError):
            work()

    fs.sync = slow  # type: ignore[method-assign]
    file.document.insert(0, "abc")
    threads = []
    for work in (file.commit, file.commit, file.commit, file.compact, file.commit):
        threads.append(threading.Thread(target=refused, args=(work,), daemon=True))
        threads[-1].start()
        assert syncing.wait(PATIENCE)
        until(lambda: waiting(file) == len(threads) - 1)
    go_on.set()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive(), "stuck"
    refused(file.close)
    assert repr(file).endswith("closed>")


@pytest.mark.parametrize("call", ["write", "sync"])
def test_those_who_wait_are_told_of_a_failure(call: str) -> None:
    fs = SimulatedFileSystem()
    file = EgwFile.open(FILE, "alice", create="text", fs=fs)
    put(0, "stored ", file)
    fs.fault = lambda number, name: -errno.EIO if name == call else None
    started = threading.Event()
    append = file._append

    def slow(kind: int, payload: bytes) -> None:
        started.set()
        until(lambda: waiting(file) == 3)
        append(kind, payload)

    file._append = slow  # type: ignore[method-assign]
    errors: list[StorageError] = []

    def commit() -> None:
        file.document.insert(0, "x")
        with pytest.raises(StorageError) as info:
            file.commit()
        errors.append(info.value)

    def later() -> None:
        assert started.wait(PATIENCE)
        commit()

    together(commit, later, later, later)
    assert len(errors) == 4
    assert all(isinstance(error, EgwalkerError) and error.errno == errno.EIO for error in errors)
    fs.fault = lambda number, name: None
    before = len(fs.calls)
    for work in (file.commit, file.compact):
        with pytest.raises(StorageError, match="read-only since writing failed: .*Input/output error"):
            work()
    assert repr(file).endswith("failed>")
    assert file.stored == {"alice": [(0, 7)]}
    assert file.document.content == "xxxxstored "
    with pytest.raises(StorageError):
        file.close()
    assert len(fs.calls) == before, "nothing is written any more"
    with EgwFile.open(FILE, fs=fs) as again:
        assert again.document.content == "stored "
        assert again.recovered is None, "what was written in part has been cut off"


def test_closing_a_failed_file_that_holds_everything() -> None:
    fs = SimulatedFileSystem()
    file = EgwFile.open(FILE, "alice", create="text", fs=fs)
    put(0, "abc", file)
    fs.fault = lambda number, name: errno.EIO if name == "rename" else None
    with pytest.raises(StorageError):
        file.compact()
    with pytest.raises(StorageError, match="read-only"):
        file.commit()
    file.close()
    fs.fault = lambda number, name: None
    EgwFile.open(FILE, fs=fs).close()


@pytest.mark.parametrize("call", ["write", "sync", "rename", "sync_folder"])
def test_interrupted(call: str) -> None:
    """Ctrl-C at any place: nothing is acknowledged that is not stored, nothing stored is lost."""
    fs = SimulatedFileSystem()
    file = EgwFile.open(FILE, "alice", create="text", fs=fs)
    put(0, "abc", file)

    def interrupt(number: int, name: str) -> None:
        if name == call:
            raise KeyboardInterrupt

    file.document.insert(0, "d")
    fs.fault = interrupt
    work = file.commit if call in ("write", "sync") else file.compact
    with pytest.raises(KeyboardInterrupt):
        work()
    fs.fault = lambda number, name: None
    assert file.stored == {"alice": [(0, 3)]}
    with pytest.raises(StorageError, match="KeyboardInterrupt"):
        file.commit()
    with pytest.raises(StorageError):
        file.close()
    with EgwFile.open(FILE, fs=fs) as again:
        assert again.document.content in ("abc", "dabc")
        again.document.insert(0, "e")


def test_an_encoder_that_fails_breaks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    fs = SimulatedFileSystem()
    with EgwFile.open(FILE, "alice", create="text", fs=fs) as file:
        file.document.insert(0, "abc")

        def fail(self: Document, **options: object) -> bytes:
            raise MemoryError

        with monkeypatch.context() as patch:
            patch.setattr(Document, "encode", fail)
            for work in (file.commit, file.compact):
                with pytest.raises(MemoryError):
                    work()
        assert file.commit() == {"alice": [(0, 3)]}


def test_scan_is_the_layout(data: bytes) -> None:
    """The module reads what the independent parser reads."""
    found = scan(data)
    assert [(r.start, r.kind, bytes(r.payload)) for r in found.records] == parsed(data)
    assert (found.closed, found.damage) == (True, None)


def test_a_document_that_becomes_a_replica_of_another_one(tmp_path: Path) -> None:
    """An empty document takes on an id after its file was made: the file has that one then."""
    other = Document(agent="bob")
    other.insert(0, "hello")
    path = tmp_path / "a.egw"
    for data in (other.encode(), other.encode(content=False)):
        with EgwFile.open(path, "alice", create="text") as file:
            file.commit()
            file.document.apply(data)
            file.commit()
            file.document.insert(5, "!")
        document, _ = read(path)
        assert (document.id, document.content) == (other.id, "hello!")
        path.unlink()
