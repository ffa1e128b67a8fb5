"""Documents that count."""

from collections.abc import Callable
from typing import Any

from egwalker import ContentError, hookimpl
from egwalker.types import KeptType

LARGEST = 1 << 53
"""All programs that read JSON know whole numbers up to this one exactly."""


class Counter:
    """`"counter"`: its content is an `int`, its operations are whole numbers to add.

    >>> from egwalker import Document
    >>> a = Document("counter", agent="a")
    >>> b = a.fork("b")
    >>> a.perform(5); b.perform(-2)
    >>> a.merge(b) and a.content
    3
    """

    name = "counter"

    def initial(self) -> list[int]:
        """A state can be changed, and a number cannot: it is the one element of a list."""
        return [0]

    def check(self, op: Any) -> None:
        """`ContentError` for what is no whole number of at most 2**53."""
        if type(op) is not int or abs(op) > LARGEST:
            raise ContentError("a counter adds a whole number within 2**53")

    def apply(self, state: list[int], op: int) -> int:
        """Add the number."""
        state[0] += op
        return op

    def undo(self, state: list[int], undo: int) -> None:
        """Subtract it."""
        state[0] -= undo

    def content(self, state: list[int]) -> int:
        """The sum."""
        return state[0]

    def dump(self, state: list[int]) -> int:
        """The sum."""
        return state[0]

    def load(self, value: Any) -> list[int]:
        """`ContentError` if it is no whole number."""
        if type(value) is not int:
            raise ContentError("the state of a counter is a whole number")
        return [value]


@hookimpl
def register_document_types(register: Callable[[KeptType], None]) -> None:
    register(Counter())
