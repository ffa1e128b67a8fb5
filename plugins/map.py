"""Documents that are JSON maps."""

from collections.abc import Callable
from typing import Any, NamedTuple

from egwalker import ContentError, hookimpl
from egwalker.json_values import MAX_DEPTH, depth
from egwalker.types import KeptType

State = dict[str, Any]

MISSING = object()
"""What was at a key that was not there. Never in a state."""


class Undo(NamedTuple):
    """The value that was at a key of a map within the state."""

    inside: State
    key: str
    before: Any


class Map:
    """`"map"`: its content is a `dict` with keys that are `str`, its values are whatever JSON can say.

    Operations are `{"set": path, "to": value}` and `{"remove": path}`. A path is a list of keys, from the
    outermost map inwards. To set makes the maps on the way, and puts them in the place of other values; to
    remove what is not there changes nothing. Where two people set one key, the one that is later in the total
    order counts. What two people do to different keys, of one inner map too, is both done.

    >>> from egwalker import Document
    >>> a = Document("map", agent="a")
    >>> a.perform({"set": ["size"], "to": 12})
    >>> b = a.fork("b")
    >>> a.perform({"set": ["colour", "back"], "to": "white"})
    >>> b.perform({"set": ["colour", "text"], "to": "black"}); b.perform({"remove": ["size"]})
    >>> a.merge(b) and a.content
    {'colour': {'back': 'white', 'text': 'black'}}
    """

    name = "map"

    def initial(self) -> State:
        """An empty map."""
        return {}

    def check(self, op: Any) -> None:
        """`ContentError` for what is neither of the two operations."""
        if not isinstance(op, dict) or op.keys() not in ({"set", "to"}, {"remove"}):
            raise ContentError('it should be {"set": [key, ...], "to": value} or {"remove": [key, ...]}')
        path = op["set"] if "set" in op else op["remove"]
        if not isinstance(path, list) or not path or not all(isinstance(key, str) for key in path):
            raise ContentError(f"a path is a list of one or more keys, which are str, not {path!r:.80}")
        if len(path) + depth(op.get("to")) > MAX_DEPTH:
            raise ContentError(f"it would be nested more than {MAX_DEPTH} deep")

    def apply(self, state: State, op: Any) -> Undo | None:
        """Set or remove. O(path)."""
        if "set" in op:
            return self._set(state, op["set"], op["to"])
        inside: Any = state
        *way, key = op["remove"]
        for step in way:
            inside = inside.get(step)
            if not isinstance(inside, dict):
                return None
        return Undo(inside, key, inside.pop(key)) if key in inside else None

    def _set(self, state: State, path: list[str], value: Any) -> Undo:
        inside = state
        for i, key in enumerate(path[:-1]):
            deeper = inside.get(key)
            if not isinstance(deeper, dict):
                # All that is to be made hangs on this key.
                for outer in reversed(path[i + 1 :]):
                    value = {outer: value}
                path = [key]
                break
            inside = deeper
        undo = Undo(inside, path[-1], inside.get(path[-1], MISSING))
        inside[path[-1]] = value
        return undo

    def undo(self, state: State, undo: Undo | None) -> None:
        """Put back what was at the key."""
        if undo is None:
            return
        inside, key, before = undo
        if before is MISSING:
            del inside[key]
        else:
            inside[key] = before

    def content(self, state: State) -> State:
        """A copy, with the keys of all its maps ascending: their order does not depend on what was undone."""
        return {key: ordered(value) for key, value in sorted(state.items())}

    def dump(self, state: State) -> State:
        """The state is a JSON value."""
        return state

    def load(self, value: Any) -> State:
        """`ContentError` if it is no map."""
        if not isinstance(value, dict):
            raise ContentError("the state of a map is a map")
        return value


def ordered(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: ordered(inner) for key, inner in sorted(value.items())}
    if isinstance(value, list):
        return [ordered(item) for item in value]
    return value


@hookimpl
def register_document_types(register: Callable[[KeptType], None]) -> None:
    register(Map())
