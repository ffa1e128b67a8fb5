"""What a document type is, and what goes through it.

A document of any registered type is a sequence of elements that the one engine merges. Its type says what the
elements are to users (the *content*) and what the engine keeps of them (the *packed* form).
"""

from typing import Any, Protocol

DEFAULT_KIND = "text"
"""The kind of a document that is made, or of a file that is read, without naming one."""

Packed = str | list[str]
"""What the engine keeps: the code points of a `str`, or one JSON text for each element."""


class SequenceType(Protocol):
    """A type of document. Plugins hand instances to `register_document_types`."""

    @property
    def name(self) -> str:
        """The `kind` that `Document` takes, unique among all plugins."""
        ...

    @property
    def values(self) -> bool:
        """False: the elements are code points. True: they are values, each kept as a JSON text."""
        ...

    def pack(self, content: Any) -> Packed:
        """Check what a user inserts and return what the engine is to keep of it.

        A `str` if `values` is False (the engine refuses lone surrogates in it), else a list of JSON texts,
        which must be free of them. Raises `ContentError` for anything that this type does not hold. Must not
        keep `content`.
        """
        ...

    def unpack(self, packed: Any) -> Any:
        """The content that `pack` would turn into `packed`; `len()` of it is `len(packed)`."""
        ...
