"""What `make demo` runs: merges two diverged histories of one letter, and shows what came from whom."""

import os
import shlex
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from egwalker import Change, Document, Run, Span
from egwalker.formats import load
from egwalker.versions import Version, format_version

FOLDER = Path(__file__).resolve().parent
FILES = FOLDER / "letter-alice.json", FOLDER / "letter-bob.json"

INDENT = "  "
WIDTH = 88
PLAIN = ""
UNDERLINED, STRUCK = "4;", "9;"
COLOURS = "36", "33"
"""Of what the one side and the other one did. What both deleted has the third."""
BOTH = "90"


class Part(NamedTuple):
    """A stretch of the letter: who typed it, None before the sides parted; and who deleted it."""

    text: str
    by: str | None
    gone: tuple[str, ...]


class Letter:
    """A text as it was at some version, with marks of who has changed what since then.

    Deleted elements of that version stay, with a mark; positions in the text do not count them.
    """

    def __init__(self, text: str) -> None:
        self.chars = list(text)
        self.by: list[str | None] = [None] * len(text)
        self.gone: list[tuple[str, ...]] = [()] * len(text)

    def index(self, pos: int) -> int:
        """Where the element at `pos` is among all, or the end."""
        there = (i for i, gone in enumerate(self.gone) if not gone)
        return next((i for n, i in enumerate(there) if n == pos), len(self.chars))

    def apply(self, change: Change, agent: str) -> None:
        """Make a change to the text that came of the changes before it."""
        for pos, deleted, inserted in change.edits:
            for _ in range(deleted):
                i = self.index(pos)
                if self.by[i] is None:
                    self.gone[i] = (agent,)
                else:
                    del self.chars[i], self.by[i], self.gone[i]
            # Behind its left neighbour, thus before what is deleted to the right of that.
            i = self.index(pos - 1) + 1 if pos else 0
            self.chars[i:i] = inserted
            self.by[i:i] = [agent] * len(inserted)
            self.gone[i:i] = [()] * len(inserted)

    def parts(self) -> Iterator[Part]:
        """The marked text, each part as long as can be."""
        start = 0
        for i in range(1, len(self.chars) + 1):
            if i == len(self.chars) or (self.by[i], self.gone[i]) != (self.by[start], self.gone[start]):
                yield Part("".join(self.chars[start:i]), self.by[start], self.gone[start])
                start = i


def marked(merged: Document, common: Version, sides: Iterable[list[Run]]) -> Letter:
    """The merged text, marked: runs are brought into the common version one by one to see what each does.

    What both sides deleted, only the first of them deletes in the merged text. So each side is also looked at
    by itself.
    """
    letter = Letter(merged.checkout(common))
    branch = merged.branch(common)
    alone = []
    for runs in sides:
        own = Letter(merged.checkout(common))
        own_branch = merged.branch(common)
        for run in runs:
            last = [(run.agent, run.seq + run.length - 1)]
            letter.apply(branch.merge(last), run.agent)
            own.apply(own_branch.merge(last), run.agent)
        alone.append([gone for by, gone in zip(own.by, own.gone, strict=True) if by is None])
    before = [i for i, by in enumerate(letter.by) if by is None]
    for i, *gone in zip(before, *alone, strict=True):
        letter.gone[i] = tuple([agent for agents in gone for agent in agents])
    return letter


# --- on the terminal ----------------------------------------------------------------------------------------


class Screen:
    """Prints parts of the letter, in colour or else between brackets."""

    def __init__(self, agents: list[str], colour: bool) -> None:
        self.colours = dict(zip(agents, COLOURS, strict=True))
        self.colour = colour
        self.width = min(shutil.get_terminal_size().columns, WIDTH) - len(INDENT)

    def style(self, part: Part) -> str:
        if part.gone:
            return STRUCK + (self.colours[part.gone[0]] if len(part.gone) == 1 else BOTH)
        return UNDERLINED + self.colours[part.by] if part.by else PLAIN

    def painted(self, part: Part) -> list[tuple[str, str]]:
        """The characters of a part, each with its style. Without colour: brackets around each line."""
        text = part.text.replace("\n", "¶\n") if part.gone else part.text
        style = self.style(part)
        if self.colour or not style:
            return [(char, style if self.colour else PLAIN) for char in text]
        who = "".join([agent[0].upper() for agent in part.gone or (part.by or "",)])
        sign = "-" if part.gone else "+"
        lines = [f"[{who}{sign}{line}]" if line else "" for line in text.split("\n")]
        return [(char, PLAIN) for char in "\n".join(lines)]

    def legend(self, *examples: Part) -> None:
        print(INDENT + "   ".join([self.line(self.painted(part)) for part in examples]))

    def text(self, parts: Iterable[Part]) -> None:
        """Print wrapped lines."""
        chars = [pair for part in parts for pair in self.painted(part)]
        while chars:
            end = next((i for i, (char, _) in enumerate(chars) if char == "\n"), len(chars))
            skip = end + 1
            if end > self.width:
                spaces = [i for i, (char, _) in enumerate(chars[: self.width + 1]) if char == " "]
                end = spaces[-1] if spaces else self.width
                skip = end + bool(spaces)
            print((INDENT + self.line(chars[:end])).rstrip())
            chars = chars[skip:]

    @staticmethod
    def line(chars: list[tuple[str, str]]) -> str:
        found, last = "", PLAIN
        for char, style in [*chars, ("", PLAIN)]:
            if style != last:
                found += "\x1b[0m" + (f"\x1b[{style}m" if style else "")
                last = style
            found += char
        return found


def count(spans: Iterable[Span]) -> int:
    return sum([span.end - span.start for span in spans])


def said(runs: list[Run]) -> str:
    """What the runs of one agent did, in numbers."""
    typed = sum([len(inserted) for run in runs for _, _, inserted in run.ops])
    deleted = sum([run.length for run in runs]) - typed
    return f"{runs[0].agent} typed {typed} characters and deleted {deleted}"


def main() -> int:
    """Tell the story; the exit status is 1 if the order of merging made a difference."""
    a, b = (load(path).document for path in FILES)
    merged, other = a.fork(), b.fork()
    merged.merge(b)
    other.merge(a)

    diff = merged.diff(a.version, b.version)
    news = [(count(diff.a_only), merged.history(since=b.version_vector))]
    news += [(count(diff.b_only), merged.history(since=a.version_vector))]
    agents = [runs[0].agent for _, runs in news]
    shared = sum([run.length for run in merged.history()]) - sum([events for events, _ in news])
    where = [os.path.relpath(path) for path in FILES]

    print("Two people began a letter together. Then each of them went on alone, without a connection.")
    print(f"Both have {shared} events, up to version {format_version(diff.head)}. ", end="")
    print("What each has that the other lacks:\n")
    for path, (events, runs) in zip(where, news, strict=True):
        print(f"{INDENT}{path:<{max(map(len, where))}}  {events} events: {said(runs)}")
    print("\nNothing that one did comes after anything that the other one did: all of it is concurrent.")
    print("Merged, it makes this letter. (What somebody typed and took back again is not shown.)\n")

    screen = Screen(agents, colour=sys.stdout.isatty() and "NO_COLOR" not in os.environ)
    letter = marked(merged, diff.head, [runs for _, runs in news])
    screen.legend(
        *[Part(f"{agent} typed", agent, ()) for agent in agents],
        *[Part(f"{agent} deleted", None, (agent,)) for agent in agents],
        Part("both deleted", None, tuple(agents)),
    )
    print(INDENT + "─" * screen.width)
    screen.text(letter.parts())
    print(INDENT + "─" * screen.width)

    if str(merged) != str(other) or merged.version != other.version:
        print("\nThe order of merging made a difference. It must not.", file=sys.stderr)
        return 1
    print("\nEach side merged the other's history, and both have the same text now, ", end="")
    print(f"{len(merged):,} characters.\nNothing had to be resolved. To go on from here:\n")
    program = os.path.relpath(Path(sys.executable).with_name("egwalker"))
    out = str(Path(tempfile.gettempdir(), "letter.json"))
    for words in (
        ["merge", *where, "-o", out],
        ["log", out],
        ["cat", out, "--at", format_version(diff.head)],
        ["stat", out],
    ):
        print(f"{INDENT}{shlex.join([program, *words])}")
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # whoever reads this may stop reading
    sys.exit(main())
