"""What the `egwalker` command does with servers: in a module of its own, as asyncio takes long to load."""

import argparse
import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from egwalker.cycore.errors import StorageError, SyncError
from egwalker.document import Document
from egwalker.hub import Place
from egwalker.plugin_manager import document_type, transport_of


def read(url: str, token: str | None) -> Document:
    """The document at a URL. Raises what its transport does, and `DecodeError`."""
    transport: Any = transport_of(url)
    if not hasattr(transport, "fetch"):
        raise SyncError(f"{url.partition(':')[0]}: is for linking documents, not for reading one")
    return Document.decode(asyncio.run(transport.fetch(url, token=token)))


def write(url: str, document: Document, token: str | None) -> None:
    """Bring a document to a URL, and wait until it is durable there."""

    async def bring() -> None:
        async with transport_of(url).connect(url, document, token=token, reconnect=False) as link:
            await link.persisted()

    asyncio.run(bring())


def run(work: Coroutine[Any, Any, None]) -> None:
    """Do this in an event loop: that of uvloop if it is installed, with which a server has less to do."""
    factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    with contextlib.suppress(ImportError):
        import uvloop  # noqa: PLC0415  (need not be there)

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(work)


def serve(folder: Path | str, args: argparse.Namespace, ready: Callable[[str], None]) -> None:
    """Serve the `.egw` files of a folder, or what is kept below a URL, until SIGINT or SIGTERM."""
    store = transport_of("file:" if isinstance(folder, Path) else folder)
    server: Any = transport_of("http:")
    document_type(args.kind)
    if isinstance(folder, Path):
        folder.mkdir(parents=True, exist_ok=True)

    async def open_place(name: str) -> Place:
        below = (
            f"file:{quote(str(folder / name))}.egw" if isinstance(folder, Path) else f"{folder}/{quote(name)}"
        )
        return await store.place(below, args.kind)

    # A transport need not be able to tell what it keeps.
    places = getattr(store, "places", None)
    below = f"file:{quote(str(folder))}/" if isinstance(folder, Path) else folder

    async def work() -> None:
        if isinstance(folder, str):
            # Whether anything is kept there should be known now. No document that is served has this name.
            try:
                place = await open_place("-")
            except NotImplementedError as error:
                raise StorageError(f"nothing is kept there: {error}") from error
            await place.close()
        await server.serve(
            open_place,
            host=args.host,
            port=args.port,
            token=args.token,
            anyone=args.open,
            ready=ready,
            idle=args.idle,
            listing=partial(places, below) if places else None,
        )

    run(work())
