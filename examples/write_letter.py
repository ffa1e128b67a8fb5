r"""Writes `letter-alice.json` and `letter-bob.json`, the two histories that the demo merges.

Alice and Bob begin a letter together; then each goes on alone, for an evening without a connection. This is
what they typed, key by key; a backspace is written `\b`. Run it to write the files anew:

    python examples/write_letter.py [FOLDER]
"""

import re
import sys
from pathlib import Path
from typing import Self

from egwalker import Document
from egwalker.formats import save

FOLDER = Path(__file__).resolve().parent


ID = "1e77e5" + "0" * 26


class Writer:
    """Somebody at a keyboard, with a cursor in a replica of the letter."""

    def __init__(self, letter: Document) -> None:
        self.letter = letter
        self.cursor = letter.cursor()

    def before(self, text: str) -> Self:
        """Click just before `text`, which stands in the letter once."""
        content = str(self.letter)
        if content.count(text) != 1:
            raise ValueError(f"{text!r} is {content.count(text)} times in the letter, not once")
        self.cursor.move(content.index(text))
        return self

    def after(self, text: str) -> Self:
        """Click just behind `text`, which stands in the letter once."""
        self.before(text)
        self.cursor.move(self.cursor.position + len(text))
        return self

    def type(self, keys: str) -> Self:
        r"""Type; each `\b` takes back one character."""
        for part in re.findall("\b+|[^\b]+", keys):
            if part[0] == "\b":
                self.cursor.backspace(len(part))
            else:
                self.cursor.insert(part)
        return self

    def rub_out(self, text: str) -> Self:
        """Take back `text` from its end on, with the backspace key."""
        return self.after(text).type("\b" * len(text))

    def cut(self, text: str) -> Self:
        """Mark `text` and delete it."""
        self.before(text)
        self.cursor.delete(len(text))
        return self


def begin(alice: Writer, bob: Writer) -> None:
    """The common version: Alice types, Bob helps, and each sees at once what the other does."""

    def send() -> None:
        alice.letter.merge(bob.letter)
        bob.letter.merge(alice.letter)

    alice.type("To the town cuo\b\bouncil\n\nDear councillors,\n\n")
    alice.type("we write about the reading room in Mill Street, which is to be shut\b\b\b\bclosed ")
    alice.type("in autumn. We are two of its regular visitrs\b\bors, and we ask you to keep it open.\n\n")
    send()
    bob.after("keep it open.\n\n").type("The room is small, but it is never empty. ")
    bob.type("In the mornings it belongs to pensioners and teh\b\bheir newspapers, ")
    bob.type("in the afternoons to pupils who have no quiet place at hoem\b\bme. ")
    bob.type("On Thursdays a librarrian comes and reads to the childern\b\b\bren.\n\n")
    send()
    alice.after("to the children.\n\n").type("You say that the building needs a new roof ")
    alice.type("and that there is no mony\bey for it.\n\nWhat we propose:\n")
    alice.type("- open on four days a week instaed\b\b\bead of six\n")
    alice.type("- ask the savings bank for a contrubut\b\b\b\bibution\n\nYours sincerely\nAlice Brandt\n")
    send()
    bob.after("Alice Brandt").type(" and Bob Okafor")
    send()


def alice_alone(alice: Writer) -> None:
    """What Alice did on the train."""
    alice.rub_out("You say that").type("We understnad\b\b\band that")
    alice.after("never empty.").type(" We counted last week: between twenty and thrity\b\b\b\birty ")
    alice.type("people cmae\b\b\bame every day, and on Wednesday, when it rianed\b\b\b\b\bained, forty-one.")
    alice.after("librar").type("\b")
    alice.after("pensioners and their newspapers").type(" (and one very old dog)")
    alice.cut(" (and one very old dog)")
    alice.after("for a contribution\n").type("- let volunteers look after it on Saturdays; ")
    alice.type("eleven people have alraedy\b\b\b\beady put their names on a list\n")
    alice.cut("in autumn").type("this autumn")
    alice.after("and Bob Okafor\n").type("\nP.S. from Alice: The list of volunteers is at the bakrey")
    alice.type("\b\b\bery. It gets longer every moring\b\b\bning.\n")


def bob_alone(bob: Writer) -> None:
    """What Bob did in the kitchen, at the same time."""
    bob.after("Dear").type(" mayor, dear")
    bob.before("regular").type("most obst\b\b\b\bstubborn ")
    bob.after("never empty.").type(
        " Often all twelve chiars\b\b\b\bairs are taken, and the window sills, too."
    )
    bob.after("a new roof").type(", which the builders put at 18,000 euros,")
    bob.cut(" On Thursdays a librarrian comes and reads to the children.")
    bob.type("\n\nAnd on Thursdays, when a librarian reads to the children, there are never enough ")
    bob.type("cushoins\b\b\b\bions.")
    bob.after("for a contribution\n").type("- collect for the roof at the summer fari\b\bir: ")
    bob.type("we have a stand and a hundred litres of lemonaed\b\bde\n")
    bob.rub_out(" instead of six").type(", but until eihgt\b\b\bght in the evening")
    bob.after("and Bob Okafor\n").type("\nP.S. from Bob: Come and see for yourselves. ")
    bob.type("Thursday is best, bring a cuhs\b\bshion.\n")


def write() -> tuple[Document, Document]:
    """Alice's and Bob's replicas after that evening."""
    # An id of their own would make other files each time.
    alice = Writer(Document("text", agent="alice", id=ID))
    bob = Writer(Document("text", agent="bob", id=ID))
    begin(alice, bob)
    alice_alone(alice)
    bob_alone(bob)
    return alice.letter, bob.letter


def main() -> None:
    """Write both files."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    for letter in write():
        path = folder / f"letter-{letter.agent}.json"
        size = save(letter, path)
        print(f"{path}: {letter.agent}'s letter, {size:,} bytes")


if __name__ == "__main__":
    main()
