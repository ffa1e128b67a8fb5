"""The `egwalker` command: histories in files, read, shown, merged and converted.

Each command says in one line what it did: on standard output, or on standard error where the output is what
was asked for. What goes wrong is said in one line, too, and `STATUS` tells the exit statuses.
"""

import argparse
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from egwalker import __version__, cli_commands
from egwalker.cli_commands import TOKEN
from egwalker.cli_words import FailureError, flush, forget, printable, say
from egwalker.formats import FORMATS
from egwalker.types import DEFAULT_KIND

STATUS = """\
  0         done
  1         nobody reads the output any more
  2         bad usage or input, or something could not be done: one line on standard error says which
  130       interrupted"""


def file_or_url(text: str) -> Path | str:
    """An argument that names a document."""
    return text if "://" in text else Path(text)


def port(text: str) -> int:
    """An argument that is a port."""
    number = int(text)
    if not 0 <= number <= 65535:
        raise argparse.ArgumentTypeError(f"a port is within 0..65535, not {number}")
    return number


def seconds(text: str) -> float:
    """An argument that is a time."""
    number = float(text)
    if not 0 <= number < math.inf:
        raise argparse.ArgumentTypeError(f"a time is a number of seconds, not {text}")
    return number


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (try {self.prog} --help)\n")


def parser() -> Parser:
    """All commands and their arguments."""
    formats = "\n".join([f"  {f.suffix:<10}{f.about}" for f in FORMATS])
    top = Parser(
        prog="egwalker",
        description="Merge, inspect, convert and serve collaboratively edited documents.",
        epilog=f"formats of documents, by suffix:\n{formats}\na document may also be a server's, http://HOST/NAME\n\n"
        f"exit status:\n{STATUS}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"egwalker {__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(name: str, run: Any) -> argparse.ArgumentParser:
        found = commands.add_parser(name, help=run.__doc__, description=run.__doc__)
        found.set_defaults(run=run)
        return found

    def path(where: argparse.ArgumentParser, name: str, about: str, kind: Any = file_or_url) -> None:
        where.add_argument(name.lower(), metavar=name, type=kind, help=about)

    found = command("import", cli_commands.import_)
    path(found, "SOURCE", "a text, a history or a trace")
    path(found, "OUT", "the document to write, or to bring this into")
    found.add_argument("--force", action="store_true", help="replace OUT, whatever it holds")

    def at(where: argparse.ArgumentParser, what: str) -> None:
        where.add_argument(
            "--at",
            metavar="VERSION",
            help=f"the version {what}, as agent:seq,agent:seq (`log` shows them), root for the one before "
            "all events; the latest one if not given",
        )

    found = command("cat", cli_commands.cat)
    path(found, "DOCUMENT", "the document to print")
    at(found, "to print")

    found = command("blame", cli_commands.blame)
    path(found, "DOCUMENT", "the document to show the authors of")
    at(found, "to show")
    found.add_argument("--json", action="store_true", help="one JSON object a line, nothing shortened")

    found = command("log", cli_commands.log)
    path(found, "DOCUMENT", "the document to list")
    found.add_argument(
        "--groups",
        action="store_true",
        help="a line for each group in the total order, which is the same in all replicas",
    )
    found.add_argument("--json", action="store_true", help="one JSON object a line, nothing shortened")

    found = command("stat", cli_commands.stat)
    path(found, "DOCUMENT", "the document to measure")
    found.add_argument("--json", action="store_true", help="one JSON object")

    found = command("merge", cli_commands.merge)
    path(found, "A", "one replica")
    path(found, "B", "the other one")
    found.add_argument(
        "-o", "--output", metavar="OUT", type=file_or_url, required=True, help="the merged document"
    )
    found.add_argument("--unrelated", action="store_true", help="merge documents with different ids, too")

    found = command("export", cli_commands.export)
    path(found, "DOCUMENT", "the document to convert")
    path(found, "OUT", "the file to write, in the format of its suffix")

    found = command("serve", cli_commands.serve)
    path(found, "FOLDER", "where the documents are, as .egw files; or the URL of another place to keep them")
    found.add_argument("--host", default="127.0.0.1", help="the address to listen at (%(default)s)")
    found.add_argument("--port", type=port, default=8080, help="0: any that is free (%(default)s)")
    found.add_argument(
        "--token", default=os.environ.get(TOKEN), help=f"who sends it may read and write (${TOKEN})"
    )
    found.add_argument("--open", action="store_true", help="anyone who can connect may read and write")
    found.add_argument(
        "--kind", default=DEFAULT_KIND, help="of new documents, unless who makes one says (%(default)s)"
    )
    found.add_argument(
        "--idle", type=seconds, default=60.0, help="seconds to keep an unused document open (%(default)s)"
    )
    found.add_argument("--verbose", action="store_true", help="say who comes and goes")

    found = command("edit", cli_commands.edit)
    path(found, "DOCUMENT", "a document at a server, http://HOST/NAME, or an .egw file, which need not exist")
    found.add_argument("--name", help="who you are, to the others ($USER)")
    found.add_argument("--token", default=os.environ.get(TOKEN), help=f"for the server (${TOKEN})")
    found.add_argument(
        "--keep",
        metavar="FILE",
        type=Path,
        help="an .egw file that also keeps a server's document, for when there is no connection",
    )

    found = command("plugins", cli_commands.plugins)
    found.add_argument("--json", action="store_true", help="one JSON object a line")

    found = command("verify", cli_commands.verify)
    path(found, "DOCUMENT", "the document to check")

    found = command("repack", cli_commands.repack)
    path(found, "DOCUMENT", "the .egw file to write anew", Path)
    found.add_argument("-o", "--output", metavar="OUT", type=Path, help="another file to write instead")
    found.add_argument("--no-content", action="store_true", help="smaller; opening it replays its history")
    found.add_argument(
        "--no-deleted", action="store_true", help="forget what was deleted: past versions cannot be had"
    )
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line, by default the process's own; returns the exit status."""
    if sys.stderr is None:  # it is closed
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    args = parser().parse_args(argv)
    try:
        args.run(args)
        flush()
    except FailureError as failure:
        say(f"egwalker: {printable(str(failure))}")
        return 2
    except BrokenPipeError:
        forget(sys.stdout)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0
