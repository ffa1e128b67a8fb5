"""Every error that egwalker raises on purpose.

Each one derives from `EgwalkerError` and from the builtin that a Python programmer
would have caught anyway (`IndexError` for a position, `ValueError` for bad data).
"""


class EgwalkerError(Exception):
    """Base of all errors of this package."""

    def __init_subclass__(cls) -> None:
        # Tracebacks name the place that users import from.
        cls.__module__ = "egwalker"


EgwalkerError.__module__ = "egwalker"


class PositionError(EgwalkerError, IndexError):
    """A position or range lies outside the document at the version it is meant for."""


class VersionError(EgwalkerError, LookupError):
    """A version or an event was named that this document does not hold."""


class HistoryError(EgwalkerError, LookupError):
    """What was before the version that this document begins at is needed, and has not been fetched."""


class CausalityError(EgwalkerError, ValueError):
    """An event has itself, directly or through others, among its ancestors."""


class ConflictError(EgwalkerError, ValueError):
    """An event's id is known already, with other content, position or parents."""


class ContentError(EgwalkerError, ValueError):
    """Content that the document type cannot hold, such as a lone surrogate."""


class OperationError(ContentError):
    """An operation that its document's type does not take, or that failed. The message names it."""


class DecodeError(EgwalkerError, ValueError):
    """Data that is not in the format it should be in. `offset`: the byte where that was found, if one was."""

    def __init__(self, message: str, offset: int | None = None) -> None:
        super().__init__(message)
        self.offset = offset


class AgentError(EgwalkerError, ValueError):
    """A name or a sequence number that no agent can have."""


class PendingError(EgwalkerError, ValueError):
    """Too many events are waiting for parents that never came."""


class LimitError(EgwalkerError, ValueError):
    """A document or an edit is larger than the engine can address."""


class KindError(EgwalkerError, LookupError):
    """A document type that no plugin provides, or two documents of different types."""


class IdentityError(EgwalkerError, ValueError):
    """Histories of different documents, which are not merged unless that is asked for."""


class SyncError(EgwalkerError, ValueError):
    """What came over a link is malformed, out of order or not allowed; or the other end said so."""


class PluginError(EgwalkerError, ValueError):
    """A plugin that cannot be registered."""


class StorageError(EgwalkerError, OSError):
    """A file could not be written, or not any more; what it acknowledged before is stored."""


class LockedError(StorageError):
    """A file is open for writing already, here or in another process."""
