"""What a document type is: what plugins provide.

There are two sorts. A document of a *sequence* type is a sequence of elements that the one engine merges;
its type says what the elements are to users (the *content*) and what the engine keeps of them (the *packed*
form). A document of a *replayed* type is a state to which operations are applied in an order that is the same
everywhere; its type says what the state is, and what operations do to it.
"""

from typing import Any, Protocol, runtime_checkable

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


@runtime_checkable
class ReplayedType(Protocol):
    """A type of document that is made of operations. Plugins hand instances to `register_document_types`.

    Operations are JSON values. A state is an object that `apply` and `undo` change in place, and that
    `pickle` can copy. All must depend on their arguments alone: no time, no chance, no order of a set.
    """

    @property
    def name(self) -> str:
        """The `kind` that `Document` takes, unique among all plugins."""
        ...

    def initial(self) -> Any:
        """The state before all operations, made anew at each call."""
        ...

    def check(self, op: Any) -> None:
        """Raise `ContentError`, or anything else, unless `op` is an operation of this type, in any state."""
        ...

    def apply(self, state: Any, op: Any) -> Any:
        """Change `state` as `op` says, and return what `undo` needs to change it back.

        It should never fail: the operations before this one may turn out to be others, when somebody's arrive
        late. One that makes no sense in a state changes nothing. `op` is this call's own, and may be kept.
        """
        ...

    def undo(self, state: Any, undo: Any) -> None:
        """Change `state` back to what it was before the last `apply`, which returned `undo`."""
        ...

    def content(self, state: Any) -> Any:
        """What users see: a JSON value, the same for equal states, that shares nothing with `state`."""
        ...


@runtime_checkable
class KeptType(ReplayedType, Protocol):
    """A replayed type that can write its state down: documents open from that, not by all operations."""

    def dump(self, state: Any) -> Any:
        """The state as a JSON value, the same for equal states. It may share parts with `state`."""
        ...

    def load(self, value: Any) -> Any:
        """The state that was dumped as `value`, which is this call's own.

        Raises anything for what is no such value, as one that another version of the type wrote: then the
        operations are performed.
        """
        ...
