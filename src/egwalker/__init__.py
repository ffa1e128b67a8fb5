"""Collaborative text and lists: everybody edits a replica of their own, and replicas always merge.

A document is an append-only history of its edits, recreated by walking it. Start with `Document`.
"""

import importlib as _importlib
from importlib.metadata import version as _version
from typing import TYPE_CHECKING as _TYPE_CHECKING

from egwalker.branch import Branch
from egwalker.cursor import Cursor
from egwalker.cycore.errors import (
    AgentError,
    CausalityError,
    ConflictError,
    ContentError,
    DecodeError,
    EgwalkerError,
    HistoryError,
    IdentityError,
    KindError,
    LimitError,
    LockedError,
    OperationError,
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
from egwalker.plugin_manager import add_plugin
from egwalker.versions import Diff, Group, Run, Span

if _TYPE_CHECKING:
    from egwalker.egw_file import EgwFile
    from egwalker.hub import Hub, Permission
    from egwalker.links import Link
    from egwalker.session import Session
    from egwalker.transport import connect

__version__ = _version("egwalker")

_LATER = {
    "EgwFile": "egwalker.egw_file",
    "Hub": "egwalker.hub",
    "Link": "egwalker.links",
    "Permission": "egwalker.hub",
    "Session": "egwalker.session",
    "connect": "egwalker.transport",
}
"""What needs modules that take long to load, such as asyncio, and in which module it is."""


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(_importlib.import_module(_LATER[name]), name)
    return found


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
    "EgwFile",
    "EgwalkerError",
    "Group",
    "Hub",
    "HistoryError",
    "IdentityError",
    "KindError",
    "LimitError",
    "Link",
    "LockedError",
    "OperationError",
    "PendingError",
    "Permission",
    "PluginError",
    "PositionError",
    "Run",
    "Session",
    "Span",
    "StorageError",
    "Subscription",
    "SyncError",
    "VersionError",
    "__version__",
    "add_plugin",
    "connect",
    "hookimpl",
]
