"""Peers in JavaScript for tests in Python: documents and sessions of `egwalker.js` in a Node.js process."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any, Self

from serving import PATIENCE

from egwalker import EgwalkerError, SyncError
from egwalker.session import Acknowledged, Closed, Event, Presence, Synced

PROGRAM = Path(__file__).with_name("javascript") / "peer.js"

Ids = list[tuple[str, int]]


class JavaScriptError(EgwalkerError):
    """What egwalker.js has thrown; its name is the first word."""


class Node:
    """A Node.js process with any number of documents."""

    def __init__(self, node: str) -> None:
        self._process = subprocess.Popen([node, PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._numbers = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(PATIENCE)

    def number(self) -> int:
        self._numbers += 1
        return self._numbers

    def ask(self, do: str, data: bytes = b"", **request: Any) -> Any:
        """What the process answers: bytes, or what JSON has. `JavaScriptError`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        body = json.dumps({"do": do, **request}).encode() + b"\n" + data
        self._process.stdin.write(len(body).to_bytes(4, "little") + body)
        self._process.stdin.flush()
        length = self._process.stdout.read(4)
        if len(length) < 4:
            raise RuntimeError("node has ended")
        head, _, rest = self._process.stdout.read(int.from_bytes(length, "little")).partition(b"\n")
        answer = json.loads(head)
        if "error" in answer:
            error = JavaScriptError(f"{answer['error']}: {answer['message']}")
            error.add_note(answer["stack"])
            raise error
        return rest if "bytes" in answer else answer["value"]


class JavaScriptDocument:
    """A document there, as far as networks and tests need it. Positions are code points."""

    kind = "text"

    def __init__(self, node: Node, agent: str, *, doc_id: str | None = None) -> None:
        self.node = node
        self.agent = agent
        self.number = node.number()
        self.sessions: list[JavaScriptSession] = []
        self._state: dict[str, Any] | None = None
        given = {} if doc_id is None else {"id": doc_id}
        node.ask("new", doc=self.number, agent=agent, given=given)

    def changed(self) -> None:
        """Something has happened: what was known of it is old."""
        self._state = None
        for session in self.sessions:
            session.silent = False

    @property
    def state(self) -> dict[str, Any]:
        if self._state is None:
            self._state = self.node.ask("state", doc=self.number)
        return self._state

    def __len__(self) -> int:
        return int(self.state["points"])

    @property
    def id(self) -> str:
        return str(self.state["id"])

    @property
    def _id_given(self) -> bool:
        return bool(self.state["idGiven"])

    @property
    def content(self) -> str:
        return str(self.state["text"])

    @property
    def version(self) -> tuple[tuple[str, int], ...]:
        return tuple([(agent, seq) for agent, seq in self.state["version"]])

    @property
    def version_vector(self) -> dict[str, list[tuple[int, int]]]:
        return {agent: [(start, end) for start, end in ranges] for agent, ranges in self.state["vector"]}

    @property
    def pending(self) -> int:
        return int(self.state["pending"])

    @property
    def shallow(self) -> bool:
        return bool(self.state["shallow"])

    def edit(self, ops: list[tuple[int, int, str]]) -> None:
        self.node.ask("edit", doc=self.number, ops=ops)
        self.changed()

    def insert(self, pos: int, text: str) -> None:
        self.edit([(pos, 0, text)])

    def delete(self, pos: int, length: int = 1) -> None:
        self.edit([(pos, length, "")])

    def encode(self) -> bytes:
        found = self.node.ask("encode", doc=self.number)
        assert isinstance(found, bytes)
        return found

    def check(self) -> None:
        self.node.ask("check", doc=self.number)

    def restart(self) -> None:
        """As if its page had been closed and opened again; its sessions are of no more use."""
        self.node.ask("restart", doc=self.number)
        self.sessions.clear()
        self.changed()


class JavaScriptSession:
    """A session there, driven like one of Python."""

    def __init__(self, document: JavaScriptDocument, *, shallow: bool = False) -> None:
        self.document = document
        self.node = document.node
        self.number = self.node.number()
        self.silent = False
        """Whether it has nothing to say until something happens."""
        self.node.ask("session", session=self.number, doc=document.number, shallow=shallow)
        document.sessions.append(self)

    def poll(self) -> bytes | None:
        if self.silent:
            return None
        found = self.node.ask("poll", session=self.number)
        self.silent = found is None
        assert found is None or isinstance(found, bytes)
        return found

    def receive(self, message: bytes) -> list[Event]:
        found: list[Event] = []
        events = self.node.ask("receive", bytes(message), session=self.number)
        # The document's other sessions may have something to pass on.
        self.document.changed()
        self.silent = False
        for event in events:
            match event["type"]:
                case "closed":
                    found.append(Closed(None if event["error"] is None else SyncError(event["error"])))
                case "synced":
                    found.append(Synced())
                case "presence":
                    found.append(Presence(event["key"], event["state"]))
                case "acknowledged":
                    found.append(Acknowledged(event["received"], event["durable"]))
        return found

    def show(self, key: str, state: Any) -> None:
        self.node.ask("show", session=self.number, key=key, state=state)
        self.silent = False

    @property
    def _state(self) -> dict[str, Any]:
        found = self.node.ask("session_state", session=self.number)
        assert isinstance(found, dict)
        return found

    @property
    def greeted(self) -> bool:
        return bool(self._state["greeted"])

    @property
    def synced(self) -> bool:
        return bool(self._state["synced"])

    @property
    def all_sent(self) -> bool:
        return bool(self._state["allSent"])

    @property
    def sent(self) -> int:
        return int(self._state["sent"])

    @property
    def unsaved(self) -> int:
        return int(self._state["unsaved"])

    @property
    def acknowledged(self) -> Acknowledged:
        found = self._state["acknowledged"]
        return Acknowledged(found["received"], found["durable"])
