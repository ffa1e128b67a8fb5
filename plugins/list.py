"""Documents that are lists of JSON values."""

import json
from collections.abc import Callable
from typing import Any

from egwalker import ContentError, hookimpl
from egwalker.types import SequenceType

MAX_DEPTH = 200
"""How deep a value may be nested. Python's own limit depends on how deep its caller is nested already; this
one is far enough from it for every process to be able to read what another one wrote."""


class List:
    """`"list"`: its content is a `list`, its elements are whatever JSON can say.

    Each element is one value: what is inside it is replaced, not merged. Values are kept as JSON texts, so
    that nobody who holds a reference to one can change the document.
    """

    name = "list"
    values = True

    def pack(self, content: Any) -> list[str]:
        """The JSON text of each element of a list or tuple. O(size of the values).

        Raises `ContentError` for what JSON cannot say or would say differently: other types, tuples and keys
        that are no strings within a value, NaN and infinities, lone surrogates, nesting deeper than 200.

        >>> List().pack([1, "a", {"b": [None, True]}])
        ['1', '"a"', '{"b":[null,true]}']
        >>> List().pack([{1: 2}])
        Traceback (most recent call last):
        egwalker.ContentError: element 0 is not a JSON value: {1: 2} would come back as {'1': 2}
        """
        if not isinstance(content, (list, tuple)):
            raise ContentError(f"a list takes a list of JSON values, not {type(content).__name__}")
        return [to_json(value, i) for i, value in enumerate(content)]

    def unpack(self, packed: list[str]) -> list[Any]:
        """The values, made anew at each call. O(size of the values).

        >>> List().unpack(['1', '"a"', '{"b":[null,true]}'])
        [1, 'a', {'b': [None, True]}]
        """
        content: list[Any] = json.loads(f"[{','.join(packed)}]")
        return content


def to_json(value: Any, index: int) -> str:
    """The JSON text of one element; `ContentError`, naming it by its `index`, if there is none."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        text.encode()
        back = json.loads(text) if isinstance(value, (list, tuple, dict)) else value
    except UnicodeEncodeError as error:
        reason = f"it holds the lone surrogate U+{ord(error.object[error.start]):04X}"
    except (TypeError, ValueError, RecursionError) as error:
        reason = str(error)
    else:
        if back != value:
            reason = f"{value!r} would come back as {back!r}"
        elif text.count("[") + text.count("{") > MAX_DEPTH and depth(value) > MAX_DEPTH:
            reason = f"it is nested more than {MAX_DEPTH} deep"
        else:
            return text
    raise ContentError(f"element {index} is not a JSON value: {reason}")


def depth(value: Any) -> int:
    """How deep lists and dicts are nested in `value`. O(size)."""
    found = -1
    level = [value]
    while level:
        found += 1
        containers = [item for item in level if isinstance(item, (list, dict))]
        level = [part for item in containers for part in (item.values() if isinstance(item, dict) else item)]
        found += bool(containers and not level)
    return found


@hookimpl
def register_document_types(register: Callable[[SequenceType], None]) -> None:
    register(List())
