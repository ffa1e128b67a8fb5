"""A pytest plugin for tests of what uses egwalker: `pytest_plugins = ["egwalker.transports.testing"]`."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from egwalker.document import Document
from egwalker.transports.memory import Network


class Pair(NamedTuple):
    """Two replicas of one document, by `alice` and by `bob`."""

    alice: Document
    bob: Document

    def sync(self) -> None:
        """Both learn what the other one has."""
        self.alice.merge(self.bob)
        self.bob.merge(self.alice)


def assert_converged(*documents: Document, thoroughly: bool = False) -> None:
    """Raise `AssertionError`, saying what differs, unless all are replicas with the same history and content.

    `thoroughly`: also compare each event, and what the history makes with the content.
    """
    first, *others = documents
    for other in others:
        for what in ("kind", "id", "version_vector", "version", "content", "pending"):
            mine, theirs = getattr(first, what), getattr(other, what)
            if mine != theirs:
                raise AssertionError(
                    f"{first.agent!r} and {other.agent!r} have not converged: "
                    f"{what} {difference(mine, theirs)}"
                )
    if thoroughly:
        for document in documents:
            document.verify()  # raises if the content is another one
        check = Document(first.kind, agent="assert_converged")
        for document in documents:
            # Raises if an event differs.
            check.merge(document)
        if check.content != first.content:
            raise AssertionError(f"merged anew, the content {difference(check.content, first.content)}")


def difference(one: Any, other: Any) -> str:
    """Where two values differ."""
    if isinstance(one, (str, list)) and type(one) is type(other) and len(one) + len(other) > 100:
        at = next((i for i, (x, y) in enumerate(zip(one, other, strict=False)) if x != y), None)
        at = min(len(one), len(other)) if at is None else at
        start = max(0, at - 10)
        one, other = one[start : at + 20], other[start : at + 20]
        return f"differs from element {at} on: {one!r} and {other!r} from {start} on"
    return f"is {one!r:.500} and {other!r:.500}"


@pytest.fixture
def document_pair() -> Pair:
    """Two replicas of one empty text, by `alice` and by `bob`."""
    alice = Document(agent="alice")
    return Pair(alice, alice.fork("bob"))


@pytest.fixture
def make_network(request: pytest.FixtureRequest) -> Callable[..., Network]:
    """A function that makes a `Network` with the given faults; its seed comes from the test's name."""

    def make(**faults: Any) -> Network:
        faults.setdefault("seed", zlib.crc32(request.node.nodeid.encode()))
        return Network(**faults)

    return make


@pytest.fixture
def faulty_network(make_network: Callable[..., Network]) -> Network:
    """A `Network` that loses 30 % of all messages, doubles 50 % and reorders 20 %."""
    return make_network(loss=0.3, duplication=0.5, reorder=0.2)
