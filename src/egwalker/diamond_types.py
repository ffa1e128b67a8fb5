"""Diamond Types' binary files (`.dt`, magic `DMNDTYPS`, protocol version 0).

After magic and version a file is chunks, each `type, length, payload`. Numbers are LEB128 varints; signed
ones have their sign in the lowest bit, above it the magnitude.

    5    what later chunks of content take their bytes from, in turn: its length, then an LZ4 block
    1    about the file: 2 document's id (optional), 3 agents' names, 4 user data (optional)
    10   where it starts: 12 version, 13 or 14 content; empty if the file holds the whole history
    11   where it ends, likewise (optional)
    20   the events: 24 what was inserted and, perhaps, what was deleted (13 or 14 content, 25 which of it is
         known), 21 who made them, 22 operations, 23 parents
    100  CRC-32C of all before it

The events are columns over one order, each run-length encoded with boundaries of its own:

    21   agent * 2 + jumps, length, [how far the seq jumps from the agent's last]; agents count from 1
    22   flags from the lowest bit on: long, moved, deletes, and of what is long and deletes, forwards; above
         them the length if it is long, and the move of the cursor follows, or else the move. It leaves the
         cursor behind what it inserts, or where it deletes; backwards it deletes what is before the cursor
    23   length, then parents: (number * 2 + more) * 2 + foreign, where the number counts events back, or is
         that of an agent, followed by the seq; agent 0 stands for no parents

Chunks of unknown types are skipped. Diamond Types counts positions in code points, as we do.
"""

from collections.abc import Iterable, Mapping

from egwalker.cycore.checkout import Checkout
from egwalker.cycore.errors import EgwalkerError, IdentityError, KindError
from egwalker.cycore.oplog import OpLog
from egwalker.document import Document
from egwalker.dt_reader import MAX_ERASED, MAX_ERASED_RUNS, Reader, compare, fail
from egwalker.dt_writer import Writer
from egwalker.identity import derived_id, digest
from egwalker.json_history import Loaded, first_bad, no_progress
from egwalker.plugin_manager import document_type
from egwalker.replica import Replica
from egwalker.txns import STRIDE, Progress
from egwalker.types import DEFAULT_KIND
from egwalker.versions import Run, check_id, format_version, ranges_since


def loads(data: bytes, agent: str | None = None, progress: Progress = no_progress) -> Loaded:
    """The document, to be edited by `agent`, of a file that holds a whole history.

    The document's id is the one that is stored, if it can be one, and else derived. Raises `DecodeError`,
    which says what is wrong and at which byte, also for files that hold only the events after some version
    (see `runs`), that leave out what was inserted, or that unpack to far more than their length.
    """
    progress("reading", 0, 0)
    reader = Reader(data)
    if reader.start.version:
        fail(
            reader.start.at,
            f"the file starts at version {format_version(reader.start.version)}"
            " and must be merged into a document that holds it",
        )
    if reader.start.content is not None and reader.start.content.end > reader.start.content.start:
        fail(reader.start.at, "the file starts with a text that no event in it has made")
    found = document_type(DEFAULT_KIND)
    log = OpLog(found.values)
    add = log.add
    for number, (name, seq, parents, ops, length) in enumerate(reader.rows(MAX_ERASED)):
        if not number % STRIDE:
            progress("reading", len(log), reader.length)
        try:
            added = add(name, seq, parents, ops)
        except EgwalkerError as error:
            fail(reader.offset_of_agent(len(log)), f"the events of {name!r} from {seq} on: {error}")
        if added < length:
            fail(reader.offset_of_agent(len(log)), f"events of {name!r} from {seq} on are in it twice")
    progress("replaying", len(log), len(log))
    main = Checkout(log)
    try:
        main.merge()
    except EgwalkerError as error:
        fail(reader.offset_of_op(first_bad(found, log)), str(error))
    matches = compare(reader, log, main)
    return Loaded(Document._of(Replica(found, main), agent, identity(reader.doc_id, log)), matches)


def identity(stored: str | None, log: OpLog) -> str | None:
    """The document's id. Other programs name documents as they like: an id comes from that name then."""
    if stored is None:
        return derived_id(DEFAULT_KIND, log)
    try:
        return check_id(stored)
    except IdentityError:
        return digest("diamond types", stored)


def runs(data: bytes) -> list[Run]:
    """The events of a file for `Document.receive`, parents before children, of a whole history or a part.

    Raises `DecodeError`.
    """
    return [
        Run(name, seq, parents, tuple(ops))
        for name, seq, parents, ops, _ in Reader(data).rows(MAX_ERASED_RUNS)
    ]


def doc_id(data: bytes) -> str | None:
    """The id of the document, if the file stores one. Raises `DecodeError`."""
    return Reader(data).doc_id


def dumps(document: Document, since: Mapping[str, Iterable[tuple[int, int]]] | None = None) -> bytes:
    """The whole history of a document as Diamond Types keeps it, or what a version vector lacks of it.

    O(runs + content). Raises `KindError` if the document does not hold text, `ContentError` if it has not
    kept what was deleted, `AgentError` for names that Diamond Types cannot read.
    """
    if document.kind != DEFAULT_KIND:
        raise KindError(f"Diamond Types keeps text, not documents of kind {document.kind!r}")
    with document._lock:
        log = document._replica.whole()
        document._replica.check_kept()
        ranges = [(0, len(log))] if since is None else ranges_since(log.graph, since)
        return Writer(log, ranges, document.id).encode()
