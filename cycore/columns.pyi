from collections.abc import Iterable
from typing import NamedTuple

from egwalker.cycore.oplog import Content

class Columns(NamedTuple):
    """An encoded history; docs/format.md says what each column holds."""

    agents: list[str]
    ids: bytes
    lengths: bytes
    parents: bytes
    kinds: bytes
    positions: bytes
    content: bytes
    erased: bytes

PackedRun = tuple[str, int, tuple[tuple[str, int], ...], tuple[tuple[int, int, Content], ...]]
"""A run of events: agent, seq, parents, and operations `(pos, deleted, inserted)`."""

def varint(x: int) -> bytes: ...
def read_varint(data: bytes, at: int) -> tuple[int, int]: ...
def write_names(names: Iterable[str]) -> bytes: ...
def read_names(data: bytes) -> list[str]: ...
def write_items(items: Iterable[str]) -> bytes: ...
def read_items(data: bytes) -> list[str]: ...
def items_memory(data: bytes) -> int: ...
