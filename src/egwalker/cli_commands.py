"""What each command of `egwalker` does: it says in one line what it did, or raises `FailureError`."""

import argparse
import importlib
import importlib.util
import json
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import quote

from egwalker import egw_records, formats
from egwalker.cli_words import FailureError, Meter, counted, emit, printable, reason, say, show
from egwalker.cycore.errors import DecodeError, EgwalkerError, IdentityError
from egwalker.document import Document
from egwalker.formats import format_of, load, save
from egwalker.json_history import Loaded, to_json
from egwalker.plugin_manager import provided
from egwalker.stats import encoded_sizes, stats
from egwalker.versions import Group, Run, Span, Version, format_version, parse_version

SHOWN_EDITS = 4
SHOWN_CONTENT = 40
"""How many edits of a run, and how much JSON of some content, is shown for people."""

TOKEN = "EGWALKER_TOKEN"
"""The environment variable with what says who is there, to a server."""


# --- words --------------------------------------------------------------------------------------------------


def size_of(document: Document, length: int) -> str:
    return counted(length, document._type.element)


def summary(document: Document) -> str:
    """A document in one line."""
    found = stats(document)
    return (
        f"{counted(found['events'], 'event')} by {counted(found['agents'], 'agent')}, "
        f"{size_of(document, found['length'])}"
    )


def total(spans: Sequence[Span]) -> int:
    return sum([span.end - span.start for span in spans])


# --- files --------------------------------------------------------------------------------------------------


def online(work: str, *args: Any) -> Any:
    """Call a function of `egwalker.cli_online`, which takes a while to load, with progress on the way."""
    module = importlib.import_module("egwalker.cli_online")
    try:
        with Meter() as meter:
            meter("waiting", 0, 0)
            return getattr(module, work)(*args)
    except (OSError, EgwalkerError) as error:
        raise FailureError(f"cannot {work} {args[0]}: {said_by(args[0], error)}") from error


def said_by(place: object, error: Exception, option: str = "") -> str:
    """Why a place cannot be used, and what helps if it wants to know who asks."""
    why = reason(error).removeprefix(f"{place}: ").removeprefix(f"{place} ")
    refused = any(f" {status} " in why for status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN))
    return f"{why}; {option}${TOKEN} tells who you are" if refused else why


def read(path: Path | str) -> Loaded:
    """The document in a file or at a URL, with progress on the way."""
    if isinstance(path, str):
        return Loaded(online("read", path, os.environ.get(TOKEN)), None)
    try:
        with path.open("rb"):
            pass  # whether there is one comes first, whatever its name
        with Meter() as meter:
            found = load(path, progress=meter)
    except (OSError, EgwalkerError) as error:
        damaged = path.suffix == ".egw" and isinstance(error, DecodeError) and error.offset != 0
        hint = f"; `egwalker verify {path}` says more" if damaged else ""
        raise FailureError(f"cannot read {path}: {reason(error)}{hint}") from error
    if not found.closed:
        say(f"{path} was not closed: it is being edited, or its editor crashed")
    return found


def check_format(path: Path | str, document: bool) -> None:
    """Find out before long work whether there is a format to write, one that keeps a document if asked."""
    if isinstance(path, str):
        return
    try:
        keeps = format_of(path).keeps
    except EgwalkerError as error:
        raise FailureError(f"cannot write {path}: {reason(error)}") from error
    if document and not keeps:
        raise FailureError(
            f"cannot write {path}: that would keep no history; `egwalker export` writes such files"
        )


def write(document: Document, path: Path | str) -> str:
    """Write a file, or bring a document to a URL; returns where, and how much."""
    if isinstance(path, str):
        online("write", path, document, os.environ.get(TOKEN))
        return path
    try:
        return f"{path} ({counted(save(document, path), 'byte')})"
    except (OSError, EgwalkerError) as error:
        raise FailureError(f"cannot write {path}: {reason(error)}") from error


# --- commands -----------------------------------------------------------------------------------------------


def import_(args: argparse.Namespace) -> None:
    """Read a text, a recorded history or a trace and write it as a document.

    Once more into the same document, it changes nothing: what was edited since stays.
    """
    check_format(args.out, document=True)
    document, text_matches, _ = read(args.source)
    kept = ""
    if isinstance(args.out, Path) and args.out.exists() and not args.force:
        before = read(args.out).document
        try:
            change = before.merge(document)
        except EgwalkerError as error:
            raise FailureError(
                f"{args.out} is another document than {args.source} (`--force` replaces it): {reason(error)}"
            ) from error
        kept = f"; {args.out} held this document" + ("" if change.before == change.after else " in part")
        document = before
    remark = {
        True: "; the text is as recorded",
        False: "; the text is as long as recorded, but another: names break ties, and a trace has lost them",
        None: "",
    }[text_matches]
    show(f"imported {args.source}: {summary(document)}{remark}{kept}; wrote {write(document, args.out)}")


def past(args: argparse.Namespace) -> tuple[Document, Version, Any]:
    """The document asked for, the version of it, and the content there."""
    document = read(args.document).document
    try:
        version = document.version if args.at is None else parse_version(args.at)
        content = document.content if args.at is None else document.checkout(version)
    except EgwalkerError as error:
        raise FailureError(f"{args.document} has no version {printable(args.at)}: {reason(error)}") from error
    return document, version, content


def heads(version: Version) -> str:
    """A version for people, where it was not asked for."""
    return (
        printable(format_version(version)) if len(version) <= SHOWN_EDITS else counted(len(version), "head")
    )


def cat(args: argparse.Namespace) -> None:
    """Print a document's content and nothing else: a text as it is, any other content as one line of JSON."""
    document, version, content = past(args)
    out = content if isinstance(content, str) else to_json(content).decode() + "\n"
    emit(out.encode())
    length = len(content) if document._type.positions else total(document.diff((), version).b_only)
    say(f"{args.document} at {heads(version)}: {size_of(document, length)}")


def blame(args: argparse.Namespace) -> None:
    """Show who wrote what of a document: a line for each piece of it, from its start to its end."""
    document, version, content = past(args)
    try:
        spans = document.blame(version)
    except EgwalkerError as error:
        raise FailureError(f"cannot blame {args.document}: {reason(error)}") from error
    at = 0
    for agent, start, end in spans:
        length = end - start
        written = content[at : at + length]
        at += length
        if args.json:
            found = {"agent": agent, "seq": start, "length": length, "content": written}
            show(to_json(found).decode())
        else:
            show(f"{ids(agent, start, length)}  {shortened(written)}")
    say(
        f"{args.document} at {heads(version)}: {counted(len(spans), 'piece')} "
        f"by {counted(len({span.agent for span in spans}), 'agent')}, {size_of(document, len(content))}"
    )


def log(args: argparse.Namespace) -> None:
    """List a document's history, parents first: a line for each run of edits somebody made in one go."""
    document = read(args.document).document
    if args.groups:
        try:
            groups = document.groups()
        except EgwalkerError as error:
            raise FailureError(f"cannot list the groups of {args.document}: {reason(error)}") from error
        for group in groups:
            show(group_line(group, as_json=args.json))
        say(f"{args.document}: {counted(len(groups), 'group')}, {summary(document)}")
        return
    runs = document.history(document._replica.base_vector() if document.start else None)
    if document.start:
        say(f"{args.document} begins at {heads(document.start)}: what was before has not been fetched")
    for run in runs:
        show(json_line(run) if args.json else line(run, document._type.positions))
    say(f"{args.document}: {counted(len(runs), 'run')}, {summary(document)}")


def group_line(group: Group, *, as_json: bool) -> str:
    """A group of events in the total order."""
    agent, seq, length, clock = group
    if as_json:
        return to_json({"agent": agent, "seq": seq, "len": length, "clock": clock}).decode()
    return f"{ids(agent, seq, length)}  clock {clock}"


def json_line(run: Run) -> str:
    """A run as one JSON object."""
    found = {
        "agent": run.agent,
        "seq": run.seq,
        "length": run.length,
        "parents": run.parents,
        "ops": run.ops,
    }
    return to_json(found).decode()


def line(run: Run, positions: bool) -> str:
    """A run for people: its ids, what it came after, and what it did, shortened."""
    after = printable(format_version(run.parents))
    did = "; ".join(edits(run) if positions else operations(run))
    return f"{ids(run.agent, run.seq, run.length)}  after {after}  {did}"


def ids(agent: str, seq: int, length: int) -> str:
    """The ids of consecutive events of an agent."""
    return printable(f"{agent}:{seq}" + (f"..{seq + length - 1}" if length > 1 else ""))


def shortened(content: Any) -> str:
    """The beginning of some content, as JSON."""
    shown = to_json(content[: SHOWN_CONTENT + 1] if isinstance(content, (str, list)) else content).decode()
    return printable(shown[:SHOWN_CONTENT]) + ("..." if len(shown) > SHOWN_CONTENT else "")


def edits(run: Run) -> Iterator[str]:
    """What a run did, shortened."""
    for pos, deleted, inserted in run.ops[:SHOWN_EDITS]:
        if deleted:
            yield f"delete {deleted} at {pos}"
        if inserted:
            yield f"insert {shortened(inserted)} at {pos}"
    if len(run.ops) > SHOWN_EDITS:
        yield f"{len(run.ops) - SHOWN_EDITS:,} more"


def operations(run: Run) -> Iterator[str]:
    """What was done by a run of a replayed document, shortened."""
    for op in run.operations[:SHOWN_EDITS]:
        yield shortened(op)
    if run.length > SHOWN_EDITS:
        yield f"{run.length - SHOWN_EDITS:,} more"


def stat(args: argparse.Namespace) -> None:
    """Count what is in a document: events, runs, agents, concurrency, bytes of memory and of each column."""
    document = read(args.document).document
    found = {**stats(document), "encoded": encoded_sizes(document)}
    if args.json:
        show(json.dumps(found))
    else:
        for name, value in flat(found):
            show(f"{name:<20}{value:>16,}" if isinstance(value, int) else f"{name:<20}{value:>16}")
    say(f"{args.document}: {summary(document)}")


def flat(found: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Names for people: `largest_window` is "largest window", what is nested is "memory: graph"."""
    for name, value in found.items():
        if isinstance(value, dict):
            for part, number in value.items():
                yield f"{name}: {part}", number
        else:
            yield name.replace("_", " "), value


def merge(args: argparse.Namespace) -> None:
    """Merge two replicas of one document: nothing in either is lost, there are no conflicts to resolve."""
    check_format(args.output, document=True)
    a, b = read(args.a).document, read(args.b).document
    versions = a.version, b.version
    # One that begins in the middle goes into the one with all of it.
    into, other = (b, a) if a.start and not b.start else (a, b)
    try:
        with Meter() as meter:
            meter("merging", 0, 0)
            into.merge(other, unrelated=args.unrelated)
        diff = into.diff(*versions)
    except IdentityError as error:
        raise FailureError(
            f"{args.a} and {args.b} are different documents, {a.id} and {b.id}: "
            "`--unrelated` merges them all the same"
        ) from error
    except EgwalkerError as error:
        raise FailureError(f"cannot merge {args.a} and {args.b}: {reason(error)}") from error
    only_a, only_b = total(diff.a_only), total(diff.b_only)
    shared = into.events - only_a - only_b
    concurrent = "concurrent" if only_a and only_b else "nothing concurrent"
    show(
        f"merged {args.a} (brought {counted(only_a, 'event')}) "
        f"and {args.b} (brought {counted(only_b, 'event')}), {shared:,} shared, {concurrent}: "
        f"{summary(into)}; wrote {write(into, args.output)}"
    )


def export(args: argparse.Namespace) -> None:
    """Write a document in another format, or its text alone."""
    check_format(args.out, document=False)
    document = read(args.document).document
    show(f"exported {args.document}: {summary(document)}; wrote {write(document, args.out)}")


def verify(args: argparse.Namespace) -> None:
    """Check a file: every byte that can be checked, and that its history makes the content it has."""
    path = args.document
    if isinstance(path, Path) and path.suffix == ".egw":
        check_records(path)
    found = read(path)
    try:
        with Meter() as meter:
            meter("replaying", 0, 0)
            found.document.verify()
    except EgwalkerError as error:
        raise FailureError(f"{path}: {reason(error)}") from error
    show(f"{path} is sound: {summary(found.document)}")


def check_records(path: Path) -> None:
    """Say where an `.egw` file is damaged and what could be saved."""
    try:
        document, report = egw_records.read(path, salvage=True)
    except (OSError, EgwalkerError) as error:
        raise FailureError(f"{path}: nothing of it can be read: {reason(error)}") from error
    if report.damage is None:
        return
    rest = report.damage.next_record
    raise FailureError(
        f"{path} is damaged: {report.damage.reason}; {counted(report.records, 'record')} before it can be "
        f"saved, {summary(document)}{'' if rest is None else f', and from byte {rest} on there is more'}: "
        f"`egwalker repack {path} -o SAVED.egw`"
    )


def repack(args: argparse.Namespace) -> None:
    """Write an `.egw` file anew, as small as it gets; of a damaged one, what is before the damage."""
    path, out = args.document, args.output or args.document
    if path.suffix != ".egw" or out.suffix != ".egw":
        raise FailureError(f"cannot repack {path}: only .egw files grow by being edited")
    said = []

    def make() -> bytes:
        before = path.stat().st_size
        document, report = egw_records.read(path, salvage=args.output is not None)
        lost = "" if report.damage is None else f"; left out what was from byte {report.damage.offset} on"
        said.append(f"{summary(document)}, {before:,} bytes before{lost}")
        return egw_records.dumps(document, content=not args.no_content, deleted=not args.no_deleted)

    try:
        size = formats.replace(out, make)
    except (OSError, EgwalkerError) as error:
        raise FailureError(f"cannot repack {path}: {reason(error)}") from error
    show(f"repacked {path}: {said[0]}; wrote {out} ({counted(size, 'byte')})")


def serve(args: argparse.Namespace) -> None:
    """Serve a folder of .egw files: whoever may edits a document together with all others at its URL."""

    def ready(url: str) -> None:
        who = "who knows the token" if args.token else "anyone" if args.open else "this machine only"
        show(f"serving {args.folder} at {url} for {who}; a document is at {url}NAME, Ctrl-C ends")
        if args.token:
            show(f"in a browser: {url}?token={quote(args.token, safe='')}")
        sys.stdout.flush()

    logging.basicConfig(
        format="%(asctime)s %(message)s", level=logging.INFO if args.verbose else logging.WARNING
    )
    online("serve", args.folder, args, ready)
    say(f"stored all documents in {args.folder}")


def edit(args: argparse.Namespace) -> None:
    """Edit a text together with all others who do, in this terminal: a server's, or an .egw file."""
    target = args.document
    if importlib.util.find_spec("prompt_toolkit") is None:
        raise FailureError("`edit` needs another package: pip install 'egwalker[edit]'")
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise FailureError(f"cannot edit {target}: that takes a terminal")
    for path in (target, args.keep):
        if isinstance(path, Path) and path.suffix != ".egw":
            raise FailureError(
                f"cannot edit {path}: that takes an .egw file, "
                f"and `egwalker import {path} NAME.egw` makes one"
            )
    if args.keep and isinstance(target, Path):
        raise FailureError(f"cannot keep {target} in {args.keep}: it is a file already")
    module = importlib.import_module("egwalker.cli_edit")
    try:
        became = module.edit(target, args.name or module.default_name(), args.token, args.keep)
    except (OSError, EgwalkerError) as error:
        raise FailureError(f"cannot edit {target}: {said_by(target, error, '`--token` or ')}") from error
    say(f"{target}: {became}")


def plugins(args: argparse.Namespace) -> None:
    """List the plugins, where each comes from, and what it provides."""
    try:
        found = list(provided())
    except EgwalkerError as error:
        raise FailureError(reason(error)) from error
    for plugin in found:
        show(
            json.dumps(plugin._asdict())
            if args.json
            else f"{plugin.name}  {plugin.source}  {plugin.provides}"
        )
    say(counted(len(found), "plugin"))
