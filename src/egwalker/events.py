"""What documents tell those who watch them, and how it reaches them."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self
from weakref import WeakSet

from egwalker.versions import Version

logger = logging.getLogger("egwalker")


class Edit(NamedTuple):
    """`deleted` elements removed at `pos`, then `inserted` put there (a `str`, or a list of a list's values).

    Positions are those of the document after the edits before this one. Of a replayed document, whose content
    is what its operations make, it says which operations were put at which place in their total order.
    """

    pos: int
    deleted: int
    inserted: Any


class Change(NamedTuple):
    """How a document came from version `before` to version `after`.

    Making `edits` one after another to the content at `before` gives the content at `after`. `local`: all of
    it was made at this document, nothing came from others. A change is false if it has no edits; its versions
    may differ all the same, as when two agents delete the same element. `rewound`: how many operations of a
    replayed document were undone, and performed again behind those that arrived late.
    """

    edits: tuple[Edit, ...]
    before: Version
    after: Version
    local: bool
    rewound: int = 0

    def __bool__(self) -> bool:
        return bool(self.edits)


Callback = Callable[[Change], object]


class Watched(Protocol):
    """What a subscription needs of its document."""

    def _unsubscribe(self, subscription: Subscription) -> None: ...


class Follower(Protocol):
    """A place that follows the elements around it."""

    def _follow(self, edits: tuple[Edit, ...]) -> None: ...


class Subscription:
    """A callback's registration with a document. It ends with `close()` or with its `with` block."""

    def __init__(self, document: Watched, callback: Callback) -> None:
        self._document = document
        self._callback = callback
        self._closed = False

    def close(self) -> None:
        """Stop calling. Changes that wait to be delivered are not delivered any more. May be called again."""
        self._closed = True
        self._document._unsubscribe(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _call(self, change: Change) -> None:
        if self._closed:
            return
        try:
            self._callback(change)
        except Exception:
            logger.exception("subscriber %r failed", self._callback)


class Feed:
    """Who watches a document, and its changes on their way to them.

    Cursors follow each change at once. For subscriptions changes are posted under the document's lock, which
    gives them their order, and delivered without it: a callback may use any document, and wait for other
    threads. One thread delivers at a time; a change posted meanwhile, by another thread or by a callback, is
    delivered by it afterwards. What changes within a transaction is posted as one change at its end.
    """

    def __init__(self) -> None:
        self.watched = False
        """Whether there is anybody: else nobody need find out what the edits were."""
        self.subscriptions: tuple[Subscription, ...] = ()
        self.cursors: WeakSet[Follower] = WeakSet()
        self._queue: deque[tuple[Change, tuple[Subscription, ...]]] = deque()
        self._delivering = threading.Lock()
        self._depth = 0  # of transactions
        self._audience: tuple[Subscription, ...] = ()  # who subscribed before it began
        self._gathered: list[Change] = []

    def subscribe(self, subscription: Subscription) -> None:
        """Tell them of what happens from now on."""
        self.subscriptions += (subscription,)
        self.watched = True

    def unsubscribe(self, subscription: Subscription) -> None:
        self.subscriptions = tuple([s for s in self.subscriptions if s is not subscription])
        self.watched = bool(self.subscriptions or self.cursors)

    def follow(self, cursor: Follower) -> None:
        """Have a cursor follow what happens from now on, as long as it is in use."""
        self.cursors.add(cursor)
        self.watched = True

    def unfollow(self, cursor: Follower) -> None:
        self.cursors.discard(cursor)
        self.watched = bool(self.subscriptions or self.cursors)

    def begin(self) -> None:
        """Begin a transaction, or another one within it."""
        if not self._depth:
            self._audience, self._gathered = self.subscriptions, []
        self._depth += 1

    def end(self) -> None:
        """End it. The outermost one posts what it gathered."""
        self._depth -= 1
        if not self._depth and self._gathered:
            self.post(in_one(self._gathered), self._audience)

    def tell(self, change: Change) -> None:
        """Move the cursors, and prepare to tell the subscribers."""
        if self.cursors:  # to ask takes a fraction of the time that going through none takes
            for cursor in self.cursors:
                cursor._follow(change.edits)
        if self._depth:
            if self._audience:
                self._gathered.append(change)
        elif self.subscriptions:
            self.post(change, self.subscriptions)
        else:
            self.watched = bool(self.cursors)

    def post(self, change: Change, subscriptions: tuple[Subscription, ...]) -> None:
        """Put a change into the queue, for those who were subscribed when it began."""
        self._queue.append((change, subscriptions))

    def deliver(self) -> None:
        """Empty the queue, once the lock has been released, unless somebody is at it already.

        Within a transaction its end does it.
        """
        if self._depth:
            return
        # Once more after letting go of the lock: who posted just before found it taken, and has left.
        while self._queue and self._delivering.acquire(blocking=False):
            try:
                while self._queue:
                    change, subscriptions = self._queue.popleft()
                    for subscription in subscriptions:
                        subscription._call(change)
            finally:
                self._delivering.release()


def in_one(changes: list[Change]) -> Change:
    """Some changes, of which each begins where the one before ends, as one."""
    return Change(
        tuple([edit for change in changes for edit in change.edits]),
        changes[0].before,
        changes[-1].after,
        all(change.local for change in changes),
        max([change.rewound for change in changes]),
    )
