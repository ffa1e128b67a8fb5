"""Documents of text: a sequence of Unicode code points."""

from collections.abc import Callable
from typing import Any

from egwalker import ContentError, hookimpl
from egwalker.types import SequenceType


class Text:
    """`"text"`: content is a `str`, elements are code points. The engine refuses lone surrogates."""

    name = "text"
    values = False

    def pack(self, content: Any) -> str:
        """`content` itself; `ContentError` if it is no `str`.

        >>> Text().pack(b"bytes")
        Traceback (most recent call last):
        egwalker.ContentError: a text takes str, not bytes
        """
        if type(content) is str:
            return content
        if isinstance(content, str):
            return str.__str__(content)
        raise ContentError(f"a text takes str, not {type(content).__name__}")

    def unpack(self, packed: str) -> str:
        """`packed` itself."""
        return packed


@hookimpl
def register_document_types(register: Callable[[SequenceType], None]) -> None:
    register(Text())
