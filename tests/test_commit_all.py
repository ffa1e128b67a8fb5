"""Commits of many files, each begun by one call and all ended by another one."""

from __future__ import annotations

import errno
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from crash import Crash, SimulatedFileSystem
from serving import PATIENCE

from egwalker import Document, egw_file
from egwalker.cycore import disk
from egwalker.cycore.errors import StorageError
from egwalker.egw_file import Commit, EgwFile, commit_all
from egwalker.egw_records import read


def files(fs: SimulatedFileSystem, count: int) -> list[EgwFile]:
    return [EgwFile.open(f"/folder/{i}.egw", "alice", create="text", fs=fs) for i in range(count)]


def begun(file: EgwFile) -> Commit:
    commit = file.begin_commit()
    assert commit is not None
    return commit


def stored(fs: SimulatedFileSystem, file: EgwFile) -> str:
    """What is found if the power fails now."""
    return str(read(fs.only_stored().names_now[file._path].image)[0].content)


def test_all_is_stored_by_one_call_and_nothing_before() -> None:
    fs = SimulatedFileSystem()
    many = files(fs, 5)
    rng = Random(1)
    for _ in range(10):
        some = rng.sample(many, rng.randint(1, 5))
        before = {file: stored(fs, file) for file in many}
        for file in some:
            file.document.insert(0, rng.choice("abc") * rng.randint(1, 9))
        commits = [begun(file) for file in some]
        for file in some:
            file.document.insert(0, "later ")
        assert {file: stored(fs, file) for file in many} == before
        assert commit_all(commits) == [None] * len(some)
        for file in some:
            assert "later " + stored(fs, file) == file.document.content
            assert not file.all_stored
            assert file.stored["alice"][0][1] == file.document.events - len("later ")
        assert commit_all([begun(file) for file in some]) == [None] * len(some)
        assert all(file.all_stored for file in many)
    for file in many:
        file.close()
        document, report = read(fs.names_now[file._path].image)
        assert report.closed
        assert document.content == file.document.content


@pytest.mark.parametrize("call", ["write", "sync"])
def test_a_failure_concerns_one_file(call: str) -> None:
    fs = SimulatedFileSystem()
    many = files(fs, 3)
    for file in many:
        file.document.insert(0, "abc")
    commits = [begun(file) for file in many]
    failing = len(fs.calls) + (2 if call == "write" else 5)
    fs.fault = lambda number, name: errno.ENOSPC if number == failing else None
    first, second, third = commit_all(commits)
    assert fs.calls[failing - 1] == call
    assert first is third is None
    assert isinstance(second, StorageError)
    assert second.errno == errno.ENOSPC
    assert [stored(fs, file) for file in many] == ["abc", "", "abc"]
    assert len(fs.names_now[many[1]._path].image) == many[1]._end, "it is cut off"
    assert [file.stored for file in many] == [{"alice": [(0, 3)]}, {}, {"alice": [(0, 3)]}]
    assert not many[1].all_stored
    assert many[1].begin_commit() is None
    with pytest.raises(StorageError, match="read-only since writing failed"):
        many[1].commit()


def test_a_crash_leaves_nobody_waiting() -> None:
    fs = SimulatedFileSystem()
    one, other = files(fs, 2)
    one.document.insert(0, "a")
    other.document.insert(0, "b")
    commits = [begun(one), begun(other)]
    fs.crash_at = len(fs.calls) + 2
    with pytest.raises(Crash):
        commit_all(commits)
    for file in (one, other):
        with pytest.raises(StorageError):
            file.commit()


def held_by_another_thread(document: Document) -> Callable[[], None]:
    """Begin a transaction in a thread; returns what ends it."""
    inside, go_on = threading.Event(), threading.Event()

    def work() -> None:
        with document.transaction():
            inside.set()
            go_on.wait(PATIENCE)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    assert inside.wait(PATIENCE)

    def end() -> None:
        go_on.set()
        thread.join(PATIENCE)

    return end


def test_what_is_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    """But left to `commit`."""
    fs = SimulatedFileSystem()
    (file,) = files(fs, 1)
    document = file.document
    assert file.begin_commit() is None, "there is nothing to do"
    document.insert(0, "abc")
    with document.transaction():
        assert file.begin_commit() is None
    end = held_by_another_thread(document)
    assert file.begin_commit() is None
    end()
    commit = begun(file)
    assert file.begin_commit() is None, "one has begun already"
    assert commit_all([commit]) == [None]

    document.insert(0, "x" * (egw_file.FEW + 1))
    assert file.begin_commit() is None, "these are many"
    file.commit()
    monkeypatch.setattr(file, "_limit", file._updates + 10)
    document.insert(0, "abc")
    assert file.begin_commit() is None, "it is to be compacted"
    file.commit()
    assert file.all_stored

    file.close()
    document.insert(0, "abc")
    assert file.begin_commit() is None
    again = EgwFile.open(file._path, fs=fs)
    again.document.insert(0, "d")
    commit = begun(again)
    assert again.document._replica.unread is not None
    fs.rename(again._path, "/folder/elsewhere.egw")
    assert commit_all([commit]) == [None]
    again.document.insert(0, "f")
    assert again.begin_commit() is None
    with pytest.raises(StorageError, match="moved"):
        again.commit()


def test_a_document_that_has_taken_on_another_id() -> None:
    fs = SimulatedFileSystem()
    (file,) = files(fs, 1)
    other = Document(agent="bob")
    other.insert(0, "abc")
    file.document.apply(other.encode())
    assert not file.all_stored
    assert file.begin_commit() is None
    file.commit()
    assert stored(fs, file) == "abc"
    assert read(fs.names_now[file._path].image)[0].id == other.id


def test_others_wait_for_what_has_begun() -> None:
    fs = SimulatedFileSystem()
    (file,) = files(fs, 1)
    file.document.insert(0, "abc")
    commit = begun(file)
    file.document.insert(0, "d")
    thread = threading.Thread(target=file.commit, daemon=True)
    thread.start()
    thread.join(0.05)
    assert thread.is_alive()
    assert commit_all([commit]) == [None]
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert stored(fs, file) == "dabc"


def test_the_operating_systems_files(tmp_path: Path) -> None:
    rng = Random(2)
    fds = [os.open(tmp_path / str(i), os.O_RDWR | os.O_CREAT) for i in range(100)]
    contents = [b""] * len(fds)
    for _ in range(3):
        some = rng.sample(range(len(fds)), rng.choice([1, 2, 17, 100]))
        pieces = []
        for i in some:
            data = rng.randbytes(rng.choice([0, 1, 100, 300_000]))
            pieces.append((fds[i], len(contents[i]), data))
            contents[i] += data
        assert disk.store_all(pieces) == [0] * len(some)
    assert disk.store_all([]) == []
    bad = os.open(tmp_path / "0", os.O_RDONLY)
    assert disk.store_all([(fds[1], 0, b"x"), (bad, 0, b"x"), (-1, 0, b"x")]) == [
        0,
        errno.EBADF,
        errno.EBADF,
    ]
    contents[1] = b"x" + contents[1][1:]
    assert [(tmp_path / str(i)).read_bytes() for i in range(len(fds))] == contents
    for fd in [*fds, bad]:
        os.close(fd)
    with pytest.raises(TypeError):
        disk.store_all([(1, 0, "text")])  # type: ignore[list-item]


@pytest.mark.parametrize("other", ["nothing", "closed", "full"])
def test_what_cannot_be_written_among_many(tmp_path: Path, other: str) -> None:
    """All others are stored, whichever thread writes them."""
    if other == "full" and not sys.platform.startswith("linux"):
        pytest.skip("there is no /dev/full")
    fds = [os.open(tmp_path / str(i), os.O_RDWR | os.O_CREAT) for i in range(60)]
    bad = os.open(tmp_path / "0", os.O_RDONLY)
    pieces = [(fd, 0, b"x") for fd in fds]
    wanted = [0] * len(fds)
    pieces[40], wanted[40] = (bad, 0, b"x"), errno.EBADF
    if other != "nothing":
        wrong = -1 if other == "closed" else os.open("/dev/full", os.O_RDWR)
        pieces[20] = (wrong, 0, b"x")
        wanted[20] = errno.EBADF if other == "closed" else errno.ENOSPC
    assert disk.store_all(pieces) == wanted
    assert [(tmp_path / str(i)).read_bytes() for i in range(60) if wanted[i] == 0] == [b"x"] * wanted.count(0)
    for fd in {*fds, *[piece[0] for piece in pieces]} - {-1}:
        os.close(fd)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="there is no /dev/full")
def test_a_full_disk() -> None:
    fd = os.open("/dev/full", os.O_RDWR)
    assert disk.store_all([(fd, 0, b"x")]) == [errno.ENOSPC]
    os.close(fd)
