"""The hooks that plugins implement, each marked with `egwalker.hookimpl`.

A plugin is a module or an object named by an entry point in group `egwalker`. A hook may take any of the
arguments that are named here, by these names. Those of a server are called in its event loop and must not
block.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from egwalker.document import Document
    from egwalker.hub import Permission
    from egwalker.transport import Transport
    from egwalker.types import ReplayedType, SequenceType
    from egwalker.versions import Run

PROJECT = "egwalker"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def register_document_types(register: Callable[[SequenceType | ReplayedType], None]) -> None:
    """Call `register(document_type)` for each type of document that the plugin provides.

    Called once in a process, when the first document is made. A name that is taken already is a
    `PluginError`.
    """


@hookspec
def register_transports(register: Callable[[Transport], None]) -> None:
    """Call `register(transport)` for each way to link documents that the plugin provides.

    Called once in a process, when the first URL is looked up. A name or a scheme that is taken already is a
    `PluginError`.
    """


@hookspec(firstresult=True)
def authenticate(name: str, request: Any) -> Permission | Awaitable[Permission | None] | None:
    """Tell who is behind a request for the document `name`, and whether they may read it, and write.

    `request` is the transport's, such as an `aiohttp.web.Request`. The first plugin to return something else
    than None decides; the answer may be awaitable. Where nobody answers, or an awaited answer is None, the
    request is refused. A server asks before it opens the document or reads anything that is sent to it. For
    the list of documents it asks with the name `""`, and again for each that it would list.
    """


@hookspec
def document_loaded(name: str, document: Document) -> None:
    """A server has opened a document."""


@hookspec
def before_edit(name: str, document: Document, who: str, runs: list[Run]) -> None:
    """Somebody's edits are about to enter a document. Raise an `EgwalkerError` to refuse them.

    `who` is the name that `authenticate` gave, `runs` say which agent does what at which positions of which
    versions. Refused edits end the link of who sent them, and change nothing. Called for each message.
    """


@hookspec
def edit_stored(name: str, document: Document) -> None:
    """What a document held when storing it began has become durable."""


@hookspec
def document_unloading(name: str, document: Document) -> None:
    """A server is about to store a document for the last time, and to forget it."""


@hookspec
def peer_joined(name: str, who: str) -> None:
    """Somebody has linked to a document."""


@hookspec
def peer_left(name: str, who: str) -> None:
    """Somebody's link to a document has ended."""
