"""What a document asks its type, for each of the two sorts of types there are.

Types that plugins provide say what the content is and what an edit may be; how a history becomes content is
the same for all types of a sort. A *sequence* is merged by the transforming walk, a *replayed* type by
applying operations in the total order.
"""

import json
from collections.abc import Iterable
from collections.abc import Sequence as Items
from typing import Any, NoReturn

from egwalker.cycore.checkout import Checkout
from egwalker.cycore.errors import ContentError, DecodeError, KindError, OperationError
from egwalker.cycore.oplog import OpLog
from egwalker.encoding import CONTENT_FACTOR, STATE_FACTOR
from egwalker.events import Edit
from egwalker.json_values import there_and_back
from egwalker.replayed import Replay, no_positions, said
from egwalker.types import KeptType, Packed, ReplayedType, SequenceType


class Sequence:
    """A kind of documents whose elements have positions."""

    positions = True
    caches = True
    cached_factor = CONTENT_FACTOR

    def __init__(self, provided: SequenceType) -> None:
        self.provided = provided
        self.name = provided.name
        self.values = provided.values
        self.pack = self.pack_inserted = provided.pack
        self.unpack = provided.unpack
        self.cached_values = provided.values
        self.element = "value" if provided.values else "code point"

    def checkout(self, log: OpLog) -> Checkout:
        """The content at the beginning of a log, to go on from there."""
        return Checkout(log)

    @property
    def nothing(self) -> Packed:
        """The content at the root, in the packed form."""
        return [] if self.values else ""

    def distance(self, checkout: Any, place: int) -> int:
        """How many events are gone through one by one to get to an earlier version: a walk is fast."""
        return 0

    def earlier(self, checkout: Any, version: Items[int]) -> Any:
        """Another checkout of the same log, at an earlier version."""
        found = Checkout(checkout.log)
        found.merge(version)
        return found

    def content(self, checkout: Any) -> Any:
        """The content of a checkout, as users see it."""
        return self.unpack(checkout.content())

    def cached(self, checkout: Any) -> Packed | None:
        """The content that is encoded beside the history, so that this need not be read; None if none is."""
        packed: Packed = checkout.content()
        return packed

    def perform(self, checkout: Any, agent: str, op: object) -> NoReturn:
        """A sequence has no operations: `KindError`."""
        raise KindError(f"a document of kind {self.name!r} has no operations: insert and delete edit it")

    def rewound(self, edits: Items[Edit], checkout: Any) -> int:
        """A sequence is never rewound."""
        return 0

    def check_cached(self, content: Packed) -> None:
        """`DecodeError` for content that came and that the kind does not let in."""
        check_values(self, [content])

    def compared(self, checkout: Any) -> Any:
        """What two checkouts of one version are to have in common."""
        return checkout.content()

    def correction(self, wrong: Any, right: Any) -> tuple[Edit, ...]:
        """The edits that make one content of a checkout of another."""
        return (Edit(0, len(wrong), self.unpack(right)),)

    def difference(self, wrong: Any, right: Any) -> str:
        """Where two contents of a checkout differ, in words."""
        pairs = enumerate(zip(wrong, right, strict=False))
        at = next((i for i, (a, b) in pairs if a != b), min(len(wrong), len(right)))
        return f"from element {at} on"

    def memory(self, checkout: Any) -> dict[str, int]:
        """Bytes of a checkout, by part."""
        return {"text": checkout.rope.memory()}


class Replayed:
    """A kind of documents that are made of operations.

    In a log each operation is a value, inserted at the position that is its event's seq: so an agent's
    operations are one row, and no position says anything new.
    """

    positions = False
    values = True
    cached_values = False
    cached_factor = STATE_FACTOR
    element = "operation"
    nothing = ""

    def __init__(self, provided: ReplayedType) -> None:
        self.provided = provided
        self.name = provided.name
        self.caches = isinstance(provided, KeptType)

    def pack(self, ops: Any) -> list[str]:
        """The JSON text of each operation. `OperationError`, naming it, for what the type does not take."""
        if not isinstance(ops, (list, tuple)):
            raise ContentError(f"operations come in a list, not in a {type(ops).__name__}")
        return [self._pack_one(op)[0] for op in ops]

    def _pack_one(self, op: Any) -> tuple[str, Any]:
        """The JSON text of an operation, and a copy that it says."""
        try:
            text, copy = there_and_back(op, "an operation")
        except ContentError as error:
            raise OperationError(f"{op!r:.200}: {error}") from None
        try:
            self.provided.check(copy)
        except Exception as error:
            why = str(error) if isinstance(error, ContentError) else said(error)
            raise OperationError(f"{op!r:.200} is no operation of a {self.name}: {why}") from error
        return text, copy

    def unpack(self, packed: Any) -> list[Any]:
        """The operations, made anew at each call."""
        ops: list[Any] = json.loads(f"[{','.join(packed)}]")
        return ops

    def pack_inserted(self, content: object) -> NoReturn:
        """Nothing is inserted: `KindError`."""
        raise no_positions(self.name)

    def checkout(self, log: OpLog) -> Replay:
        """The state at the beginning of a log, to go on from there."""
        return Replay(log, self.provided)

    def distance(self, checkout: Any, place: int) -> int:
        """How many operations are performed to get to the version that the first `place` make."""
        found: int = checkout.distance(place)
        return found

    def earlier(self, checkout: Any, version: Items[int]) -> Any:
        """The state at an earlier version, all of whose operations come first in the order."""
        return checkout.earlier(version)

    def content(self, checkout: Any) -> Any:
        """What the type shows of a state."""
        return checkout.content()

    def cached(self, checkout: Any) -> str | None:
        """The state as JSON text, if the type can tell it: operations need more than the content."""
        text: str | None = checkout.dump()
        return text

    def perform(self, checkout: Any, agent: str, op: Any) -> Edit:
        """Have an agent perform an operation at a checkout. `OperationError`: nothing changes."""
        text, copy = self._pack_one(op)
        return Edit(checkout.perform(agent, text), 0, [copy])

    def rewound(self, edits: Items[Edit], checkout: Any) -> int:
        """How many operations were undone at one time, at most, to make room for `edits`."""
        n = len(checkout) - sum([len(edit.inserted) for edit in edits])
        furthest = 0
        for edit in edits:
            furthest = max(furthest, n - edit.pos)
            n += len(edit.inserted)
        return furthest

    def check_cached(self, content: object) -> None:
        """Nothing: what is wrong with a state the type says when it loads it."""

    def compared(self, checkout: Any) -> Any:
        """All of the state, as far as the type can tell it."""
        return checkout.told()

    def correction(self, wrong: object, right: object) -> tuple[Edit, ...]:
        """None: the operations are what they were."""
        return ()

    def difference(self, wrong: object, right: object) -> str:
        """How two states as they are shown differ, in words."""
        return f"{right!r:.200}, but {wrong!r:.200}"

    def memory(self, checkout: Any) -> dict[str, int]:
        """Bytes of the order and the checkpoints."""
        found: dict[str, int] = checkout.memory()
        return found


Kind = Sequence | Replayed


def kind_of(provided: SequenceType | ReplayedType) -> Kind:
    """The kind of documents that a plugin's type is for: replayed if it has `apply`."""
    return Replayed(provided) if isinstance(provided, ReplayedType) else Sequence(provided)


def check_values(kind: Kind, contents: Iterable[Packed]) -> None:
    """`DecodeError` for values that came and that the kind does not let in: the engine takes any text."""
    if not kind.values:
        return
    for texts in contents:
        # A few at a time: as objects they take far more memory.
        for start in range(0, len(texts), 256):
            some = texts[start : start + 256]
            try:
                if kind.pack(kind.unpack(some)) != some:
                    raise ContentError("a value is not written as it should be")
            except (ValueError, RecursionError) as error:
                raise DecodeError(f"the content is not of kind {kind.name!r}: {error}") from error
