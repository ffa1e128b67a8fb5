"""Crashes: a simulated file system that loses what was not synced, and writers that are killed at work.

    python tests/crash.py [--kills N] [--seed N]

kills a process that edits and commits from several threads, N times at random moments, opens what it left and
prints what was found; exit status 1 if anything that it acknowledged is missing.
"""

from __future__ import annotations

import argparse
import copy
import errno
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from random import Random

from egwalker import egw_file, egw_records
from egwalker.cycore.errors import StorageError
from egwalker.egw_file import EgwFile, commit_all
from egwalker.file_system import write_all

SECTOR = 512


class Crash(BaseException):
    """The process ends here: nothing that it does afterwards reaches the file system."""


# --- the simulated file system ------------------------------------------------------------------------------

Change = tuple[str, int, bytes]
"""`("write", offset, data)` or `("truncate", size, b"")`."""


def apply(image: bytes, change: Change) -> bytes:
    kind, at, data = change
    if kind == "truncate":
        return image[:at].ljust(at, b"\0")
    return image[:at].ljust(at, b"\0") + data + image[at + len(data) :]


class Inode:
    """A file: what is stored of it, what was done to it since, and what those who read it see."""

    def __init__(self) -> None:
        self.stored = b""
        self.pending: list[Change] = []
        self.image = b""

    def change(self, change: Change) -> None:
        self.pending.append(change)
        self.image = apply(self.image, change)

    def sync(self) -> None:
        for change in self.pending:
            self.stored = apply(self.stored, change)
        self.pending.clear()

    def after_power_loss(self, rng: Random, stale: list[bytes]) -> bytes:
        """What may be left: anything between what was stored and what was written, in any order and torn."""
        images = [self.stored]
        for change in self.pending:
            images.append(apply(images[-1], change))
        how = rng.choice(["none", "all", "torn", "mixed", "mixed"])
        if how == "none" or len(images) == 1:
            return images[0]
        if how == "all":
            return images[-1]
        if how == "torn":
            which = rng.randrange(len(self.pending))
            kind, at, data = self.pending[which]
            return apply(images[which], (kind, at, data[: rng.randint(0, len(data))]))
        # Each sector comes from any of the states that there were; what was never stored may be anything.
        sizes = [len(image) for image in images]
        floor, size = min(sizes), rng.choice([*sizes, rng.randint(min(sizes), max(sizes))])
        left = bytearray()
        while len(left) < size:
            start, end = len(left), min(size, len(left) + SECTOR - len(left) % SECTOR)
            one, other = self._sector(rng, images, floor, start, end, stale), b""
            if rng.random() < 0.3:
                other = self._sector(rng, images, floor, start, end, stale)
            at = rng.randint(0, end - start) if other else end - start
            left += one[:at] + other[at:]
        return bytes(left)

    @staticmethod
    def _sector(
        rng: Random, images: list[bytes], floor: int, start: int, end: int, stale: list[bytes]
    ) -> bytes:
        image = rng.choice(images)[start:end]
        fill = rng.choice([bytes(end - start), rng.randbytes(end - start), rng.choice(stale)[start:end]])
        fill = fill.ljust(end - start, b"\0")
        if rng.random() < 0.3:
            image = image[: max(0, floor - start)]
        return image + fill[len(image) :]


Naming = tuple[str, str, "Inode | None"]
"""`("give", path, file)`, `("take", path, None)`, or `(old path, new path, file)` for a rename."""


class SimulatedFileSystem:
    """Files in memory, as `egwalker.file_system.FileSystem` wants them, which lose what was not synced.

    Every call but `close`, `size` and `is_at` has a number, from 1 on. `crash_at`: the number of the call
    within which the process ends. `fault` is asked for an error, by number and name of the call: an errno, or
    None; a negative one lets a write or a truncation happen in part first, and has a sync forget what was
    pending, as Linux does. 0 makes a write short.
    """

    def __init__(self) -> None:
        self.names_now: dict[str, Inode] = {}
        self.names_stored: dict[str, Inode] = {}
        self.pending: list[Naming] = []
        self.begin()

    def begin(self) -> None:
        """As a new process finds it: no file is open, nothing has been called."""
        self.files: dict[int, Inode] = {}
        self.locks: dict[int, int] = {}
        self.mutex = threading.RLock()
        self.calls: list[str] = []
        self.crash_at = 0
        self.dead = False
        self.fault: Callable[[int, str], int | None] = lambda number, name: None
        self.sync_seconds = 0.0

    def after_kill(self) -> SimulatedFileSystem:
        """What the next process finds when this one has been killed: all that was done."""
        mutex, fault, self.mutex, self.fault = self.mutex, self.fault, None, None  # type: ignore[assignment]
        left = copy.deepcopy(self)
        self.mutex, self.fault = mutex, fault
        left.begin()
        return left

    def after_power_loss(self, rng: Random) -> SimulatedFileSystem:
        """What may be found when the power failed."""
        names = dict(self.names_stored)
        some = rng.choice([0.0, 1.0, rng.random()])
        count = rng.randint(0, len(self.pending)) if rng.random() < 0.5 else None
        for i, naming in enumerate(self.pending):
            if rng.random() < some if count is None else i < count:
                self._rename(names, naming)
        every = {id(file): file for file in [*self.names_now.values(), *self.names_stored.values()]}
        stale = [b"", *[file.image for file in every.values()]]
        left = SimulatedFileSystem()
        new: dict[int, Inode] = {}
        for path, file in sorted(names.items()):
            if id(file) not in new:
                found = new[id(file)] = Inode()
                found.stored = found.image = file.after_power_loss(rng, stale)
            left.names_now[path] = left.names_stored[path] = new[id(file)]
        return left

    def only_stored(self) -> SimulatedFileSystem:
        """The worst that may be found: nothing but what was synced."""
        left = SimulatedFileSystem()
        with self.mutex:
            for path, file in self.names_stored.items():
                left.names_now[path] = left.names_stored[path] = found = Inode()
                found.stored = found.image = file.stored
        return left

    @staticmethod
    def _rename(names: dict[str, Inode], naming: Naming) -> None:
        kind, path, file = naming
        if kind == "take":
            names.pop(path, None)
            return
        assert file is not None
        if kind != "give":
            names.pop(kind, None)
        names[path] = file

    def _name(self, naming: Naming) -> None:
        self.pending.append(naming)
        self._rename(self.names_now, naming)

    def _find(self, path: str) -> Inode:
        if path not in self.names_now:
            raise FileNotFoundError(errno.ENOENT, "no such file", path)
        return self.names_now[path]

    def _call(self, name: str, work: Callable[[], None], part: Callable[[], None] | None = None) -> None:
        """Number a call, and do it, or in part, or not, as `crash_at` and `fault` say."""
        with self.mutex:
            self._alive()
            self.calls.append(name)
            number = len(self.calls)
            if number == self.crash_at:
                self.dead = True
                if name not in ("sync", "sync_folder"):
                    with suppress(OSError):
                        work()
                raise Crash
            code = self.fault(number, name)
            if code is None:
                work()
                return
            if code <= 0 and part is not None:
                part()
            if code:
                raise OSError(abs(code), os.strerror(abs(code)))

    def _alive(self) -> None:
        if self.dead:
            raise Crash

    # What `file_system.FileSystem` asks for

    def open(self, path: str, create: bool = False) -> int:
        def work() -> None:
            if not create:
                self._find(path)
            elif path in self.names_now:
                raise FileExistsError(errno.EEXIST, "file exists", path)
            else:
                self._name(("give", path, Inode()))

        with self.mutex:
            self._call("create" if create else "open", work)
            fd = max(self.files, default=2) + 1
            self.files[fd] = self._find(path)
            return fd

    def close(self, fd: int) -> None:
        with self.mutex:
            self._alive()
            file = self.files.pop(fd)
            if self.locks.get(id(file)) == fd:
                del self.locks[id(file)]

    def lock(self, fd: int) -> bool:
        with self.mutex:
            self._call("lock", lambda: None)
            return self.locks.setdefault(id(self.files[fd]), fd) == fd

    def is_at(self, fd: int, path: str) -> bool:
        with self.mutex:
            self._alive()
            return self.names_now.get(path) is self.files[fd]

    def copy_mode(self, source: int, target: int) -> None:
        self._call("copy_mode", lambda: None)

    def size(self, fd: int) -> int:
        with self.mutex:
            self._alive()
            return len(self.files[fd].image)

    def read(self, fd: int, offset: int, count: int) -> bytes:
        with self.mutex:
            self._call("read", lambda: None)
            return self.files[fd].image[offset : offset + max(1, count // 2)]

    def write(self, fd: int, offset: int, data: memoryview) -> int:
        taken = len(data)

        def part() -> None:
            nonlocal taken
            taken //= 2
            self.files[fd].change(("write", offset, bytes(data[:taken])))

        self._call("write", lambda: self.files[fd].change(("write", offset, bytes(data))), part)
        return taken

    def truncate(self, fd: int, size: int) -> None:
        self._call("truncate", *[lambda: self.files[fd].change(("truncate", size, b""))] * 2)

    def sync(self, fd: int) -> None:
        if self.sync_seconds:
            time.sleep(self.sync_seconds)
        file = self.files[fd]
        self._call("sync", file.sync, file.pending.clear)

    def store_all(self, pieces: Sequence[tuple[int, int, bytes]]) -> list[OSError | None]:
        errors: list[OSError | None] = []
        for fd, offset, data in pieces:
            try:
                write_all(self, fd, offset, data)
            except OSError as error:
                errors.append(error)
            else:
                errors.append(None)
        for i, (fd, _, _) in enumerate(pieces):
            try:
                if errors[i] is None:
                    self.sync(fd)
            except OSError as error:
                errors[i] = error
        return errors

    def sync_folder(self, path: str) -> None:
        def work() -> None:
            self.names_stored = dict(self.names_now)
            self.pending = []

        self._call("sync_folder", work)

    def names(self, folder: str) -> list[str]:
        with self.mutex:
            self._call("names", lambda: None)
            return [os.path.basename(path) for path in self.names_now]

    def link(self, path: str, new: str) -> None:
        def work() -> None:
            if new in self.names_now:
                raise FileExistsError(errno.EEXIST, "file exists", new)
            self._name(("give", new, self._find(path)))

        self._call("link", work)

    def rename(self, path: str, new: str) -> None:
        self._call("rename", lambda: self._name((path, new, self._find(path))))

    def unlink(self, path: str) -> None:
        def work() -> None:
            self._find(path)
            self._name(("take", path, None))

        self._call("unlink", work)


# --- a writer, and what it may leave ------------------------------------------------------------------------

FILE = "/folder/doc.egw"


def commit_in_two_steps(file: EgwFile) -> None:
    """As a server does."""
    begun = file.begin_commit()
    if begun is None:
        file.commit()
        return
    (failure,) = commit_all([begun])
    if failure is not None:
        raise failure


class Writer:
    """One agent who edits a document in a file, and what may and must be found after a crash.

    A state is the number of events and the content: with one agent they belong together.
    """

    def __init__(self, fs: SimulatedFileSystem, seed: int = 0) -> None:
        self.fs = fs
        self.rng = Random(seed)
        self.file: EgwFile | None = None
        self.states: dict[int, str] = {}
        """What it has asked to be stored."""
        self.acknowledged = -1
        """How many events it was told are stored; -1 before it was told of the file."""

    @staticmethod
    def count(vector: dict[str, list[tuple[int, int]]]) -> int:
        return vector["a"][-1][1] if vector else 0

    def _store(self, how: Callable[[EgwFile], object]) -> None:
        assert self.file is not None
        doc = self.file.document
        events = self.count(doc.version_vector)
        self.states[events] = doc.content
        how(self.file)
        assert self.count(self.file.stored) == events, "stored less than all"
        self.acknowledged = events

    def open(self) -> None:
        self.states.setdefault(0, "")
        self.file = EgwFile.open(FILE, "a", create="text", fs=self.fs)
        self.acknowledged = max(self.acknowledged, 0)
        self.check()

    def check(self) -> None:
        """What was opened has all that was acknowledged and nothing that was not asked for."""
        assert self.file is not None
        doc = self.file.document
        events = self.count(doc.version_vector)
        assert events >= self.acknowledged, f"{self.acknowledged} events were acknowledged, {events} found"
        assert self.states.get(events) == doc.content, f"{events} events make {doc.content!r}"
        assert self.file.stored == doc.version_vector
        self.acknowledged = events
        self.states = {n: content for n, content in self.states.items() if n <= events}
        doc._check()

    def edit(self, size: int = 0) -> None:
        assert self.file is not None
        doc = self.file.document
        doc.insert(self.rng.randint(0, len(doc)), "".join(self.rng.choices("abcdefgh", k=size or 5)))
        if len(doc) > 40 and not size:
            doc.delete(self.rng.randint(0, len(doc) - 10), 9)

    def commit(self, size: int = 0) -> None:
        self.edit(size)
        self._store(commit_in_two_steps if self.rng.random() < 0.5 else EgwFile.commit)

    def compact(self) -> None:
        self._store(lambda file: file.compact())

    def close(self) -> None:
        self._store(lambda file: file.close())

    def work(self) -> None:
        """Create, commit, compact, close, open again: everything that writes."""
        self.open()
        for _ in range(3):
            self.commit()
        self.commit(1500)
        self.compact()
        self.commit()
        self.edit(900)
        self.close()
        self.open()
        self.commit()
        self.close()
        self.open()
        self.close()

    def goes_on(self) -> None:
        """After a crash: what is there is right, and all work goes on; at the end the file is whole."""
        self.open()
        assert not [path for path in self.fs.names_now if path != FILE], "left over"
        self.commit()
        self.commit(700)
        self.close()
        assert self.file is not None
        doc, report = egw_records.read(self.fs.names_now[FILE].image)
        assert report.closed
        assert doc.content == self.file.document.content

    def succeeds(self, fs: SimulatedFileSystem) -> Writer:
        """The next writer, on the file system that this one has left."""
        writer = Writer(fs, self.rng.getrandbits(32))
        writer.states, writer.acknowledged = dict(self.states), self.acknowledged
        return writer


# --- writers that are killed --------------------------------------------------------------------------------

THREADS = 4


def child(path: str, seed: int) -> None:
    """Edit and commit from several threads, saying what was acknowledged, until killed or done."""
    egw_file.MIN_UPDATES = 2000
    rng = Random(seed)
    os.write(1, b"begin\n")
    try:
        file = EgwFile.open(path, "a", create="text")
    except StorageError as error:
        os.write(1, f"failed {error}\n".encode())
        return
    doc = file.document
    tokens = Counter(token.split(".")[0] for token in doc.content.split(";") if token)

    def work(thread: int, rng: Random) -> None:
        try:
            for number in range(tokens[str(thread)], tokens[str(thread)] + rng.choice([5, 100, 1000])):
                with doc.transaction():
                    doc.insert(len(doc), f"{thread}.{number};")
                if rng.random() < 0.01:
                    file.compact()
                elif thread % 2:
                    commit_in_two_steps(file)
                else:
                    file.commit()
                os.write(1, f"{thread} {number}\n".encode())
        except BaseException as error:
            os.write(1, f"failed {error!r}\n".encode())

    threads = [threading.Thread(target=work, args=(i, Random(rng.random()))) for i in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    file.close()
    os.write(1, b"closed\n")


class Kills:
    """What a number of kills have shown."""

    def __init__(self) -> None:
        self.kills = self.finished = self.acknowledged = self.beyond = self.torn = self.left = 0
        self.errors: list[str] = []

    def __str__(self) -> str:
        return (
            f"{self.kills} writers killed, {self.finished} ended before that; {self.acknowledged} commits "
            f"acknowledged, {self.beyond} more found, {self.torn} torn tails, {self.left} files left by "
            f"compaction; {len(self.errors)} errors"
        )

    def one(self, path: Path, rng: Random) -> None:
        """Start a writer, kill it, look at what is there."""
        with subprocess.Popen(
            [sys.executable, __file__, "--child", str(path), str(rng.getrandbits(32))], stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            said = process.stdout.readline()
            if rng.random() < 0.8:
                # However fast it is, some is acknowledged by then, and some is under way.
                for _ in range(rng.choice((0, 1, 4, 20, 100))):
                    said += process.stdout.readline()
                time.sleep(rng.random() * 0.01)
            process.send_signal(signal.SIGKILL)
            lines = (said + process.stdout.read()).decode().splitlines()
        self.kills += process.returncode == -signal.SIGKILL
        self.finished += process.returncode == 0
        if process.returncode not in (0, -signal.SIGKILL):
            self.errors.append(f"{path}: the writer ended with status {process.returncode}")
        acknowledged = Counter()  # type: Counter[str]
        for line in lines:
            word, _, number = line.partition(" ")
            if word == "failed":
                self.errors.append(line)
            elif number:
                self.acknowledged += 1
                acknowledged[word] = int(number) + 1
        self.left += len([name for name in os.listdir(path.parent) if name != path.name])
        try:
            self._check(path, acknowledged, bool(lines))
        except Exception as error:
            self.errors.append(f"{path}: {error!r}")

    def _check(self, path: Path, acknowledged: Counter[str], began: bool) -> None:
        if not path.exists() and not acknowledged:
            return
        with EgwFile.open(path) as file:
            self.torn += file.recovered is not None
            found: Counter[str] = Counter()
            for token in file.document.content.split(";")[:-1]:
                thread, _, number = token.partition(".")
                if int(number) != found[thread]:
                    raise AssertionError(f"{token} follows {found[thread]}")
                found[thread] += 1
            for thread, number in acknowledged.items():
                if not number <= found[thread] <= number + 1:
                    raise AssertionError(f"{number} of thread {thread} acknowledged, {found[thread]} found")
                self.beyond += found[thread] - number
        if extra := [name for name in os.listdir(path.parent) if name != path.name]:
            raise AssertionError(f"left over: {extra}")


def kill(times: int, folder: Path, seed: int = 0, show: bool = False) -> Kills:
    """Kill so many writers, besides those that end before that; ten in turn work on one file."""
    rng = Random(seed)
    kills = Kills()
    while kills.kills < times and len(kills.errors) < 20:
        place = folder / str((kills.kills + kills.finished) // 10)
        place.mkdir(exist_ok=True)
        kills.one(place / "doc.egw", rng)
        if show and (kills.kills + kills.finished) % 100 == 0:
            print(kills, flush=True)
    return kills


def main() -> int:
    parser = argparse.ArgumentParser(description="Kill writers of .egw files at random moments.")
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--child", nargs=2, metavar=("PATH", "SEED"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(args.child[0], int(args.child[1]))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        kills = kill(args.kills, Path(folder), args.seed, show=True)
    print(kills)
    for error in kills.errors:
        print(error)
    return 1 if kills.errors else 0


if __name__ == "__main__":
    sys.exit(main())
