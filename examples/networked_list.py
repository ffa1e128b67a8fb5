"""A list that several people share, each in a terminal of their own, online or offline.

    python examples/networked_list.py WHERE [--name ann]

WHERE is a server's document (`ws://127.0.0.1:8080/shopping`, while `make serve` runs), an `.egw` file, or a
folder, with a slash at its end, through which people exchange what they did without any server.
`list_items.py`, beside this file, has what happens to an item that two people change at once.
"""

import argparse
import asyncio
import contextlib
import getpass
import os
import re
import secrets
import sys
import threading
from pathlib import Path
from typing import Any
from urllib.parse import quote

from list_items import Item, SharedList

from egwalker import Document, EgwalkerError, connect

HELP = """\
add TEXT       a new item at the end        offline   work alone for a while
edit N TEXT    give item N another text     online    and bring it together again
move N M       put item N where M is        who       is here
remove N       take item N off              list      show the list
quit           when all is saved (quit!: also when not). An item with a * is not saved yet."""
SAVING = 5.0
"""Seconds that `quit` waits for what is not saved yet."""


class Terminal:
    """Somebody at a list: reads commands, and prints the list when it has changed."""

    def __init__(self, url: str, name: str, options: dict[str, Any]) -> None:
        self.url, self.name, self.options = url, name, options
        # Each time another agent, as no two replicas may be one; but in an exchange folder one has a file of
        # one's own, called by the agent. Not deferred: what is done to a list follows all that is seen in it.
        agent = name if url.endswith("/") else f"{name}-{secrets.token_hex(4)}"
        self.document = Document("list", agent=agent, defer=False)
        self.list = SharedList(self.document)
        self.link: Any = None
        self.linked: asyncio.Task[None] | None = None
        self.ready = asyncio.Event()  # what was there has come
        self.edited, self.changed = asyncio.Event(), asyncio.Event()
        self.made = self.saved = 0  # changes
        self.unsaved: dict[str, int] = {}  # the number of the last change to an item
        self.shown: list[Item] = []
        self.printed = ""

    async def stay_linked(self) -> None:
        """Keep the document linked, and find out what is saved."""
        async with connect(self.url, self.document, **self.options) as link:
            self.link = link
            if hasattr(link, "show"):  # others can see who is here
                link.show({"name": self.name})
            await link.synced()
            self.ready.set()
            while True:
                self.edited.clear()
                made = self.made
                await link.persisted()
                self.saved = made
                self.changed.set()
                await self.edited.wait()

    def go_online(self) -> None:
        if self.linked is None:
            self.linked = asyncio.create_task(self.stay_linked())
            self.linked.add_done_callback(lambda _: self.changed.set())

    async def go_offline(self) -> None:
        """End the link. Raises what has ended it before."""
        linked, self.linked, self.link = self.linked, None, None
        if linked is not None:
            linked.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await linked

    def view(self, items: list[Item]) -> str:
        """The list as it is printed."""
        lines = [
            f"{n:3}{'*' if self.unsaved.get(item.id, 0) > self.saved else ' '} {printable(item.text)}"
            for n, item in enumerate(items, 1)
        ]
        online = self.link is not None and self.link.connected
        state = "online" if online else "offline" if self.linked is None else "no connection, trying"
        changes = self.made - self.saved
        return "\n".join([*lines, f"--- {state}, {f'{changes} not saved yet' if changes else 'all saved'}"])

    def draw(self, always: bool = False) -> None:
        """Print the list if it is not what was printed last."""
        items = self.list.items()
        view = self.view(items)
        if always or view != self.printed:
            print(f"\n{view}\n> ", end="", flush=True)
            self.shown, self.printed = items, view

    async def keep_drawn(self) -> None:
        while True:
            # Of a connection that comes or goes nobody tells.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.changed.wait(), 0.5)
            self.changed.clear()
            if self.linked is not None and self.linked.done():
                try:
                    await self.go_offline()
                except (EgwalkerError, OSError) as error:
                    print(f"\noffline: {error}")
            self.draw()
            await asyncio.sleep(0.05)  # many changes at once are printed once

    async def do(self, line: str) -> bool:
        """Do what a line says; whether to go on. `ValueError`, `LookupError` if it cannot be done."""
        word, _, rest = line.strip().partition(" ")
        rest = rest.strip()
        first, _, more = rest.partition(" ")
        if word == "add" and rest:
            self.note(self.list.add(rest))
        elif word == "edit" and more.strip():
            self.list.edit(self.number(first), more.strip())
            self.note(self.number(first))
        elif word == "move" and more:
            self.list.move(self.number(first), self.number(more))
            self.note(self.number(first))
        elif word == "remove" and rest:
            self.list.remove(self.number(rest))
            self.note(self.number(rest))
        elif word == "offline":
            await self.go_offline()
        elif word == "online":
            self.go_online()
        elif word == "who":
            print(", ".join([f"{self.name} (you)", *self.others()]))
        elif word in ("quit", "quit!"):
            return not (word == "quit!" or await self.all_saved())
        elif word not in ("", "list"):
            print(HELP)
        return True

    def note(self, which: str) -> None:
        """Note that an item has been changed here."""
        self.made += 1
        self.unsaved[which] = self.made
        self.edited.set()

    def number(self, text: str) -> str:
        """The item that was printed with a number: others may have changed the list since."""
        if not text.isdecimal() or not 0 < int(text) <= len(self.shown):
            raise ValueError(f"there is no item {text!r}")
        return self.shown[int(text) - 1].id

    def others(self) -> list[str]:
        """The names of those who are here; in files and folders nobody is seen."""
        states = getattr(self.link, "presences", {}).values()
        return sorted([printable(str(state.get("name"))) for state in states if isinstance(state, dict)])

    async def all_saved(self) -> bool:
        """Wait a while for all to be saved, if there is a link; whether it is."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SAVING):
                while self.made > self.saved and self.linked is not None:
                    await asyncio.sleep(0.02)
        if self.made > self.saved:
            print("not all is saved yet: `online` helps, or `quit!` to lose it")
        return self.made == self.saved

    async def run(self) -> int:
        """Returns the exit status: 1 if something has not been saved."""
        loop = asyncio.get_running_loop()
        self.go_online()
        assert self.linked is not None
        print(f"waiting for {self.url}", flush=True)
        ready = asyncio.create_task(self.ready.wait())
        # A new document becomes a replica of what is there: before that nothing can be done to it.
        await asyncio.wait({self.linked, ready}, return_when=asyncio.FIRST_COMPLETED)
        if not ready.done():
            ready.cancel()
            await self.go_offline()
        self.document.subscribe(lambda _: loop.call_soon_threadsafe(self.changed.set))
        print("`help` tells what you can do")
        self.draw()
        drawing = asyncio.create_task(self.keep_drawn())
        lines = read_lines(loop)
        going = True
        while going and (line := await lines.get()) is not None:
            try:
                going = await self.do(line)
            except (ValueError, LookupError, OSError) as error:
                print(error)
            if going:
                self.draw(always=True)
        if going:  # the end of a pipe
            await self.all_saved()
        drawing.cancel()
        await self.go_offline()
        return int(self.made > self.saved)


def read_lines(loop: asyncio.AbstractEventLoop) -> asyncio.Queue[str | None]:
    """The lines of a terminal, a pipe or a file at the standard input, as they come; None: its end."""
    lines: asyncio.Queue[str | None] = asyncio.Queue()

    def read() -> None:
        rest = b""
        with contextlib.suppress(OSError, RuntimeError):  # the terminal is gone, or the loop
            while some := os.read(0, 1 << 16):
                *whole, rest = (rest + some).split(b"\n")
                for line in whole:
                    loop.call_soon_threadsafe(lines.put_nowait, line.decode(errors="replace"))
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(lines.put_nowait, rest.decode(errors="replace"))
            loop.call_soon_threadsafe(lines.put_nowait, None)

    threading.Thread(target=read, daemon=True).start()
    return lines


def printable(text: str) -> str:
    """A text of somebody else's, without what would command the terminal."""
    return "".join(c if c.isprintable() else "\ufffd" for c in text)


def url_of(where: str) -> str:
    """The URL of a document: what is not one is a path."""
    if re.match("[a-z][a-z0-9+.-]+:", where):
        return where
    return f"file:{quote(where)}{'/' * (Path(where).is_dir() and not where.endswith('/'))}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("where", help="ws://HOST:PORT/NAME, or an .egw file, or a folder/")
    parser.add_argument("--name", default=getpass.getuser(), help="yours; in a folder nobody else's")
    parser.add_argument(
        "--token", default=os.environ.get("EGWALKER_TOKEN"), help="the server's, if it has one"
    )
    args = parser.parse_args()
    try:
        options = {"token": args.token} if args.token else {}
        return asyncio.run(Terminal(url_of(args.where), args.name, options).run())
    except (EgwalkerError, OSError) as error:
        print(f"{args.where}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
