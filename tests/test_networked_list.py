"""The example of a networked list: what its items become, and people at it in processes of their own."""

from __future__ import annotations

import asyncio
import importlib
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import permutations
from pathlib import Path
from random import Random
from typing import Any

import pytest
from serving import PATIENCE, files, free_port, link, running, until

from egwalker import Document, SyncError
from egwalker.formats import load

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
ESCAPED = "\x1b]0;owned\x07"


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module of the items."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return importlib.import_module("list_items")


def texts(some: Any) -> list[str]:
    return [item.text for item in some.items()]


def replicas(model: Any, *names: str, begin: str = "abcd") -> tuple[dict[str, str], list[Any]]:
    """Lists of items with one letter each, and their ids by letter."""
    first = model.SharedList(Document("list", agent="start", defer=False))
    ids = {letter: first.add(letter) for letter in begin}
    return ids, [model.SharedList(first.document.fork(name)) for name in names]


def merged(model: Any, lists: list[Any]) -> Any:
    """What all get, whoever merges whom first; the items of one of them."""
    shown = set()
    for order in permutations(lists):
        one = model.SharedList(order[0].document.fork("merged"))
        for other in order[1:]:
            one.document.merge(other.document)
        shown.add(tuple((item.id, item.text) for item in one.items()))
    assert len(shown) == 1
    return one


# --- items --------------------------------------------------------------------------------------------------


def test_alone_it_is_a_list(model: Any) -> None:
    rng = Random(1)
    mine, ids = model.SharedList(Document("list", agent="ann", defer=False)), dict[str, str]()
    expected: list[str] = []
    for step in range(300):
        what = rng.choice(["add", "edit", "move", "move", "remove"]) if len(expected) > 2 else "add"
        one = rng.randrange(len(expected)) if expected else 0
        if what == "add":
            expected.append(f"new {step}")
            ids[f"new {step}"] = mine.add(f"new {step}")
        elif what == "edit":
            ids[f"edited {step}"] = ids[expected[one]]
            mine.edit(ids[expected[one]], f"edited {step}")
            expected[one] = f"edited {step}"
        elif what == "move":
            to = rng.randrange(len(expected))
            mine.move(ids[expected[one]], ids[expected[to]])
            expected.insert(to, expected.pop(one))
        else:
            mine.remove(ids[expected.pop(one)])
            with pytest.raises(LookupError, match="somebody has removed"):
                mine.remove(next(iter(ids.values()))) if mine.items() == [] else mine.remove("gone")
        assert texts(mine) == expected
        assert len(mine.document) == len(expected), "copies are left"


def test_two_move_one_item(model: Any) -> None:
    ids, (ann, bob) = replicas(model, "ann", "bob")
    ann.move(ids["a"], ids["c"])
    bob.move(ids["a"], ids["d"])
    both = merged(model, [ann, bob])
    assert (texts(ann), texts(bob)) == (list("bcad"), list("bcda"))
    assert texts(both) == list("bcad")
    both.move(ids["a"], ids["b"])
    assert (texts(both), len(both.document)) == (list("abcd"), 4)


def test_who_moves_more_often_wins(model: Any) -> None:
    ids, (ann, bob) = replicas(model, "ann", "bob")
    ann.move(ids["a"], ids["b"])
    bob.move(ids["a"], ids["c"])
    bob.move(ids["a"], ids["d"])
    assert texts(merged(model, [ann, bob])) == list("bcda")


def test_one_moves_and_one_edits(model: Any) -> None:
    ids, (ann, bob) = replicas(model, "ann", "bob")
    ann.move(ids["a"], ids["d"])
    bob.edit(ids["a"], "A")
    both = merged(model, [ann, bob])
    assert texts(both) == list("bcdA")
    both.edit(ids["a"], "AA")
    assert (texts(both), len(both.document)) == (["b", "c", "d", "AA"], 4)


def test_two_edit_and_one_text_holds(model: Any) -> None:
    ids, (ann, bob) = replicas(model, "ann", "bob")
    ann.edit(ids["b"], "of ann")
    bob.edit(ids["b"], "of bob")
    assert texts(merged(model, [ann, bob])) == ["a", "of ann", "c", "d"]


@pytest.mark.parametrize("names", [("ann", "bob"), ("bob", "ann")])
def test_what_is_added_comes_behind_what_is_edited(model: Any, names: tuple[str, str]) -> None:
    ids, (one, other) = replicas(model, *names)
    one.edit(ids["d"], "D")
    other.add("e")
    assert texts(merged(model, [one, other])) == list("abcDe")


@pytest.mark.parametrize("what", ["move", "edit"])
def test_what_one_removes_and_another_changes_stays(model: Any, what: str) -> None:
    ids, (ann, bob, cy) = replicas(model, "ann", "bob", "cy")
    ann.remove(ids["a"])
    bob.remove(ids["a"])
    assert texts(merged(model, [ann, bob])) == list("bcd")
    cy.move(ids["a"], ids["c"]) if what == "move" else cy.edit(ids["a"], "A")
    both = merged(model, [ann, bob, cy])
    assert texts(both) == (list("bcad") if what == "move" else list("Abcd"))
    both.remove(ids["a"])
    assert len(both.document) == 3


def test_elements_that_are_no_items_are_left_alone(model: Any) -> None:
    ids, (ann,) = replicas(model, "ann", begin="ab")
    others: list[Any] = [None, 1, "x", [], {}, {"id": 1}, {"id": "a", "text": 1, "moved": 0, "edited": 0}]
    for other in others:
        ann.document.insert(1, [other])
    assert texts(ann) == ["a", "b"]
    ann.move(ids["a"], ids["b"])
    ann.remove(ids["b"])
    assert texts(ann) == ["a"]
    assert [element for element in ann.document.content if element in others] == others[::-1]


@pytest.mark.parametrize("seed", range(30))
def test_any_three_replicas_show_the_same(model: Any, seed: int) -> None:
    """Against a set from which an operation removes the copies that its author knew of, and adds one."""
    rng = Random(seed)
    ids, lists = replicas(model, "ann", "bob", "cy")
    begin = {i: (ids[letter], letter, 0, 0) for i, letter in enumerate(ids)}
    made, gone = dict(begin), [set[int]() for _ in lists]
    knows = [set(begin) for _ in lists]
    for step in range(60):
        i = rng.randrange(3)
        mine, held = lists[i], knows[i] - gone[i]
        if rng.random() < 0.15:
            j = rng.choice([j for j in range(3) if j != i])
            mine.document.merge(lists[j].document)
            knows[i] |= knows[j]
            gone[i] |= gone[j]
        elif not held or rng.random() < 0.1:
            made[len(made)] = mine.add(f"new {step}"), f"new {step}", 0, 0
            knows[i].add(len(made) - 1)
        else:
            item = rng.choice(mine.items())
            what = rng.choice(["move", "edit", "remove"])
            to = rng.choice(mine.items()).id
            copies = {c for c in held if made[c][0] == item.id}
            if what == "move":
                mine.move(item.id, to)
                if to == item.id:
                    continue
                new = item.id, item.text, max(made[c][2] for c in copies) + 1, item.edited
            elif what == "edit":
                mine.edit(item.id, f"edited {step}")
                new = item.id, f"edited {step}", item.moved, max(made[c][3] for c in copies) + 1
            else:
                mine.remove(item.id)
            gone[i] |= copies
            if what != "remove":
                knows[i].add(len(made))
                made[len(made)] = new
        left = Counter(made[c] for c in knows[i] - gone[i])
        assert Counter(tuple(element.values()) for element in mine.document.content) == left
        assert {item.id for item in mine.items()} == {copy[0] for copy in left}
        for item in mine.items():
            same = [copy for copy in left if copy[0] == item.id]
            assert (item.moved, item.edited) == (max(c[2] for c in same), max(c[3] for c in same))
            assert item.text in {c[1] for c in same if c[3] == item.edited}
    merged(model, lists)


# --- documents of several kinds at one server ---------------------------------------------------------------


def test_a_new_document_is_of_the_kind_of_whoever_makes_it(tmp_path: Path) -> None:
    async def main() -> None:
        for _ in range(2):  # as new ones, and as files that are there
            async with running(files(tmp_path, "text"), idle=0.01) as server:
                for kind in "text", "list", "map":
                    document = Document(kind)
                    async with link(server.url + kind, document) as one:
                        await one.synced()
                        if not document.events:
                            document.perform({"set": ["k"], "to": 1}) if kind == "map" else document.insert(
                                0, "t" if kind == "text" else ["e"]
                            )
                        await one.persisted()
                        other = Document("list" if kind == "text" else "text")
                        async with link(server.url + kind, other) as two:
                            with pytest.raises(SyncError, match=f"KindError: .* this one is of '{kind}'"):
                                await two.synced()
                await until(lambda: len(server.hub) == 0)
        assert {path.stem: load(path).document.kind for path in tmp_path.iterdir()} == {
            kind: kind for kind in ("text", "list", "map")
        }

    asyncio.run(main())


# --- people -------------------------------------------------------------------------------------------------

Serve = Callable[[], subprocess.Popen[bytes]]


class Person:
    """Somebody at the example, in a process of their own, at a pipe or at a terminal."""

    def __init__(self, where: str, name: str, terminal: bool = False) -> None:
        command = [sys.executable, str(EXAMPLES / "networked_list.py"), where, "--name", name]
        self.output = b""
        ours, theirs = pty.openpty() if terminal else (None, subprocess.PIPE)
        self.process = subprocess.Popen(
            command,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs if terminal else subprocess.STDOUT,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )
        if ours is not None:
            os.close(theirs)
            self.into = self.out = ours
        else:
            assert self.process.stdin is not None
            assert self.process.stdout is not None
            self.into, self.out = self.process.stdin.fileno(), self.process.stdout.fileno()
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def _read(self) -> None:
        try:
            while some := os.read(self.out, 1 << 16):
                self.output += some
        except OSError:
            pass  # how a terminal ends

    @property
    def text(self) -> str:
        return self.output.decode(errors="replace").replace("\r\n", "\n")

    def say(self, *lines: str) -> None:
        os.write(self.into, "".join(f"{line}\n" for line in lines).encode())

    def view(self) -> tuple[list[str], str]:
        """The list that was printed last, an item that is not saved as `*TEXT`, and the line below."""
        found = re.findall(r"^((?: +\d+[* ] .*\n)*)--- (.*)\n", self.text, re.MULTILINE)
        if not found:
            return [], ""
        lines = [line.lstrip(" 0123456789") for line in found[-1][0].splitlines()]
        return lines, found[-1][1]

    def hears(self, said: str) -> None:
        """Ask who is there, until the answer is this one: who has come is told a little later."""

        def there() -> bool:
            before = self.text.count("(you)")
            self.say("who")
            wait(lambda: self.text.count("(you)") > before, lambda: self.text)
            return said in self.text

        wait(there, lambda: self.text)

    def sees(self, *items: str, state: str = "online, all saved") -> None:
        wait(lambda: self.view() == ([*items], state), lambda: self.text)

    def has(self, state: str) -> None:
        wait(lambda: self.view()[1] == state, lambda: self.text)

    def leave(self, status: int = 0) -> None:
        assert self.process.wait(PATIENCE) == status, self.text
        self.close()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.reader.join(PATIENCE)
        if self.process.stdin is not None and not self.process.stdin.closed:
            self.process.stdin.close()
            assert self.process.stdout is not None
            self.process.stdout.close()
        elif self.process.stdin is None and self.out >= 0:
            os.close(self.out)
            self.out = -1


def wait(what: Callable[[], bool], why: Callable[[], str]) -> None:
    end = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < end, why()
        time.sleep(0.01)


@pytest.fixture
def join() -> Iterator[Callable[..., Person]]:
    """Starts people; all are gone after the test."""
    people: list[Person] = []

    def begin(where: str, name: str, terminal: bool = False) -> Person:
        people.append(Person(where, name, terminal))
        return people[-1]

    yield begin
    for person in people:
        person.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Serve]]:
    """Below which URL, and what starts the server of `make serve` there, over one folder again and again."""
    port = free_port()
    processes: list[subprocess.Popen[bytes]] = []

    def serve() -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "egwalker", "serve", str(tmp_path / "served"), "--port", str(port)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline().startswith(b"serving ")
        return process

    yield f"ws://127.0.0.1:{port}/", serve
    for process in processes:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def test_three_people_one_offline_and_a_server_that_is_killed(
    server: tuple[str, Serve], join: Callable[..., Person], tmp_path: Path
) -> None:
    url, serve = server
    first = serve()
    ann, bob = join(url + "shopping", "ann", terminal=True), join(url + "shopping", "bob")
    ann.say("add bread", "add milk")
    bob.sees("bread", "milk")
    bob.say("add eggs")
    bob.hears("bob (you), ann\n")
    ann.sees("bread", "milk", "eggs")
    cy = join(url + "shopping", "cy")
    cy.sees("bread", "milk", "eggs")

    cy.say("offline", "move 1 3", "edit 2 six eggs", "add jam")
    cy.sees("milk", "* six eggs", "* bread", "* jam", state="offline, 3 not saved yet")
    ann.say("move 3 1")  # eggs
    ann.sees("eggs", "bread", "milk")
    bob.sees("eggs", "bread", "milk")
    bob.say("remove 3")
    ann.sees("eggs", "bread")

    first.send_signal(signal.SIGKILL)
    first.wait()
    ann.sees("eggs", "bread", state="no connection, trying, all saved")
    ann.say("add tea", "move 2 1")
    ann.sees("* bread", "eggs", "* tea", state="no connection, trying, 2 not saved yet")
    cy.say("online", "quit")  # which is refused
    wait(lambda: "not all is saved yet" in cy.text, lambda: cy.text)
    serve()
    for one in ann, bob, cy:
        one.has("online, all saved")
    wait(lambda: len(ann.view()[0]) == 4, lambda: ann.text)
    shown, _ = ann.view()
    # Both moved the bread; the eggs were moved by one and edited by the other; nobody changed the milk.
    assert sorted(shown) == ["bread", "jam", "six eggs", "tea"]
    for one in bob, cy:
        one.sees(*shown)
    for one in ann, bob, cy:
        one.say("quit")
        one.leave()
    kept = load(tmp_path / "served" / "shopping.egw").document
    assert kept.kind == "list"
    late = join(url + "shopping", "dora")
    late.sees(*shown)


def test_what_others_write_does_not_command_the_terminal(
    server: tuple[str, Serve], join: Callable[..., Person]
) -> None:
    url, serve = server
    serve()
    ann = join(url + "x", "ann")
    bob = join(url + "x", "bob" + ESCAPED)
    bob.say(f"add {ESCAPED}")
    ann.sees("�]0;owned�")
    ann.hears("ann (you), bob�]0;owned�\n")
    ann.say("move 1 2", "remove 0", "remove x", "edit 1", "sing")
    wait(lambda: ann.text.count("add TEXT ") == 2, lambda: ann.text)
    for said in "there is no item '2'", "there is no item '0'", "there is no item 'x'":
        assert said in ann.text
    ann.sees("�]0;owned�")


def test_numbers_are_those_that_were_printed(server: tuple[str, Serve], join: Callable[..., Person]) -> None:
    url, serve = server
    serve()
    ann, bob = join(url + "x", "ann"), join(url + "x", "bob")
    ann.say("add a", "add b", "add c")
    bob.sees("a", "b", "c")
    bob.say("offline", "remove 2", "add d", "remove 3", "online")
    ann.sees("a", "c")
    ann.say("remove 2")
    ann.sees("a")
    ann.say("quit")
    ann.leave()
    bob.sees("a")


def test_without_a_server_through_a_folder(join: Callable[..., Person], tmp_path: Path) -> None:
    folder = f"{tmp_path}/exchange/"
    ann, bob = join(folder, "ann", terminal=True), join(folder, "bob")
    ann.sees()
    bob.sees()
    ann.say("add bread")
    bob.sees("bread")
    bob.say("offline", "add milk", "move 2 1", "quit")
    wait(lambda: "not all is saved yet" in bob.text, lambda: bob.text)
    bob.sees("* milk", "bread", state="offline, 2 not saved yet")
    ann.say("edit 1 rye bread")
    bob.say("online")
    # Two new elements at one place: ann's is first.
    bob.sees("rye bread", "milk")
    ann.sees("rye bread", "milk")
    again = join(folder, "ann")
    again.leave(2)
    assert f"{folder}: " in again.text
    for one in ann, bob:
        one.say("quit")
        one.leave()
    assert sorted(path.name for path in (tmp_path / "exchange").iterdir()) == ["ann.egw", "bob.egw"]
    later = join(str(tmp_path / "exchange"), "ann")  # a folder is one without a slash, too
    later.sees("rye bread", "milk")


def test_a_pipe_and_a_file(tmp_path: Path) -> None:
    def run(said: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, f"{EXAMPLES}/networked_list.py", f"{tmp_path}/mine.egw", "--name", "ann"]
        return subprocess.run(
            command, input=said, capture_output=True, text=True, check=False, timeout=PATIENCE
        )

    assert run("add bread\nadd milk\nmove 2 1").returncode == 0
    done = run("offline\nadd tea\n")
    assert done.returncode == 1
    assert "not all is saved yet" in done.stdout
    done = run("")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("  1  milk\n  2  bread\n--- online, all saved\n> ")
    (tmp_path / "mine.egw").write_bytes(b"something else")
    done = run("list\n")
    assert done.returncode == 2
    assert "mine.egw" in done.stderr
