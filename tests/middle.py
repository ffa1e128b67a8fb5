"""For tests of beginning in the middle: documents, and messages made by hand."""

from __future__ import annotations

from random import Random
from typing import Any

from egwalker import Document, encoding
from egwalker.cycore.columns import varint
from egwalker.messages import FETCH, HELLO, START, encode_ids, encode_vector
from egwalker.session import Session
from egwalker.versions import Version, VersionVector

ID = "00112233445566778899aabbccddeeff"
BLANK, SHALLOW, PLAIN = 1, 8, 16


def written(rng: Random, kind: str = "text", steps: int = 12) -> Document:
    """A document that some people wrote, at times together."""
    documents = [Document(kind, agent="ann", id=ID)]
    documents += [documents[0].fork(agent) for agent in ("bob", "Zoë")]
    for _ in range(steps):
        some = rng.sample(documents, rng.choice((1, 1, 2, 3)))
        for document in some:
            for _ in range(rng.randint(1, 3)):
                at = rng.randint(0, len(document))
                if len(document) - at > 2 and rng.random() < 0.3:
                    document.delete(at, 2)
                else:
                    words = rng.choice(("a", "bc", "é\N{PILE OF POO}"))
                    document.insert(at, words if kind == "text" else [words, None])
        for document in some if rng.random() < 0.8 else ():
            for other in documents:
                document.merge(other)
        if rng.random() < 0.3:
            for document in documents:
                for other in documents:
                    document.merge(other)
    for other in documents:
        documents[0].merge(other)
    return documents[0]


def polled(one: Session) -> list[bytes]:
    found = []
    while (message := one.poll()) is not None:
        found.append(message)
    return found


def hello(flags: int = BLANK | SHALLOW, kind: str = "text", vector: VersionVector | None = None) -> bytes:
    parts = [bytes([HELLO, 0, 1]), varint(flags), bytes.fromhex("ff" * 16 if flags & BLANK else ID)]
    raw = kind.encode()
    return b"".join([*parts, varint(len(raw)), raw, encode_vector(vector or {})])


def fetch(heads: Version, wanted: Version = (), number: int = 1) -> bytes:
    return bytes([FETCH, number]) + encode_ids(heads) + encode_ids(wanted)


def kinds(messages: list[bytes]) -> list[int]:
    return [message[0] for message in messages]


def summary_of(message: bytes) -> encoding.Summary:
    assert message[0] == START
    return encoding.parse_start(message[2:], bytes.fromhex(ID)).summary


def content_of(message: bytes, document: Document) -> Any:
    packed = encoding.parse_start(message[2:], bytes.fromhex(ID)).content(document._type.values)
    assert packed is not None
    return document._type.unpack(packed)


def talk(*pairs: tuple[Session, Session]) -> list[bytes]:
    """Let all talk until there is silence; what the second of each pair said."""
    said: list[bytes] = []
    silent = False
    while not silent:
        silent = True
        for left, right in pairs:
            for one, other in (left, right), (right, left):
                for message in polled(one):
                    silent = False
                    said += [message] if one is right else []
                    other.receive(message)
    for pair in pairs:
        for one in pair:
            if one.closed is not None and one.closed.error is not None:
                raise one.closed.error
    return said


def begun(server: Document, agent: str = "eve", **options: Any) -> tuple[Document, Session, Session]:
    """A shallow document, and the sessions that link it."""
    client = Document(server.kind, agent=agent)
    left, right = Session(server), Session(client, shallow=True, **options)
    for message in polled(right):
        left.receive(message)
    talk((left, right))
    return client, left, right
