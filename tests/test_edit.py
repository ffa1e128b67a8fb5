"""`egwalker edit`: in pseudo-terminals, with a server, and key by key without a terminal."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from egwalker import Document, LockedError, egw_records
from egwalker.cli import main
from egwalker.egw_file import EgwFile
from egwalker.formats import load, save

pytest.importorskip("prompt_toolkit", reason="the editor needs prompt_toolkit")
pytest.importorskip("pexpect", reason="pseudo-terminals need pexpect")
pytest.importorskip("pyte", reason="what a terminal shows is told by pyte")
pytest.importorskip("playwright", reason="a browser is driven by playwright")

from browser import Page, Site, until
from prompt_toolkit.data_structures import Point, Size
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.mouse_events import MouseButton, MouseEvent, MouseEventType
from prompt_toolkit.output import DummyOutput
from serving import PATIENCE, files, free_port, running
from terminal import Terminal
from test_page_browser import call, carets

from egwalker import cli_edit
from egwalker.edit_screen import TextControl
from egwalker.editor import Editor
from egwalker.hub import Permission

LEAVE, UNDO, REDO, LEFT, UP = "\x11", "\x1a", "\x19", "\x1b[D", "\x1b[A"
RESTORED = (b"\x1b[?1049l", b"\x1b[?1000l", b"\x1b[?2004l", b"\x1b[?25h")
"""What leaves the other screen, and lets go of the mouse and of pastes; and shows the cursor."""

Open = Callable[..., Terminal]


@pytest.fixture
def terminal() -> Iterator[Open]:
    """Opens pseudo-terminals, which are closed after the test."""
    opened: list[Terminal] = []

    def begin(*arguments: object, **options: Any) -> Terminal:
        opened.append(Terminal(*arguments, **options))
        return opened[-1]

    yield begin
    for one in opened:
        one.close()


class Serving:
    """A server of a folder in a process of its own, which can be stopped and started again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()
        self.start()

    def start(self, *options: str) -> None:
        command = [sys.executable, "-m", "egwalker", "serve", str(self._folder), "--port", str(self._port)]
        self._process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().split(" at ")[1].split(" for ")[0]

    def stop(self) -> None:
        self._process.terminate()
        self._process.communicate(timeout=PATIENCE)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Serving]:
    found = Serving(tmp_path / "served")
    yield found
    found.stop()


def stored(path: Path) -> str:
    """What is in a file, also while it is being written; nothing, if it is not there yet."""
    return str(egw_records.read(path, salvage=True)[0]) if path.exists() else ""


def check_restored(one: Terminal) -> None:
    for code in RESTORED:
        assert code in one.output[-400:]


def test_two_people_and_a_server(terminal: Open, server: Serving, tmp_path: Path) -> None:
    url = f"{server.url}letter"
    ann = terminal("edit", url, "--name", "Ann")
    ann.until("all changes saved")
    ann.type("Dear Bob,\r")
    bob = terminal("edit", url, "--name", "Bob")
    bob.until("Dear Bob")
    bob.until("here:  Ann")
    ann.until("here:  Bob")
    bob.type("P.S. ")
    ann.until("P.S. Dear Bob,")
    ann.type("I am \U0001f600 e\u0301!")
    bob.until("I am")
    # A caret has a name where it is, and a colour.
    ann.until(lambda: "Bob" in ann.screen.display[0])
    ann.until(lambda: ann.screen.buffer[0][5].bg not in ("default", ann.screen.buffer[0][4].bg))
    # Each takes back what they did.
    bob.type(UNDO)
    ann.until(lambda: ann.text.startswith("Dear Bob,"))
    bob.type(REDO)
    ann.until("P.S. Dear")
    # Without a server it goes on.
    bob.until("all changes saved")
    server.stop()
    ann.until("offline: all changes saved")
    ann.type(" More.")
    ann.until("offline: changes are lost when you leave")
    server.start()
    ann.until(lambda: "all changes saved" in ann.text and "offline" not in ann.text)
    bob.until("More.")
    for one in (ann, bob):
        one.type(LEAVE)
        assert one.end() == 0
        assert "all changes saved" in one.text
        check_restored(one)
    server.stop()
    kept = load(tmp_path / "served" / "letter.egw").document
    assert str(kept) == "P.S. Dear Bob,\nI am \U0001f600 e\u0301! More."
    assert {agent.split(".")[0] for agent in kept.version_vector} == {"Ann", "Bob"}
    server.start()


def test_what_would_be_lost_is_asked_about(terminal: Open, server: Serving) -> None:
    ann = terminal("edit", f"{server.url}letter", "--name", "Ann")
    ann.until("all changes saved")
    server.stop()
    ann.until("offline")
    ann.type("x")
    ann.until("lost when you leave")
    ann.type(LEAVE)
    ann.until("Ctrl-Q once more")
    ann.type(LEAVE)
    assert ann.end() == 2
    assert "the last changes are not saved" in ann.text
    server.start()


def test_a_file_keeps_what_was_done_offline(terminal: Open, server: Serving, tmp_path: Path) -> None:
    url, kept = f"{server.url}letter", tmp_path / "kept.egw"
    ann = terminal("edit", url, "--keep", kept)
    ann.until("all changes saved")
    ann.type("one ")
    ann.until("one")
    ann.until("all changes saved")
    server.stop()
    ann.until("offline")
    ann.type("two ")
    ann.until("changes are kept in")
    ann.type(LEAVE)
    assert ann.end() == 0
    assert "kept in" in ann.text
    assert str(load(kept).document) == "one two "
    server.start()
    ann = terminal("edit", url, "--keep", kept)
    ann.until("one two")
    ann.until("all changes saved")
    ann.type(LEAVE)
    assert ann.end() == 0
    assert main(["cat", url]) == 0


def test_a_file(terminal: Open, tmp_path: Path) -> None:
    path = tmp_path / "notes.egw"
    one = terminal("edit", path)
    one.until("all changes saved in")
    one.type("hello\rworld" + UP + LEFT * 3 + "-")
    one.until("he-llo")
    one.type("\x1b[<0;1;2M\x1b[<0;1;2m|")  # a click
    one.until("|world")
    one.type("\x1b[200~pa\r\nsted\x1b[201~")
    one.until("|pa")
    one.until("all changes saved")
    one.until(lambda: stored(path) == "he-llo\n|pa\nstedworld")
    other = terminal("edit", path)
    assert other.end() == 2
    assert "open for writing already" in other.text.replace("\n", "")
    one.type(LEAVE)
    assert one.end() == 0
    assert load(path).closed


def test_sigterm_saves_and_leaves_the_terminal_clean(terminal: Open, tmp_path: Path) -> None:
    path = tmp_path / "notes.egw"
    one = terminal("edit", path)
    one.until("nobody else")
    assert not termios.tcgetattr(one.process.child_fd)[3] & termios.ICANON
    one.type("typed")
    one.until("typed")
    one.process.kill(signal.SIGTERM)
    assert one.end() == 0
    check_restored(one)
    assert str(load(path).document) == "typed"


@pytest.mark.parametrize("where", ["file", "server"])
def test_when_the_terminal_is_closed_nothing_is_lost(
    where: str, terminal: Open, server: Serving, tmp_path: Path
) -> None:
    path = tmp_path / "served" / "notes.egw"
    one = terminal("edit", path if where == "file" else f"{server.url}notes")
    one.until("all changes saved")
    one.type("typed")
    one.until("typed")
    assert one.hang_up() == 0
    server.stop()
    assert str(load(path).document) == "typed"
    server.start()


def test_when_the_terminal_is_closed_without_a_connection(terminal: Open, server: Serving) -> None:
    one = terminal("edit", f"{server.url}notes")
    one.until("all changes saved")
    server.stop()
    one.until("offline")
    one.type("typed")
    one.until("offline: changes are lost when you leave")
    assert one.hang_up() == 2
    server.start()


async def test_who_may_only_read(terminal: Open, tmp_path: Path) -> None:
    rights = {"write": True}

    def who(name: str, request: object) -> Permission:
        return Permission("ann", write=rights["write"])

    async with running(files(tmp_path), authenticate=who) as server:
        url = f"http://127.0.0.1:{server.port}/letter"
        ann = terminal("edit", url, "--name", "Ann")
        await asyncio.to_thread(ann.until, "all changes saved")
        ann.type("Dear all")
        await asyncio.to_thread(ann.until, "Dear all")
        rights["write"] = False
        bob = terminal("edit", url, "--name", "Bob")
        await asyncio.to_thread(bob.until, "Dear all")
        await asyncio.to_thread(bob.until, "read only: you may not change this text")
        bob.type("x\x7f\x1b[200~paste\x1b[201~\x18" + UNDO + "\x1b[F")
        await asyncio.to_thread(bob.until, lambda: bob.caret == (0, 8))
        ann.type("!")
        await asyncio.to_thread(bob.until, "Dear all!")
        await asyncio.to_thread(ann.until, lambda: "Bob" in ann.screen.display[0])
        bob.type(LEAVE)
        assert await asyncio.to_thread(bob.end) == 0
        ann.type(LEAVE)
        assert await asyncio.to_thread(ann.end) == 0
    assert str(load(tmp_path / "letter.egw").document) == "Dear all!"


async def test_rights_that_come_and_go(terminal: Open, tmp_path: Path) -> None:
    """What was typed offline and is not taken stays in the file, and it says so."""
    rights = {"write": True}
    kept = tmp_path / "kept.egw"

    def who(name: str, request: object) -> Permission:
        return Permission("ann", write=rights["write"])

    port = free_port()
    url = f"http://127.0.0.1:{port}/letter"
    async with running(files(tmp_path), port, authenticate=who):
        ann = terminal("edit", url, "--keep", kept)
        await asyncio.to_thread(ann.until, "all changes saved")
        ann.type("one ")
        await asyncio.to_thread(ann.until, lambda: stored(tmp_path / "letter.egw") == "one ")
    await asyncio.to_thread(ann.until, "offline")
    ann.type("two ")
    await asyncio.to_thread(ann.until, "changes are kept in kept.egw")
    rights["write"] = False
    async with running(files(tmp_path), port, authenticate=who):
        await asyncio.to_thread(ann.until, "does not take edits: changes are kept in kept.egw")
        ann.type(LEAVE)
        assert await asyncio.to_thread(ann.end) == 0
        assert "changes are kept in kept.egw, and not at" in ann.text.replace("\n", "")
    assert str(load(kept).document) == "one two "
    assert str(load(tmp_path / "letter.egw").document) == "one "


def test_a_token(terminal: Open, server: Serving) -> None:
    server.stop()
    server.start("--token", "right one")
    url = f"{server.url}letter"
    for arguments in ((), ("--token", "wrong")):
        one = terminal("edit", url, *arguments, columns=240)
        assert one.end() == 2
        assert one.text.count("\n") == 0
        assert one.text.startswith(f"egwalker: cannot edit {url}: ")
        assert " 403 " in one.text
        assert one.text.endswith("; `--token` or $EGWALKER_TOKEN tells who you are")
    one = terminal("edit", url, "--token", "right one")
    one.until("all changes saved")
    one.type("x")
    one.until("x")
    other = terminal("edit", url, EGWALKER_TOKEN="right one")
    other.until("all changes saved")
    other.until("x")
    for leaving in (one, other):
        leaving.type(LEAVE)
        assert leaving.end() == 0


@pytest.mark.parametrize(
    ("typed", "column"),
    [
        ("漢字", 4),
        ("e\u0301\u0323", 1),
        ("\U0001f600", 2),
        ("a\tb", 5),
        ("\t漢", 6),
        ("שלום", 4),
        ("\u200b|", 7),
        ("❤\ufe0e", 1),
    ],
)
def test_columns(typed: str, column: int, terminal: Open, tmp_path: Path) -> None:
    """The caret is where the text ends, and again behind it after going to the start, step by step."""
    path = tmp_path / "notes.egw"
    one = terminal("edit", path)
    one.until("all changes saved")
    one.type(typed)
    one.until(lambda: one.caret == (0, column))
    one.type("\x1b[H")
    one.until(lambda: one.caret == (0, 0))
    one.type("\x1b[C" * len(typed))
    one.until(lambda: one.caret == (0, column))
    one.type("\r" + typed + "\x1b[A")  # up keeps to the column
    one.until(lambda: one.caret == (0, column))
    one.type(".")
    one.until(lambda: one.caret == (0, column + 1))
    one.type(LEAVE)
    assert one.end() == 0
    assert str(load(path).document) == f"{typed}.\n{typed}"


def test_a_line_that_is_very_long_and_another_size(terminal: Open, tmp_path: Path) -> None:
    path = tmp_path / "notes.egw"
    document = Document(agent="ann")
    document.insert(0, "0123456789" * 50_000 + "\nsecond")
    save(document, path)
    one = terminal("edit", path)
    one.until("0123456789")
    one.type("\x1b[1;5F")  # to the end
    one.until("second")
    one.type("\x1b[H\x1b[D!")
    one.until("789!")
    one.resize(6, 30)
    one.until(lambda: one.screen.display[4].startswith("345678901234567890123456789! "))
    one.type("\x1b[1;5H")
    one.until(lambda: one.screen.display[0].startswith("0123456789" * 2 + "012345678 "))
    one.resize(20, 60)
    one.until(lambda: one.screen.display[18].startswith("234567890123456789"))
    one.resize(1, 1)
    one.type("?")
    one.resize(12, 100)
    one.until(lambda: one.text.startswith("?0123456789"))
    one.type(LEAVE)
    assert one.end() == 0
    assert str(load(path).document) == f"?{'0123456789' * 50_000}!\nsecond"


@pytest.mark.asyncio(loop_scope="session")
async def test_carets_in_a_terminal_and_a_browser(terminal: Open, site: Site) -> None:
    bob = await site.person("bob")
    page = await bob.open("letter")
    await call(page, "Bob")
    await page.paste("Dear \U0001f600 Ann,\nhow are you?")
    await page.until_status("^All changes saved$")
    ann = terminal("edit", site.server.url_of("letter"), "--name", "Ann")
    await asyncio.to_thread(ann.until, "how are you?")

    def shown(row: int, column: int) -> bool:
        """Whether somebody's caret is there, with his name on the row."""
        cell = ann.screen.buffer[row][column]
        return "Bob" in ann.screen.display[row] and cell.bg != "default"

    async def at(place: int) -> None:
        async def there() -> bool:
            return await carets(page) == {"Ann": place}

        await until(there, f"her caret is not at {place}, but {await carets(page)}")

    await page.go_to(8)
    await asyncio.to_thread(ann.until, lambda: shown(0, 8))
    await at(0)
    ann.type("My ")
    await asyncio.to_thread(ann.until, lambda: shown(0, 11))
    await page.until_text("My Dear \U0001f600 Ann,\nhow are you?")
    await at(3)
    assert await page.caret() == 11
    ann.type("\x1b[B\x1b[F")
    await at(28)
    # What is typed at once by both, and a caret that is told before the other's text has come.
    await bob.offline()
    ann.type("\x1b[1;5H")
    ann.type("* ")
    await asyncio.to_thread(ann.until, "* My")
    await page.press("Control+End")
    await page.type(" Well?")
    await bob.offline(False)
    await page.until_text("* My Dear \U0001f600 Ann,\nhow are you? Well?")
    await asyncio.to_thread(ann.until, lambda: shown(1, 18))
    await at(2)
    ann.type(LEAVE)
    assert await asyncio.to_thread(ann.end) == 0
    await until(lambda: nobody(page), "she is still there")


async def nobody(page: Page) -> bool:
    return not await carets(page)


def run(keys: str, path: Path) -> str:
    """Type into a file without a terminal, and leave."""
    with create_pipe_input() as pipe:
        pipe.send_text(keys + LEAVE)
        cli_edit.edit(path, "ann", None, None, (pipe, DummyOutput()))
    return str(load(path).document)


def test_keys(tmp_path: Path) -> None:
    path = tmp_path / "notes.egw"
    assert run("one two\x1b[1;5D\x7f\x7f", path) == "ontwo"
    assert run("\x1b[F!\r\t\x1b[1;5H>\x1b[3~", path) == ">ntwo!\n\t"
    assert run("\x01x", path) == "x"  # all is selected
    assert run("\x1b[C\x1b[1;2D\x03\x16\x16", path) == "xx"  # copied, and pasted in its place and behind
    assert run("\x1bOP\x1b[5~\x1b[6~\x1b[15~", path) == "xx"  # nothing is typed


def test_an_error_within_comes_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("what nobody thought of")

    monkeypatch.setattr(Editor, "insert", fail)
    with pytest.raises(ZeroDivisionError):
        run("x", tmp_path / "notes.egw")


def test_a_locked_file(tmp_path: Path) -> None:
    path = tmp_path / "notes.egw"
    with EgwFile.open(path, create="text"), pytest.raises(LockedError):
        cli_edit.edit(path, "ann", None)


def test_a_list_is_no_text(tmp_path: Path, server: Serving) -> None:
    path = tmp_path / "list.egw"
    document = Document("list")
    document.insert(0, [1])
    save(document, path)
    server.stop()
    server.start("--kind", "list")
    assert main(["export", str(path), f"{server.url}list"]) == 0
    for target in (path, f"{server.url}list"):
        with pytest.raises(Exception, match="list"), create_pipe_input() as pipe:
            cli_edit.edit(target, "ann", None, None, (pipe, DummyOutput()))


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["x.egw"], "takes a terminal"),
        (["--name", "x", "http://127.0.0.1:1/x"], "takes a terminal"),
    ],
)
def test_without_a_terminal(arguments: list[str], why: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["edit", *arguments]) == 2
    assert why in capsys.readouterr().err


def test_files_of_other_formats(terminal: Open, tmp_path: Path) -> None:
    one = terminal("edit", tmp_path / "x.txt", columns=300)
    assert one.end() == 2
    assert "that takes an .egw file, and `egwalker import" in one.text


def test_without_the_library(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["edit", "x.egw"]) == 2
    assert capsys.readouterr().err == "egwalker: `edit` needs another package: pip install 'egwalker[edit]'\n"


def test_other_commands_do_not_load_it() -> None:
    code = "import sys, egwalker.cli; egwalker.cli.parser(); print('prompt_toolkit' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "False\n"


def clicked(control: TextControl, kind: MouseEventType, x: int, y: int) -> None:
    control.mouse_handler(MouseEvent(Point(x, y), kind, MouseButton.LEFT, frozenset()))


def test_the_mouse_selects_and_scrolls() -> None:
    document = Document(agent="ann")
    document.insert(0, "".join([f"line {number}\n" for number in range(100)]))
    editor = Editor(document)
    control = TextControl(editor)
    size = Size(rows=10, columns=40)
    control.create_content(size.columns, size.rows)
    clicked(control, MouseEventType.MOUSE_DOWN, 2, 1)
    clicked(control, MouseEventType.MOUSE_MOVE, 30, 2)
    clicked(control, MouseEventType.MOUSE_UP, 30, 2)
    assert editor.selected() == "ne 1\nline 2"
    clicked(control, MouseEventType.SCROLL_DOWN, 0, 0)
    content = control.create_content(size.columns, size.rows)
    assert "".join([text for _, text, *_ in content.get_line(0)]).strip() == "line 3"
    assert not content.show_cursor
    # Somebody far above does not move what is seen.
    bob = document.fork("bob")
    bob.insert(0, "new\n" * 5)
    document.merge(bob)
    content = control.create_content(size.columns, size.rows)
    assert "".join([text for _, text, *_ in content.get_line(0)]).strip() == "line 3"
    control.go_rows(1, False)
    assert control.create_content(size.columns, size.rows).show_cursor
