"""Documents made of operations: one more operation on top of many, and one that arrives late."""

from __future__ import annotations

from typing import Any

from egwalker import Change, Document, Run


def history(events: int) -> list[Run]:
    """A map that two agents set a thousand keys of, each knowing all that the other one has done."""
    runs = []
    parents: tuple[tuple[str, int], ...] = ()
    for i in range(events):
        agent, seq = ("ann", "bob")[i % 2], i // 2
        op = {"set": [f"section {i % 10}", f"key {i % 1000}"], "to": i}
        runs.append(Run(agent, seq, parents, ((seq, 0, [op]),)))
        parents = ((agent, seq),)
    return runs


class MapOperation:
    """A map of so many operations, each a group of its own."""

    params = (100_000, 1_000_000)
    param_names = ("operations",)
    timeout = 300

    def setup_cache(self) -> dict[int, tuple[bytes, bytes]]:
        found = {}
        for operations in self.params:
            document = Document("map", agent="me")
            document.receive(history(operations))
            found[operations] = document.encode(), document.encode(content=False)
        return found

    def setup(self, cache: dict[int, tuple[bytes, bytes]], operations: int) -> None:
        self.data, self.bare = cache[operations]
        self.document = Document.decode(self.data, agent="me")
        self.other = self.document.fork("other")
        self.other.perform({"set": ["x"], "to": 0})
        self.document.merge(self.other)
        self.late = 0
        self.count = 0

    def time_perform(self, _cache: Any, _operations: int) -> None:
        """Made here."""
        self.document.perform({"set": ["key"], "to": self.count})
        self.count += 1

    def time_receive(self, _cache: Any, _operations: int) -> None:
        """Made by somebody else, on top of everything."""
        agent = ("left", "right")[self.count % 2]
        run = Run(agent, self.count // 2, self.document.version, ((self.count // 2, 0, [{"remove": ["x"]}]),))
        self.document.receive([run])
        self.count += 1

    def arrive(self, behind: int, operations: int) -> None:
        """One that belongs before the last `behind`."""
        self.late += 1
        at = operations - behind - 1
        parents = ((("ann", "bob")[at % 2], at // 2),)
        run = Run(f"late {self.late}", 0, parents, ((0, 0, [{"set": ["late"], "to": self.late}]),))
        change = self.document.receive([run])
        assert change.rewound >= behind, change.rewound

    def time_late_10(self, _cache: Any, operations: int) -> None:
        self.arrive(10, operations)

    def time_late_1000(self, _cache: Any, operations: int) -> None:
        self.arrive(1_000, operations)

    def time_late_90000(self, _cache: Any, operations: int) -> None:
        self.arrive(90_000, operations)

    def time_decode(self, _cache: Any, _operations: int) -> None:
        """From bytes, with the state."""
        Document.decode(self.data, agent="me")

    def time_decode_and_perform(self, _cache: Any, _operations: int) -> None:
        """The same, and go on."""
        Document.decode(self.data, agent="me").perform({"remove": ["x"]})

    def time_decode_without_state(self, _cache: Any, _operations: int) -> None:
        """From bytes, all performed."""
        Document.decode(self.bare, agent="me")

    def time_decode_and_late_1000(self, _cache: Any, operations: int) -> None:
        """With the state, which something belongs before: all is read and performed."""
        self.document = Document.decode(self.data, agent="me")
        self.arrive(1_000, operations)

    def track_memory(self, _cache: Any, _operations: int) -> int:
        """Of the order and the checkpoints, in bytes."""
        return sum(self.document._replica.main.memory().values())

    track_memory.unit = "bytes"  # type: ignore[attr-defined]


class Heads:
    """A counter in which so many people do something at once, none of whom knows of another one."""

    params = (750, 3_000)
    param_names = ("heads",)

    def setup(self, heads: int) -> None:
        self.document = Document("counter", agent="me")
        self.runs = [Run(f"agent {i}", 0, (), ((0, 0, [1]),)) for i in range(heads)]

    def time_receive(self, _heads: int) -> None:
        """Each by itself, while somebody watches."""
        told: list[Change] = []
        with self.document.subscribe(told.append):
            for run in self.runs:
                self.document.receive([run])

    time_receive.number = 1  # type: ignore[attr-defined]
