"""What `.egw` files need of a file system, so that tests can put another one in its place."""

import fcntl
import os
import re
import secrets
import stat
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

from egwalker.cycore import disk
from egwalker.events import logger


class FileSystem(Protocol):
    """Files by descriptor, names by absolute path. Every method may raise `OSError`."""

    def open(self, path: str, create: bool = False) -> int:
        """Open to read and write. `create`: a new file, `FileExistsError` if there is one."""

    def close(self, fd: int) -> None:
        """Close it, which releases its lock. Never an error: what matters was synced before."""

    def lock(self, fd: int) -> bool:
        """Take the exclusive advisory lock of an open file, without waiting; False if somebody has it."""

    def is_at(self, fd: int, path: str) -> bool:
        """Whether `path` still names this open file."""

    def copy_mode(self, source: int, target: int) -> None:
        """Give one open file the permissions of another."""

    def size(self, fd: int) -> int:
        """Its length in bytes."""

    def read(self, fd: int, offset: int, count: int) -> bytes:
        """At most `count` bytes, none at the end of the file."""

    def write(self, fd: int, offset: int, data: memoryview) -> int:
        """Write some of `data`, from its beginning; returns how many bytes."""

    def truncate(self, fd: int, size: int) -> None:
        """Cut it to `size` bytes."""

    def sync(self, fd: int) -> None:
        """Return when all that was written to the file is stored."""

    def store_all(self, pieces: Sequence[tuple[int, int, bytes]]) -> list[OSError | None]:
        """Write pieces `(fd, offset, data)`, each to another file, and return when all files are stored.

        Returns what went wrong with each, None where all is well; raises nothing for one of them.
        """

    def sync_folder(self, path: str) -> None:
        """Return when names given and taken in a folder are stored."""

    def names(self, folder: str) -> list[str]:
        """The names in a folder."""

    def link(self, path: str, new: str) -> None:
        """Give a file another name, `FileExistsError` if that is taken."""

    def rename(self, path: str, new: str) -> None:
        """Give a file another name, taking it from whoever has it."""

    def unlink(self, path: str) -> None:
        """Take a name from a file."""


class _OS:
    """The operating system's files."""

    truncate = staticmethod(os.ftruncate)
    names = staticmethod(os.listdir)
    link = staticmethod(os.link)
    rename = staticmethod(os.replace)
    unlink = staticmethod(os.unlink)

    def open(self, path: str, create: bool = False) -> int:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT | os.O_EXCL if create else 0), 0o666)

    def close(self, fd: int) -> None:
        with suppress(OSError):
            os.close(fd)

    def lock(self, fd: int) -> bool:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def is_at(self, fd: int, path: str) -> bool:
        try:
            return os.path.samestat(os.fstat(fd), os.stat(path))
        except FileNotFoundError:
            return False

    def copy_mode(self, source: int, target: int) -> None:
        os.fchmod(target, stat.S_IMODE(os.fstat(source).st_mode))

    def size(self, fd: int) -> int:
        return os.fstat(fd).st_size

    def read(self, fd: int, offset: int, count: int) -> bytes:
        return os.pread(fd, count, offset)

    def write(self, fd: int, offset: int, data: memoryview) -> int:
        return os.pwrite(fd, data, offset)

    def sync(self, fd: int) -> None:
        if sys.platform == "darwin":  # where fsync leaves data in the drive's cache
            fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
        else:
            os.fsync(fd)

    def store_all(self, pieces: Sequence[tuple[int, int, bytes]]) -> list[OSError | None]:
        return [OSError(code, os.strerror(code)) if code else None for code in disk.store_all(pieces)]

    def sync_folder(self, path: str) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


OS: FileSystem = _OS()


def read_all(fs: FileSystem, fd: int) -> bytes:
    """The bytes of a file."""
    data = bytearray()
    size = fs.size(fd)
    while len(data) < size and (some := fs.read(fd, len(data), size - len(data))):
        data += some
    return bytes(data)


def write_all(fs: FileSystem, fd: int, offset: int, data: bytes) -> None:
    """Write all of `data`, however little the file system takes at once."""
    view = memoryview(data)
    while view:
        count = fs.write(fd, offset, view)
        if count <= 0:
            raise OSError(f"nothing of {len(view)} bytes was written")
        offset += count
        view = view[count:]


def write_beside(fs: FileSystem, path: str, data: bytes, like: int | None = None) -> tuple[str, int]:
    """Write a new file, locked and stored, beside `path`; returns its name and its open descriptor.

    It gets the permissions of the open file `like`.
    """
    folder, name = os.path.split(path)
    while True:
        part = os.path.join(folder, f".{name}.{secrets.token_hex(4)}.compact")
        fd = fs.open(part, create=True)
        if fs.lock(fd):
            break
        fs.close(fd)  # somebody takes it for a leftover, and removes it
    try:
        if like is not None:
            fs.copy_mode(like, fd)
        write_all(fs, fd, 0, data)
        fs.sync(fd)
    except BaseException:
        discard(fs, part, fd)
        raise
    return part, fd


def discard(fs: FileSystem, part: str, fd: int) -> None:
    """Remove a file that is not needed any more, as far as that is possible."""
    try:
        fs.unlink(part)
    except OSError as error:
        logger.warning("could not remove %s: %s", part, error)
    fs.close(fd)


def sweep(fs: FileSystem, path: str, fd: int) -> None:
    """Remove what crashed writers have left beside `path`, which is open: what nobody else has locked."""
    folder, name = os.path.split(path)
    left = re.compile(rf"\.{re.escape(name)}\.[0-9a-f]{{8}}\.compact", re.DOTALL)
    try:
        for other in fs.names(folder):
            if left.fullmatch(other):
                part = os.path.join(folder, other)
                leftover = fs.open(part)
                if fs.is_at(fd, part) or fs.lock(leftover):
                    discard(fs, part, leftover)
                else:
                    fs.close(leftover)
    except OSError as error:
        logger.warning("could not remove what was left beside %s: %s", path, error)
