"""The txns of a JSON file, checked one by one on their way into a log."""

from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from egwalker.cycore.errors import AgentError, ConflictError, DecodeError, EgwalkerError
from egwalker.cycore.oplog import OpLog
from egwalker.kinds import Kind
from egwalker.types import Packed
from egwalker.versions import Version

Txn = dict[str, Any]
Ops = list[tuple[int, int, Packed]]

Progress = Callable[[str, int, int], None]
"""Called now and then with what is being done, how much of it is done, and of how much (0: unknown)."""

STRIDE = 4096
"""After so many txns the progress is told."""


class TxnReader:
    """Iterates over the txns of a file, with methods that read the fields of the current one.

    Whatever is wrong with a txn is a `DecodeError` that names it by its index, and the field. After each step
    `starts` holds the number of the first event of each txn so far.
    """

    def __init__(self, txns: list[Any], kind: Kind, log: OpLog, progress: Progress) -> None:
        self.log = log
        self.starts: list[int] = []
        self._txns = txns
        self._kind = kind
        self._progress = progress
        self._txn: Txn = {}

    def __iter__(self) -> Iterator[Txn]:
        for i, txn in enumerate(self._txns):
            if not i % STRIDE:
                self._progress("reading", i, len(self._txns))
            self.starts.append(len(self.log))
            if not isinstance(txn, dict):
                raise DecodeError(f"txn {i} should be a JSON object, not {txn!r:.80}")
            self._txn = txn
            yield txn

    def fail(self, field: str, reason: object) -> NoReturn:
        """Raise a `DecodeError` for a field of the current txn."""
        raise DecodeError(f"txn {len(self.starts) - 1}: {field}: {reason}")

    def integer(self, field: str) -> int:
        """A field that is an integer."""
        found = self._txn.get(field)
        if type(found) is not int:
            self.fail(field, f"should be an integer, not {found!r:.80}")
        return found

    def integers(self, field: str, end: int) -> list[int]:
        """A field that is a list of integers from 0 up to `end`."""
        found = self._txn.get(field)
        if not isinstance(found, list):
            self.fail(field, f"should be a list of integers, not {found!r:.80}")
        for number in found:
            if type(number) is not int or not 0 <= number < end:
                self.fail(field, f"should name only what came before, within 0:{end}, not {number!r:.80}")
        return found

    def ops(self, field: str) -> Ops:
        """A field that is a list of operations, with their content packed."""
        found = self._txn.get(field)
        if not isinstance(found, list):
            self.fail(field, f"should be a list of [pos, deleted, inserted], not {found!r:.80}")
        pack = self._kind.pack
        try:
            return [(pos, deleted, pack(inserted)) for pos, deleted, inserted in found]
        except EgwalkerError as error:
            self.fail(field, error)
        except (TypeError, ValueError):
            op = next(op for op in found if not isinstance(op, list) or len(op) != 3)
            self.fail(field, f"should hold [pos, deleted, inserted], not {op!r:.80}")

    def add(self, agent: str, seq: int, parents: Version, field: str, ops: Ops) -> int:
        """Put the current txn, with the operations of `field`, into the log; returns the number of events."""
        start = len(self.log)
        try:
            self.log.add(agent, seq, parents, ops)
        except (AgentError, ConflictError) as error:
            self.fail("seqStart", error)
        except EgwalkerError as error:
            self.fail(field, error)
        return len(self.log) - start
