"""People who type at the same time and never pause: documents that get each other's keystrokes late."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from random import Random
from typing import TypeVar

import generate
from deliver import expect
from oracle import Op, Sequence, Txn
from session import apply_edits

from egwalker import Branch, Document, Run
from egwalker.cycore import walker
from egwalker.versions import Version

RECENT = 40
"""How many versions back somebody may edit the past."""


class Chat:
    """Replicas of one document, and the keystrokes on their way between each two of them, in order.

    `lag`: how many keystrokes wait at each place on average. `absences`: how often somebody goes away for
    long. `past`: how often somebody edits an older version. `reopen`: how often somebody closes the document
    and opens it again. After each delivery the document is compared with what the edits that it told of make
    of the content before.
    """

    def __init__(
        self,
        rng: Random,
        agents: int,
        *,
        kind: str = "text",
        lag: float = 2,
        absences: float = 0.0,
        past: float = 0.0,
        reopen: float = 0.0,
        crowded: bool = False,
    ) -> None:
        self.rng, self.lag, self.absences, self.past, self.reopen = rng, lag, absences, past, reopen
        self.world = generate.World(rng, odd=True, values=kind == "list", crowded=crowded)
        base = Document(kind, agent="base")
        base.insert(0, self.world.content(rng.choice((1, 5, 40))))
        self.docs = [base.fork(agent) for agent in generate.AGENTS[:agents]]
        self.carets = [0] * agents
        self.away = [0] * agents
        self.pasts: list[deque[Version]] = [deque([base.version], RECENT) for _ in self.docs]
        self.queues: list[list[deque[Run]]] = [[deque() for _ in self.docs] for _ in self.docs]
        """By reader and writer."""
        self.txns = [Txn(*run) for run in base.history()]
        self.longest = 0
        """The largest live window so far."""

    def run(self, steps: int) -> None:
        for _ in range(steps):
            index = self.rng.randrange(len(self.docs))
            if not self.away[index] and self.rng.random() < self.absences:
                self.away[index] = self.rng.randint(5, 60)
            self.type(index)
            if self.away[index]:
                self.away[index] -= 1
            else:
                while self.waiting(index) > self.rng.random() * 2 * self.lag:
                    self.read(index, self.rng.choice((1, 1, 1, 1, 2, 5, 30)))
            if self.rng.random() < self.reopen and not self.docs[index].pending:
                self.docs[index] = Document.decode(self.docs[index].encode(), agent=self.docs[index].agent)
            self.pasts[index].append(self.docs[index].version)
        self.converge()

    def type(self, index: int) -> None:
        """One thing that somebody does."""
        doc = self.docs[index]
        before = doc.version_vector
        if self.rng.random() < self.past:
            branch = doc.branch(self.rng.choice(self.pasts[index]))
            ops, _ = self.world.ops(len(branch), 0)
            edit(branch, ops)
        else:
            ops, self.carets[index] = self.world.ops(len(doc), self.carets[index])
            wanted = apply_edits(doc.content, ops)
            edit(doc, ops)
            expect("content after an edit", doc.content, wanted)
        runs = doc.history(before)
        self.txns += [Txn(*run) for run in runs]
        for reader, queues in enumerate(self.queues):
            if reader != index:
                queues[index] += runs

    def waiting(self, index: int) -> int:
        return sum(map(len, self.queues[index]))

    def read(self, index: int, count: int) -> None:
        """Somebody gets the next keystrokes, which may come before what they are on top of."""
        doc = self.docs[index]
        runs: list[Run] = []
        while len(runs) < count and self.waiting(index):
            runs.append(self.rng.choice([queue for queue in self.queues[index] if queue]).popleft())
        before = doc.content
        change = doc.receive(runs)
        expect("content after a delivery", doc.content, apply_edits(before, change.edits))
        self.longest = max(self.longest, len(doc._replica.main.live))
        if self.rng.random() < 0.02:
            doc._check()

    def converge(self) -> None:
        naive = Sequence(values=self.docs[0].kind == "list")
        naive.receive(self.txns)
        wanted = naive.content()
        for index, doc in enumerate(self.docs):
            while self.waiting(index):
                self.read(index, self.rng.randint(1, 3))
            expect("waiting events", doc.pending, 0)
            doc._check()
            expect(f"content of {doc.agent}", doc.content, wanted)


def edit(doc: Document | Branch, ops: Iterable[Op]) -> None:
    for pos, deleted, inserted in ops:
        if deleted:
            doc.delete(pos, deleted)
        if inserted:
            doc.insert(pos, inserted)


C = TypeVar("C", bound=Chat)


def play(chats: int, steps: int, make: Callable[[int], C]) -> Iterator[C]:
    """Chats of so many steps, by seed, every second one over span trees of several levels."""
    for seed in range(chats):
        found = make(seed)
        walker._node_sizes(*((4, 4) if seed % 2 else ()))
        try:
            found.run(steps)
        except Exception as error:
            error.add_note(f"seed {seed}")
            raise
        finally:
            walker._node_sizes()
        yield found


def chat(seed: int) -> Chat:
    """A chat that depends on the seed alone, before its first step."""
    rng = Random(seed)
    return Chat(
        rng,
        rng.randint(2, 5),
        kind=rng.choice(("text", "text", "text", "list")),
        lag=rng.choice((1, 2, 4, 10)),
        absences=rng.choice((0, 0, 0.03)),
        past=rng.choice((0, 0, 0.05)),
        reopen=rng.choice((0, 0, 0.03)),
        crowded=rng.random() < 0.4,
    )
