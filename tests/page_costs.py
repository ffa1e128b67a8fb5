"""How much work a large text is for the page: milliseconds of its main thread's processor, not of a clock.

    python tests/page_costs.py [--size N] [--rounds N] [--keys N] [--top N] [--traces DIR] [KIND ...]

`KIND`: `lines` (words in lines of some 60), `line` (the same without a line break), or the name of a recorded
history, whose last text is repeated up to the size. A Chromium opens each: new to it, and kept by it. Then
keys are pressed at its start, in its middle and at its end, and somebody else types there. Prints one JSON
line for each: `ms` for the opening or for one key, of which `script`, `layout` and `style`; the rest is
painting and the browser's own. All is the least of some rounds: what else the machine does slows down even
what is counted so. `--top`: the functions that took most. It needs what the tests of the page need.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

from browser import Page, Site, launched
from playwright.async_api import CDPSession
from serving import link

from egwalker import Document
from egwalker.formats import load, save

SAVED = "^All changes saved$"
WORDS = ("the", "history", "of", "a", "town", "council", "naïve", "漢字", "😀", "letters", "are", "written")
PARTS = {"ms": "Task", "script": "Script", "layout": "Layout", "style": "RecalcStyle"}
PAUSE = 0.05
"""Seconds between two keys."""
SAMPLE = 200
"""Microseconds between two samples of what is running."""


class Cost:
    """What something costs, in all rounds of it."""

    def __init__(self) -> None:
        self.rounds: list[dict[str, float]] = []
        self.functions: Counter[str] = Counter()
        """Milliseconds that each took in all rounds together."""

    def sample(self, profile: dict[str, Any], count: int) -> None:
        nodes = {node["id"]: node["callFrame"] for node in profile["nodes"]}
        for ident, micros in zip(profile["samples"], profile["timeDeltas"], strict=True):
            frame = nodes[ident]
            file = frame["url"].rsplit("/", 1)[-1]
            name = f"{frame['functionName'] or '(anonymous)'} {file}:{frame['lineNumber'] + 1}"
            # A sample that is late has waited for the processor.
            self.functions[name] += min(max(micros, 0), 2 * SAMPLE) / 1000 / count

    def say(self, what: str, kind: str, top: int) -> None:
        least = min(self.rounds, key=lambda one: one["ms"])
        rounded = {key: round(value, 2) for key, value in least.items()}
        print(json.dumps({"what": what, "kind": kind, **rounded}), flush=True)
        del self.functions["(idle) :0"]
        for name, took in self.functions.most_common(top):
            print(f"    {took / len(self.rounds):8.2f} {name}", flush=True)


class Meter:
    """What a tab's main thread does; with what runs then, if that is asked for."""

    def __init__(self, session: CDPSession, sampled: bool) -> None:
        self._session = session
        self._sampled = sampled

    @classmethod
    async def on(cls, page: Page, sampled: bool) -> Meter:
        session = await page.person.context.new_cdp_session(page.tab)
        await session.send("Performance.enable", {"timeDomain": "threadTicks"})
        if sampled:
            await session.send("Profiler.enable")
            await session.send("Profiler.setSamplingInterval", {"interval": SAMPLE})
        return cls(session, sampled)

    async def _seconds(self) -> dict[str, float]:
        found = await self._session.send("Performance.getMetrics")
        return {metric["name"]: metric["value"] for metric in found["metrics"]}

    @asynccontextmanager
    async def round(self, cost: Cost, count: int = 1) -> AsyncIterator[None]:
        """Add what is done within as another round, for each of so many."""
        before = await self._seconds()
        if self._sampled:
            await self._session.send("Profiler.start")
        yield
        after = await self._seconds()
        cost.rounds.append(
            {
                key: (after[f"{name}Duration"] - before[f"{name}Duration"]) * 1000 / count
                for key, name in PARTS.items()
            }
        )
        if self._sampled:
            cost.sample((await self._session.send("Profiler.stop"))["profile"], count)


def words(size: int, line: int) -> str:
    """So many code points of words, with a line break where a line would have more than `line`."""
    rng = Random(1)
    parts: list[str] = []
    length = column = 0
    while length < size:
        word = rng.choice(WORDS)
        length += len(word) + 1
        column += len(word) + 1
        parts.append(word + ("\n" if column > line else " "))
        if column > line:
            column = 0
    return "".join(parts)[:size]


def text_of(kind: str, size: int, folder: Path) -> str:
    if kind in ("lines", "line"):
        return words(size, 60 if kind == "lines" else size + 1)
    text = str(load(folder / f"{kind}.json.gz").document)
    return (text * (size // len(text) + 1))[:size]


async def quiet(page: Page) -> None:
    """Wait until all is saved, and kept in the browser."""
    await page.until_status(SAVED)
    await page.tab.wait_for_timeout(4000)


async def open_twice(site: Site, kind: str, costs: tuple[Cost, Cost], sampled: bool) -> Page:
    """By somebody who has the page, but not the document; and who has both."""
    person = await site.person("ann")
    await (await person.open("other")).stays()
    for cost in costs:
        page = Page(person, await person.context.new_page())
        meter = await Meter.on(page, sampled)
        async with meter.round(cost):
            await page.tab.goto(site.server.url_of(kind))
            await page.ready()
            await page.until_status(SAVED)
        await quiet(page)
        if cost is costs[0]:
            await page.close()
    return page


async def place(page: Page, share: float) -> int:
    """About so far into the text, and not within a character."""
    text = await page.text()
    return len(text[: int(share * len(text))].encode("utf-16-le")) // 2


async def measure(site: Site, kind: str, arguments: argparse.Namespace) -> None:
    rounds, keys, top = arguments.rounds, arguments.keys, arguments.top
    new, again = Cost(), Cost()
    for _ in range(rounds):
        for person in site.people:
            await person.context.close()
        site.people.clear()
        page = await open_twice(site, kind, (new, again), top > 0)
    new.say("open", kind, top)
    again.say("open again", kind, top)
    meter = await Meter.on(page, top > 0)
    for what, share in (("start", 0.0), ("middle", 0.5), ("end", 1.0)):
        await page.go_to(await place(page, share))
        await page.press("ArrowRight", "ArrowLeft")  # it is scrolled to
        await quiet(page)
        cost = Cost()
        for _ in range(rounds):
            async with meter.round(cost, keys):
                await page.type("x" * keys, PAUSE)
        cost.say(f"a key at the {what}", kind, top)
    stranger = Document(agent="stranger")
    async with link(site.server.url_of(kind), stranger) as linked:
        await linked.synced()
        at = len(stranger) // 2
        cost = Cost()
        for _ in range(rounds):
            async with meter.round(cost, keys):
                for _ in range(keys):
                    stranger.insert(at, "y")
                    at += 1
                    await asyncio.sleep(PAUSE)
        cost.say("somebody else's key", kind, top)
        await linked.persisted()


async def run(arguments: argparse.Namespace) -> None:
    async with launched() as browser:
        for kind in arguments.kinds:
            with tempfile.TemporaryDirectory() as folder:
                site = Site(browser, Path(folder))
                document = Document(agent="before")
                document.insert(0, text_of(kind, arguments.size, arguments.traces))
                save(document, site.server.folder / f"{kind}.egw")
                await site.server.start()
                await measure(site, kind, arguments)
                await site.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("kinds", nargs="*", metavar="KIND", default=["lines", "line"])
    parser.add_argument("--size", type=int, default=2**20, help="code points of each text")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is done")
    parser.add_argument("--keys", type=int, default=40, help="keys in a round")
    parser.add_argument("--top", type=int, default=0, help="how many functions to list")
    parser.add_argument("--traces", type=Path, default=Path("../shared/traces"), help="where histories are")
    asyncio.run(run(parser.parse_args()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
