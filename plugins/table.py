"""Documents that are tables: rows under keys, with rules that hold in every replica.

A map merges everything, and so half of a deleted entry may come back with a change that somebody made to the
other half. Here an operation sees the rows as they are when its turn comes in the total order, and does
nothing where a rule forbids it. That is what an own type is for.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from egwalker import ContentError, hookimpl
from egwalker.plugins.map import ordered
from egwalker.types import KeptType

Row = dict[str, Any]
State = dict[str, Row]

FIELDS = {"insert": {"insert", "row"}, "update": {"update", "row"}, "delete": {"delete"}}
"""The keys of each operation."""


class Undo(NamedTuple):
    """The row that was under a key, None if there was none."""

    key: str
    row: Row | None


class Table:
    """`"table"`: its content is a `dict` of rows, each a `dict` from columns to JSON values.

    Operations are `{"insert": key, "row": row}`, a new row, unless there is one; `{"update": key, "row":
    row}`, new values for some columns of a row, if there is one; and `{"delete": key}`. So of two people who
    insert a row under one key, one alone succeeds, everywhere the same; and a row that somebody deleted does
    not come back in part because somebody else updated it meanwhile.

    >>> from egwalker import Document
    >>> a = Document("table", agent="a")
    >>> a.perform({"insert": "B12", "row": {"title": "Emma", "lent to": None}})
    >>> b = a.fork("b")
    >>> a.perform({"delete": "B12"})
    >>> b.perform({"update": "B12", "row": {"lent to": "Ann"}})
    >>> a.merge(b) and a.content
    {}
    """

    name = "table"

    def initial(self) -> State:
        """No rows."""
        return {}

    def check(self, op: Any) -> None:
        """`ContentError` for what is none of the three operations."""
        what = next((name for name in FIELDS if isinstance(op, dict) and name in op), None)
        if what is None or op.keys() != FIELDS[what]:
            raise ContentError(
                'it should be {"insert": key, "row": {...}}, {"update": key, "row": {...}} or {"delete": key}'
            )
        if not isinstance(op[what], str):
            raise ContentError(f"a key is a str, not {op[what]!r:.80}")
        if not isinstance(op.get("row", {}), dict):
            raise ContentError(f"a row is a map from columns to values, not {op['row']!r:.80}")

    def apply(self, state: State, op: Any) -> Undo | None:
        """Insert, update or delete a row, if the rules let it. O(row)."""
        if "insert" in op:
            key = op["insert"]
            if key in state:
                return None
            state[key] = op["row"]
            return Undo(key, None)
        key = op["update"] if "update" in op else op["delete"]
        if key not in state:
            return None
        before = state[key]
        if "update" in op:
            state[key] = before | op["row"]
        else:
            del state[key]
        return Undo(key, before)

    def undo(self, state: State, undo: Undo | None) -> None:
        """Put back the row that was there, or take out the one that was not."""
        if undo is None:
            return
        if undo.row is None:
            del state[undo.key]
        else:
            state[undo.key] = undo.row

    def content(self, state: State) -> State:
        """A copy, with keys and columns ascending."""
        rows: State = ordered(state)
        return rows

    def dump(self, state: State) -> State:
        """The state is a JSON value."""
        return state

    def load(self, value: Any) -> State:
        """`ContentError` if it is no map of rows."""
        if not isinstance(value, dict) or not all(isinstance(row, dict) for row in value.values()):
            raise ContentError("the state of a table is a map of rows")
        return value


@hookimpl
def register_document_types(register: Callable[[KeptType], None]) -> None:
    register(Table())
