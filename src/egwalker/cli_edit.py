"""`egwalker edit`: a document opened in an editor on this terminal, and what its last row says of it."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import secrets
import signal
import string
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from egwalker.cycore.errors import AgentError, EgwalkerError, SyncError
from egwalker.document import Document
from egwalker.edit_screen import Screen
from egwalker.editor import Editor, shown_name
from egwalker.transport import connect

if TYPE_CHECKING:
    from prompt_toolkit.input import Input
    from prompt_toolkit.output import Output

TELLING = 0.06
"""Seconds between two tellings of where the caret is."""
LAST_WAIT = 3.0
"""Seconds that leaving waits for what is being saved."""
COLORS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#e6850e", "#17a2b8", "#c2379b", "#8a6d3b")

SAVED = "all changes saved"


class Saver:
    """Says whether what was done here is durable where one link leads to."""

    def __init__(self, link: Any) -> None:
        self.link = link
        self.unsaved = False
        self.received = False
        """The other end keeps nothing, as far as it says: saved means that it has received it."""
        self.refused = ""
        """Why what is done here never gets there."""
        self._edited = asyncio.Event()

    def edited(self) -> None:
        """Something is to be saved."""
        self.unsaved = True
        self._edited.set()

    async def run(self, changed: Any) -> None:
        """Ask again after each edit; `changed()` is called when there is another answer."""
        while not self.refused:
            await self._edited.wait()
            self._edited.clear()
            try:
                if not self.received:
                    try:
                        await self.link.persisted()
                    except SyncError:
                        if self.link.error is not None:
                            raise
                        self.received = True
                if self.received:
                    await self.link.synced()
            except (EgwalkerError, OSError) as error:
                self.refused = str(self.link.error or error)
            else:
                self.unsaved = self._edited.is_set()
            changed()


class Session:
    """One person's editing of a document that is linked to a URL, to a file, or to both."""

    def __init__(self, target: str, document: Document, name: str) -> None:
        self.target = target
        self.name = shown_name(name)
        self.color = COLORS[hashlib.sha256(document.agent.encode()).digest()[0] % len(COLORS)]
        self.document = document
        self.editor = Editor(document, self._changed)
        self.there: Saver | None = None
        self.kept: Saver | None = None
        self.file = ""
        self.ready = False
        """Whether one may type: before, an empty document does not know which one it is."""
        self.screen: Screen | None = None
        self._asked = False  # whether to leave
        self._error: BaseException | None = None  # why it ended
        self._read_only = False  # whether the other end took no edits when it was last there
        self._leaving: asyncio.Task[None] | None = None
        self._told: Any = None

    # --- words ----------------------------------------------------------------------------------------------

    @property
    def lost(self) -> bool:
        """Whether something that was done here would be lost now."""
        return all(saver.unsaved for saver in (self.there, self.kept) if saver is not None)

    @property
    def read_only(self) -> bool:
        """Whether edits are not taken where the document is."""
        if self.there is not None and self.there.link.connected:
            self._read_only = self.there.link.read_only
        return self._read_only

    @property
    def writable(self) -> bool:
        """Whether one may type."""
        return self.ready and not self.read_only

    def words(self) -> str:
        """What has become of what was done here."""
        if self._asked:
            return "not saved, lost when you leave: Ctrl-Q once more leaves"
        there, kept = self.there, self.kept
        keeps = (
            f"changes are kept in {self.file}"
            if kept and not kept.refused
            else "changes are lost when you leave"
        )
        if kept is not None and kept.refused:
            return f"cannot save in {self.file}: {kept.refused}"
        if there is None:
            return "saving ..." if kept is None or kept.unsaved else f"{SAVED} in {self.file}"
        if there.refused:
            return f"{there.refused}: {keeps if there.unsaved else 'nothing is unsaved'}"
        if self.read_only and not there.unsaved:
            return f"{'' if there.link.connected else 'offline, and '}read only: you may not change this text"
        if not there.link.connected:
            if not self.ready:
                return "no connection yet, trying again: typing begins when there is one"
            return f"offline: {keeps}" if there.unsaved else f"offline: {SAVED}, further {keeps}"
        if not self.ready:
            return "loading ..."
        if there.unsaved:
            return "saving ..."
        return (
            "all changes received by a server that does not say that it keeps them"
            if there.received
            else SAVED
        )

    # --- running --------------------------------------------------------------------------------------------

    def _changed(self, local: bool) -> None:
        if local:
            self._asked = False
        for saver in (self.there, self.kept):
            if saver is not None and (local or saver is self.kept):
                saver.edited()
        self.show()

    def show(self) -> None:
        """Draw soon."""
        if self.screen is not None:
            self.screen.app.invalidate()

    def see(self, key: str, state: Any) -> None:
        """Somebody's presence has changed."""
        if key != self.document.agent:
            self.editor.see(key, state)
            self.show()

    def leave(self) -> None:
        """Leave when all is saved; if that cannot be, the second time."""
        if self._asked:
            self._exit()
        elif self._leaving is None or self._leaving.done():
            self._leaving = asyncio.ensure_future(self._leave())

    def end(self) -> None:
        """The process is to end."""
        self._asked = True
        if self._leaving is None or self._leaving.done():
            self._leaving = asyncio.ensure_future(self._leave())

    async def _settle(self) -> None:
        """Wait until what is being saved is."""
        if any(saver.unsaved and saver.link.connected for saver in (self.there, self.kept) if saver):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LAST_WAIT):
                    while self.lost or (self.there and self.there.unsaved and self.there.link.connected):
                        await asyncio.sleep(0.02)

    async def _leave(self) -> None:
        must = self._asked
        await self._settle()
        if self.lost and not must:
            self._asked = True
            self.show()
        else:
            self._exit()

    def _exit(self, error: BaseException | None = None) -> None:
        assert self.screen is not None
        app = self.screen.app
        self._error = self._error or error
        if not app.is_running:
            asyncio.get_running_loop().call_later(0.02, self._exit)
        elif app.future is not None and not app.future.done():
            app.exit()

    async def _begin(self) -> None:
        """Wait until one may type."""
        assert self.there is not None
        try:
            await self.there.link.synced()
        except (EgwalkerError, OSError) as error:
            # Who may read only is told so by `synced`, too, if there was something here.
            if not self.ready:
                self._exit(self.there.link.error or error)
                return
            self.there.refused = str(error)
        self.ready = True
        self.show()

    async def _tell(self) -> None:
        """Tell others where the caret is, whenever that has changed."""
        assert self.there is not None
        while True:
            await asyncio.sleep(TELLING)
            state = self.editor.presence(self.name, self.color)
            place = (state["anchor"], state["head"])
            if self.ready and place != self._told:
                self._told = place
                self.there.link.show(state)

    async def _tick(self) -> None:
        """Connections come and go by themselves."""
        last = ""
        while True:
            await asyncio.sleep(0.2)
            if self.words() != last:
                last = self.words()
                self.show()

    async def run(
        self, url: str | None, file: Path | None, token: str | None, terminal: tuple[Input, Output] | None
    ) -> None:
        """Edit until one leaves."""
        loop = asyncio.get_running_loop()
        self.screen = Screen(self.editor, self.words, self.leave, lambda: self.writable, terminal)
        async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
            if file is not None:
                self.file = file.name
                link = await stack.enter_async_context(
                    connect(f"file:{quote(str(file.absolute()))}", self.document)
                )
                self.kept = Saver(link)
                self.ready = url is None or self.document.events > 0
            tasks = [group.create_task(self._tick())]
            if url is not None:
                linked = connect(url, self.document, token=token, on_presence=self.see)
                self.there = Saver(await stack.enter_async_context(linked))
                if self.document.events:
                    self.there.edited()
                tasks += [group.create_task(self._begin()), group.create_task(self._tell())]
            for saver in (self.there, self.kept):
                if saver is not None:
                    tasks.append(group.create_task(saver.run(self.show)))
            for number in (signal.SIGTERM, signal.SIGHUP):
                loop.add_signal_handler(number, self.end)
            loop.set_exception_handler(self._failed)
            try:
                try:
                    await self.screen.app.run_async(set_exception_handler=False)
                except (OSError, EOFError):  # the terminal is gone
                    await self._settle()
                if self._error is not None:
                    raise self._error
            finally:
                loop.set_exception_handler(None)
                for number in (signal.SIGTERM, signal.SIGHUP):
                    loop.remove_signal_handler(number)
                for task in tasks:
                    task.cancel()
                self.editor.close()
        if self.kept is not None:
            self.kept.unsaved = False  # else closing the link would have raised

    def _failed(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """An error in a key's function, say: the terminal is put right before it is told."""
        error = context.get("exception")
        if isinstance(error, OSError) and not isinstance(error, EgwalkerError):
            self._exit()  # the terminal is gone
        else:
            self._exit(error if isinstance(error, BaseException) else RuntimeError(context["message"]))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Nothing is logged to the terminal meanwhile, unless the application has told where to."""
    handler = logging.NullHandler()
    loggers = [logging.getLogger(name) for name in ("egwalker", "asyncio")]
    for logger in loggers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)


def edit(
    target: Path | str,
    name: str,
    token: str | None,
    keep: Path | None = None,
    terminal: tuple[Input, Output] | None = None,
) -> str:
    """Edit the document at a URL or in a file; returns what has become of it, in words.

    Raises what its transports do, and `SyncError` if something that was done is lost.
    """
    letters = string.ascii_lowercase + string.digits
    agent = f"{name}.{''.join(secrets.choice(letters) for _ in range(8))}"
    try:
        document = Document("text", agent=agent)
    except AgentError as error:
        raise AgentError(f"{name!r:.80} cannot be a name: {error}") from None
    session = Session(str(target), document, name)
    url, file = (target, keep) if isinstance(target, str) else (None, target)
    try:
        with quiet():
            asyncio.run(session.run(url, file, token, terminal))
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from None
    if session.lost and document.events:
        saver = session.there or session.kept
        why = f": {saver.refused}" if saver is not None and saver.refused else ""
        raise SyncError(f"the last changes are not saved{why}")
    session._asked = False
    if session.there is not None and session.there.unsaved:
        return f"changes are kept in {session.file}, and not at {target} yet"
    return SAVED


def default_name() -> str:
    """Who somebody is, if they do not say."""
    return os.environ.get("USER") or os.environ.get("LOGNAME") or "somebody"
