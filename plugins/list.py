"""Documents that are lists of JSON values."""

import json
from collections.abc import Callable
from typing import Any

from egwalker import ContentError, hookimpl
from egwalker.json_values import to_json
from egwalker.types import SequenceType


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
        return [to_json(value, f"element {i}") for i, value in enumerate(content)]

    def unpack(self, packed: list[str]) -> list[Any]:
        """The values, made anew at each call. O(size of the values).

        >>> List().unpack(['1', '"a"', '{"b":[null,true]}'])
        [1, 'a', {'b': [None, True]}]
        """
        content: list[Any] = json.loads(f"[{','.join(packed)}]")
        return content


@hookimpl
def register_document_types(register: Callable[[SequenceType], None]) -> None:
    register(List())
