"""Collaborative text and lists: everybody edits a replica of their own, and replicas always merge.

A document is an append-only history of its edits, recreated by walking it. Start with `Document`.
"""

from importlib.metadata import version as _version

from egwalker.branch import Branch
from egwalker.cursor import Cursor
from egwalker.cycore.errors import (
    AgentError,
    CausalityError,
    ConflictError,
    ContentError,
    DecodeError,
    EgwalkerError,
    IdentityError,
    KindError,
    LimitError,
    LockedError,
    PendingError,
    PluginError,
    PositionError,
    StorageError,
    SyncError,
    VersionError,
)
from egwalker.document import Document
from egwalker.events import Change, Edit, Subscription
from egwalker.hookspecs import hookimpl
from egwalker.versions import Diff, Group, Run, Span

__version__ = _version("egwalker")

__all__ = [
    "AgentError",
    "Branch",
    "CausalityError",
    "Change",
    "ConflictError",
    "ContentError",
    "Cursor",
    "DecodeError",
    "Diff",
    "Document",
    "Edit",
    "EgwalkerError",
    "IdentityError",
    "Group",
    "KindError",
    "LimitError",
    "LockedError",
    "PendingError",
    "PluginError",
    "PositionError",
    "Run",
    "Span",
    "StorageError",
    "Subscription",
    "SyncError",
    "VersionError",
    "__version__",
    "hookimpl",
]
