"""What a transport is: a way to link a document to where a URL says."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from egwalker.document import Document
from egwalker.hub import Place
from egwalker.plugin_manager import transport_of


class Linked(Protocol):
    """What linking a document gives: see `egwalker.links.Link`, which most transports use."""

    async def synced(self) -> None:
        """Wait until both ends have what the other one had."""
        ...

    async def persisted(self) -> None:
        """Wait until what is here now is durable at the other end."""
        ...

    async def close(self) -> None:
        """End the link."""
        ...


class Transport(Protocol):
    """A way to link documents. Plugins hand instances to `register_transports`."""

    @property
    def name(self) -> str:
        """Unique among all plugins."""
        ...

    @property
    def schemes(self) -> tuple[str, ...]:
        """Of the URLs that it is for, each unique among all plugins."""
        ...

    def connect(self, url: str, document: Document, **options: Any) -> AbstractAsyncContextManager[Linked]:
        """Link a document to where the URL says, within the context."""
        ...

    async def place(self, url: str, kind: str) -> Place:
        """Open a durable place for one document, with a new one of this kind if it is empty.

        `NotImplementedError` if the transport does not keep anything. One that does may have `places`, too,
        as the file transport: it lists the documents below a URL, for the page that a server has.
        """
        ...


def connect(url: str, document: Document, **options: Any) -> AbstractAsyncContextManager[Linked]:
    """Keep a document linked to where a URL says, within an `async with` block.

    `ws://` and `wss://` are a server's documents, `file:` URLs are `.egw` files and exchange folders,
    `memory:` is within this process; plugins add more. `KindError` for a scheme that no plugin provides.
    """
    return transport_of(url).connect(url, document, **options)
