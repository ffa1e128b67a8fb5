"""`file:` URLs: documents kept in `.egw` files, and exchange folders."""

from __future__ import annotations

import asyncio
import os
import shutil
import unicodedata
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import quote

import pytest
from serving import PATIENCE

from egwalker import (
    DecodeError,
    Document,
    IdentityError,
    KindError,
    LockedError,
    StorageError,
    SyncError,
    egw_records,
)
from egwalker.egw_file import EgwFile
from egwalker.transport import connect
from egwalker.transports import file as transport
from egwalker.transports.file import FileLink, FileTransport, FolderLink, file_name, path_of
from egwalker.transports.testing import assert_converged


def url_of(path: Path) -> str:
    return f"file:{quote(str(path))}{'/' if path.is_dir() or not path.suffix else ''}"


def stored(path: Path) -> str:
    """What is in a file, whoever has it open."""
    content: str = egw_records.read(path)[0].content
    return content


async def linked(path: Path, document: Document, work: Callable[[], object] = lambda: None) -> None:
    async with asyncio.timeout(PATIENCE), connect(url_of(path), document) as one:
        await one.synced()
        work()


def test_a_new_file(tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "notes & more?.egw"
        document = Document(agent="ann")
        async with connect(url_of(path), document) as one:
            await one.persisted()
            assert not path.exists(), "a new document may become a replica of another one still"
            document.insert(0, "hello")
            await one.persisted()
            assert stored(path) == "hello"
            document.insert(5, "!")
            await one.persisted()
            assert stored(path) == "hello!"
            document.insert(6, "?")
        assert stored(path) == "hello!?"
        assert egw_records.read(path)[0].id == document.id
        again = Document(agent="bob")
        await linked(path, again, lambda: again.insert(0, ">"))
        assert stored(path) == again.content == ">hello!?"
        with pytest.raises(SyncError, match="closed"):
            await one.synced()

    asyncio.run(main())


def test_a_document_and_a_file_that_both_went_on(tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "x.egw"
        ann = Document(agent="ann")
        await linked(path, ann, lambda: ann.insert(0, "one "))
        bob = ann.fork("bob")
        ann.insert(len(ann), "ann ")
        await linked(path, bob, lambda: bob.insert(len(bob), "bob "))
        await linked(path, ann)
        assert stored(path) == ann.content
        assert sorted(ann.content.split()) == ["ann", "bob", "one"]

    asyncio.run(main())


def test_what_is_refused(tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "x.egw"
        ann = Document(agent="ann")
        await linked(path, ann, lambda: ann.insert(0, "hello"))
        before = path.read_bytes()
        other = Document()
        other.insert(0, "other")
        for document, error in ((other, IdentityError), (Document("list"), KindError)):
            with pytest.raises(error):
                await linked(path, document)
        with EgwFile.open(path), pytest.raises(LockedError):
            await linked(path, ann)
        before = path.read_bytes()
        damaged = tmp_path / "bad.egw"
        damaged.write_bytes(before[:40] + b"?" + before[41:])
        with pytest.raises(DecodeError):
            await linked(damaged, ann)
        with pytest.raises(StorageError):
            await linked(tmp_path / "no" / "folder.egw", ann)
        (tmp_path / "dir.egw").mkdir()
        with pytest.raises(IsADirectoryError):
            await FileTransport().connect(f"file:{tmp_path}/dir.egw", ann).__aenter__()
        assert path.read_bytes() == before
        # Nothing stays locked.
        await linked(path, ann, lambda: ann.insert(0, "x"))
        assert stored(path) == "xhello"

    asyncio.run(main())


def test_two_who_make_one_file(tmp_path: Path) -> None:
    """The second one is told, and nothing is said to be stored that is not."""

    async def main() -> None:
        path = tmp_path / "x.egw"
        ann, bob = Document(agent="ann"), Document(agent="bob")
        one, other = connect(url_of(path), ann), connect(url_of(path), bob)
        async with one as first:
            second = await other.__aenter__()
            ann.insert(0, "ann")
            await first.persisted()
            bob.insert(0, "bob")
            with pytest.raises(StorageError):
                await second.persisted()
            with pytest.raises(StorageError):
                await second.close()
        assert stored(path) == "ann"

    asyncio.run(main())


def test_writing_fails(tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "x.egw"
        document = Document()
        one = FileTransport().connect(url_of(path), document)
        await one.__aenter__()
        document.insert(0, "hello")
        await one.persisted()
        path.unlink()
        document.insert(0, "x")
        for work in one.persisted, one.synced, one.close:
            with pytest.raises(StorageError, match="moved, removed or replaced"):
                await work()
        assert not one.connected

    asyncio.run(main())


def test_edits_of_a_cancelled_program_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "x.egw"
    document = Document()

    async def work(done: asyncio.Event) -> None:
        async with connect(url_of(path), document) as one:
            await one.synced()
            document.insert(0, "hello")
            done.set()
            await asyncio.Event().wait()

    async def main() -> None:
        done = asyncio.Event()
        working = asyncio.create_task(work(done))
        await asyncio.wait_for(done.wait(), PATIENCE)
        working.cancel()
        with pytest.raises(asyncio.CancelledError):
            await working

    asyncio.run(main())
    with EgwFile.open(path) as file:
        assert file.document.content == "hello"


def test_a_document_with_a_file_takes_on_the_id_of_what_comes(tmp_path: Path) -> None:
    """Of several links none settles a new document's id before there is something to store."""

    async def main() -> None:
        document, other = Document(), Document()
        other.insert(0, "theirs")
        async with connect(url_of(tmp_path / "x.egw"), document) as one:
            await one.synced()
            document.merge(other)
            await one.persisted()
        assert egw_records.read(tmp_path / "x.egw")[0].id == other.id

    asyncio.run(main())


def test_urls() -> None:
    assert path_of("file:notes.egw") == Path("notes.egw")
    assert path_of("file:///a%20b/c.egw") == path_of("file://localhost/a b/c.egw") == Path("/a b/c.egw")
    for url in ("file:", "file://host/x.egw", "file:x?y", "file:x#y", "file:x%00y"):
        with pytest.raises(DecodeError):
            path_of(url)
    assert isinstance(FileTransport().connect("file:x/", Document()), FolderLink)
    assert isinstance(FileTransport().connect("file:x", Document()), FileLink)


# --- exchange folders ---------------------------------------------------------------------------------------


def test_three_who_never_meet(tmp_path: Path) -> None:
    """They carry a stick around: each one's computer has a copy of the folder."""

    async def main() -> None:
        stick = tmp_path / "stick"
        ann = Document(agent="ann")
        await linked(stick, ann, lambda: ann.insert(0, "start "))
        bob, cy = Document(agent="bob"), Document(agent="Cy/../x")
        people = [ann, bob, cy]
        for number in range(4):
            for person in people:
                await linked(stick, person, lambda p=person, n=number: p.insert(len(p), f"{p.agent}{n} "))  # type: ignore[misc]
        for person in people:
            await linked(stick, person)
        await linked(stick, ann)
        assert_converged(*people, thoroughly=True)
        words = ann.content.split()
        assert len(words) == len(set(words)) == 13
        assert len(list(stick.iterdir())) == 3

    asyncio.run(main())


def test_copies_of_a_folder(tmp_path: Path) -> None:
    """As under version control: files are copied between two folders, now and then."""

    async def main() -> None:
        here, there = tmp_path / "here", tmp_path / "there"
        ann = Document(agent="ann")
        await linked(here, ann, lambda: ann.insert(0, "hello "))
        shutil.copytree(here, there)
        bob = Document(agent="bob")
        await linked(there, bob, lambda: bob.insert(len(bob), "bob "))
        await linked(here, ann, lambda: ann.insert(len(ann), "ann "))
        shutil.copy2(here / "ann.egw", there)
        shutil.copy2(there / "bob.egw", here)
        await linked(here, ann)
        await linked(there, bob)
        assert_converged(ann, bob)
        assert sorted(ann.content.split()) == ["ann", "bob", "hello"]

    asyncio.run(main())


def test_who_is_there_at_one_time_sees_the_others(tmp_path: Path) -> None:
    async def main() -> None:
        ann = Document(agent="ann")
        ann.insert(0, "hello ")
        bob = ann.fork("bob")
        url = f"file:{tmp_path}/"
        async with asyncio.timeout(PATIENCE), connect(url, ann, period=0.02), connect(url, bob, period=0.02):
            ann.insert(0, "ann ")
            bob.insert(len(bob), "bob ")
            while ann.content != bob.content or len(ann.content) < 14:
                await asyncio.sleep(0.01)

    asyncio.run(main())


def test_only_ones_own_file_is_written(tmp_path: Path) -> None:
    async def main() -> None:
        ann = Document(agent="ann")
        await linked(tmp_path, ann, lambda: ann.insert(0, "hello"))
        torn = (tmp_path / "ann.egw").read_bytes() + b"torn"
        (tmp_path / "torn.egw").write_bytes(torn)
        (tmp_path / "notes.txt").write_text("not ours")
        before = {path: (path.read_bytes(), path.stat()) for path in tmp_path.iterdir()}
        bob = Document(agent="bob")
        await linked(tmp_path, bob, lambda: bob.insert(0, "bob "))
        for path, (data, stat) in before.items():
            assert path.read_bytes() == data
            assert path.stat().st_mtime_ns == stat.st_mtime_ns
        assert {path.name for path in tmp_path.iterdir()} == {path.name for path in before} | {"bob.egw"}

    asyncio.run(main())


async def waits(what: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not what():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("settled", [5.0, 0.0])
def test_what_is_half_there_is_picked_up_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settled: float
) -> None:
    """In pieces, and with a file that stays damaged, one that cannot be read and one of another document."""
    monkeypatch.setattr(transport, "SETTLED", settled)

    async def main() -> None:
        ann, folder = Document(agent="ann"), tmp_path / "folder"
        ann.insert(0, "hello")
        with EgwFile.open(tmp_path / "whole.egw", create=ann.fork()) as file:
            file.commit()
            file.document.insert(0, "x" * 1000)
        data = (tmp_path / "whole.egw").read_bytes()
        folder.mkdir()
        (folder / "bad.egw").write_bytes(data[:50] + b"??" + data[52:])
        (folder / "folder.egw").mkdir()
        (folder / "gone.egw").symlink_to(folder / "nowhere")
        (folder / ".hidden.egw").write_bytes(b"somebody's leftover")
        with EgwFile.open(folder / "else.egw", create="text") as other:
            other.document.insert(0, "else")
        async with connect(f"file:{folder}/", ann, period=0.01) as one:
            assert isinstance(one, FolderLink)
            await one.persisted()
            assert one.left_out.keys() == {"bad.egw", "folder.egw", "else.egw"}
            assert isinstance(one.left_out["else.egw"], IdentityError)
            for length in (0, 10, len(data) // 2, len(data) - 3):
                (folder / "late.egw").write_bytes(data[:length])
                await waits(lambda: "late.egw" in one.left_out)
                await one.synced()
                ann.insert(0, "y")
                await one.persisted()
            (folder / "late.egw").write_bytes(data)
            await waits(lambda: len(ann) == 1009)
            await waits(lambda: "late.egw" not in one.left_out)
            (folder / "bad.egw").unlink()
            await waits(lambda: "bad.egw" not in one.left_out)

    asyncio.run(main())


@pytest.mark.parametrize("settled", [5.0, 0.0])
def test_a_copy_that_keeps_size_and_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settled: float
) -> None:
    """Some programs make the file as large as it will be first: it is read again though little shows."""
    monkeypatch.setattr(transport, "SETTLED", settled)

    async def main() -> None:
        ann = Document(agent="ann")
        ann.insert(0, "hello")
        with EgwFile.open(tmp_path / "whole.egw", create=ann.fork()) as file:
            file.document.insert(0, "x")
        data = (tmp_path / "whole.egw").read_bytes()
        folder = tmp_path / "folder"
        folder.mkdir()
        late = folder / "late.egw"
        late.write_bytes(bytes(len(data)))
        os.utime(late, ns=(1, 1))
        async with connect(f"file:{folder}/", ann, period=0.01) as one:
            await one.synced()
            await asyncio.sleep(0.05)
            with late.open("r+b") as stream:
                stream.write(data)
            os.utime(late, ns=(1, 1))
            await waits(lambda: ann.content == "xhello")

    asyncio.run(main())


ODD_AGENTS = (
    "ann", "Ann", "ANN", "a/b", "a\\b", "a_b", "..", ".", ".hidden", "a.b", "x" * 255, "x" * 254 + "y",
    "ü" * 127, "caf\u00e9", "cafe\u0301", "nul\0", "new\nline", "a b", "a b ", "-", "ann.egw", "CON", "con ",
    "é", "\u212a", "k", "K",
)  # fmt: skip


def test_odd_agents_have_files_of_their_own(tmp_path: Path) -> None:
    names = [file_name(agent) for agent in ODD_AGENTS]
    assert len({unicodedata.normalize("NFKC", name).casefold() for name in names}) == len(ODD_AGENTS)
    for name in names:
        assert name.endswith(".egw")
        assert not name.startswith(".")
        assert name.isascii()
        assert "/" not in name
        assert len(name) < 100

    async def main() -> None:
        first = Document(agent="first")
        await linked(tmp_path, first, lambda: first.insert(0, "first "))
        for i, agent in enumerate(ODD_AGENTS):
            document = Document(agent=agent)
            await linked(tmp_path, document, lambda d=document, i=i: d.insert(len(d), f"{i} "))  # type: ignore[misc]
        assert {path.name for path in tmp_path.iterdir()} == {"first.egw", *names}
        await linked(tmp_path, first)
        assert first.content.split() == ["first", *[str(i) for i in range(len(ODD_AGENTS))]]

    asyncio.run(main())


# --- places -------------------------------------------------------------------------------------------------


def place(path: Path, kind: str = "text") -> Awaitable[transport.FilePlace]:
    return FileTransport().place(f"file:{quote(str(path))}", kind)


def test_a_place(tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "x.egw"
        empty = await place(path)
        await empty.commit()
        await empty.close()
        assert not path.exists(), "nobody did anything with it"
        one = await place(path)
        one.document.insert(0, "hello")
        await asyncio.gather(*[one.commit() for _ in range(10)])
        assert stored(path) == "hello"
        with pytest.raises(LockedError):
            await place(path)
        one.document.insert(5, "!")
        await one.close()
        assert stored(path) == "hello!"
        again = await place(path, "list")
        assert again.document.content == "hello!", "what is there is what it was made as"
        await again.close()

    asyncio.run(main())


def test_a_new_place_that_is_taken(tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "x.egw"
        one, other = await place(path), await place(path)
        one.document.insert(0, "one")
        await one.commit()
        other.document.insert(0, "other")
        with pytest.raises(StorageError):
            await other.commit()
        await one.close()
        with pytest.raises(StorageError):
            await other.close()
        assert stored(path) == "one"

    asyncio.run(main())


def test_a_place_that_nobody_waits_for(tmp_path: Path) -> None:
    """It is not left open."""
    path = tmp_path / "x.egw"

    async def main() -> None:
        with EgwFile.open(path, create="text") as file:
            file.document.insert(0, "x")
        for _ in range(20):
            task = asyncio.ensure_future(place(path))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await (await place(path)).close()

    asyncio.run(main())
