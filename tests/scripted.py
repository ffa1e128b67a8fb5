"""Scripted sessions that Python documents and those of `egwalker.js` play: which events follow which.

The file `fixtures/scripts/deferral.json` is a list of `{"name", "agents", "steps", "text", "events"}`. A step
is a list: an agent, what it does, and with what, in code points: `insert` pos text; `delete` pos length;
`adopt`; `defer` true or false; `hear` other n: the next n of the other's updates. At last all hear all.
`events` are `[agent, seq, parents]` for the first of each run, ascending, and `text` is everybody's.
"""

from __future__ import annotations

from typing import Any

from deliver import DOC_ID

from egwalker import Document


def play(script: dict[str, Any]) -> tuple[list[Document], list[Any]]:
    """The documents at the end, and the events as the file has them."""
    docs = {agent: Document(agent=agent, id=DOC_ID) for agent in script["agents"]}
    updates: dict[str, list[bytes]] = {agent: [] for agent in docs}
    heard = {(agent, other): 0 for agent in docs for other in docs}

    def hear(agent: str, other: str, count: int) -> None:
        first = heard[agent, other]
        for data in updates[other][first : first + count]:
            docs[agent].apply(data)
            heard[agent, other] += 1

    for agent, what, *arguments in script["steps"]:
        doc = docs[agent]
        if what == "hear":
            hear(agent, *arguments)
        elif what == "defer":
            doc.defer = arguments[0]
        elif what == "adopt":
            doc.adopt()
        else:
            before = doc.version_vector
            getattr(doc, what)(*arguments)
            updates[agent].append(doc.encode(since=before))
    for agent in docs:
        for other in docs:
            if other != agent:
                hear(agent, other, len(updates[other]))
    first = docs[script["agents"][0]]
    runs = sorted((run.agent, run.seq, run.parents) for run in first.history())
    own = [
        [agent, seq, [list(parent) for parent in sorted(parents)]]
        for agent, seq, parents in runs
        if parents != ((agent, seq - 1),)
    ]
    return list(docs.values()), own
