"""Histories as JSON, the form that keeps everything.

    {"kind": "text", "id": str, "endContent": str or list,
     "txns": [{"agent": str, "seqStart": int, "span": [start, end], "parents": [int, ...],
               "ops": [[pos, deleted, inserted], ...]}, ...]}

An event's number is its index in the file; `span` are those of a txn's events (half-open), `parents` those of
its first event's parents, each further event has its predecessor as only parent. `kind` may be missing: it is
a text then. `id`, 32 hexadecimal digits, may be missing: it comes from the first event then.

Recorded traces, which have lost some of that, are read too: see `egwalker.traces`.
"""

import gzip
import io
import json
import zlib
from bisect import bisect_right
from typing import Any, NamedTuple, NoReturn

from egwalker.cycore.errors import ContentError, DecodeError, EgwalkerError, LimitError
from egwalker.cycore.oplog import OpLog
from egwalker.document import Document
from egwalker.identity import derived_id
from egwalker.kinds import Kind
from egwalker.plugin_manager import document_type
from egwalker.replica import Replica
from egwalker.traces import is_trace, read_trace
from egwalker.txns import Progress, TxnReader
from egwalker.types import DEFAULT_KIND
from egwalker.versions import check_agent, check_id

MAX_BYTES = 256 << 20
"""No more JSON than this is read or written, so that a small compressed file cannot fill the memory."""


class Loaded(NamedTuple):
    """A document that was read.

    `text_matches`: whether its content is what the file says, None where it says nothing. False only for a
    trace that says another text of the same length: agents' names break ties, and a trace has lost them.
    `closed`: False for an `.egw` file as a crash leaves it, or somebody who edits it.
    """

    document: Document
    text_matches: bool | None
    closed: bool = True


def no_progress(what: str, done: int, total: int) -> None:
    """Tells nobody."""


def dumps(document: Document) -> bytes:
    """The whole history of a document as JSON, one txn a line.

    Raises `LimitError` beyond `MAX_BYTES`, `ContentError` for content that is no JSON.
    """
    out = io.BytesIO()
    with document._lock:
        log, unpack = document._replica.whole(), document._type.unpack
        document._replica.check_kept()
        about = {"kind": document.kind, "id": document.id, "endContent": document.content}
        out.write(to_json(about)[:-1] + b',"txns":[')
        for run in log.graph.runs():
            txn = {
                "agent": run.agent,
                "seqStart": run.seq,
                "span": [run.start, run.end],
                "parents": run.parents,
                "ops": [(pos, n, unpack(content)) for pos, n, content in log.edits(run.start, run.end)],
            }
            out.write((b",\n" if run.start else b"\n") + to_json(txn))
            if out.tell() > MAX_BYTES:
                raise LimitError(f"it has more than {MAX_BYTES >> 20} MiB as JSON, which is not read back")
    out.write(b"\n]}\n")
    return out.getvalue()


def dumps_gzip(document: Document) -> bytes:
    """The same, compressed. The same history gives the same bytes at any time."""
    return gzip.compress(dumps(document), mtime=0)


def to_json(value: Any) -> bytes:
    """Compact JSON. `ContentError` for what is none, which only the types of other packages let in."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise ContentError(f"the content is not JSON: {error}") from None


def loads(data: bytes, agent: str | None = None, progress: Progress = no_progress) -> Loaded:
    """The document, to be edited by `agent`, of a history or a trace, compressed by gzip or not.

    Raises `DecodeError`, which names the txn and the field that are wrong, and `KindError` for a kind that no
    plugin provides. What a file says twice is compared: spans, and the content that its txns make.
    """
    progress("reading", 0, 0)
    history = parse(data)
    txns = history.get("txns")
    if not isinstance(txns, list):
        raise DecodeError('this is no history: it has no list "txns"')
    lossy = is_trace(history)
    kind = DEFAULT_KIND if lossy else history.get("kind", DEFAULT_KIND)
    if not isinstance(kind, str):
        raise DecodeError(f"kind: should be a str, not {kind!r:.80}")
    found = document_type(kind)
    log = OpLog(found.values)
    reader = TxnReader(txns, found, log, progress)
    if lossy:
        read_trace(history, reader)
    else:
        read_txns(reader)
    progress("replaying", len(log), len(log))
    main = found.checkout(log)
    try:
        main.merge()
    except EgwalkerError as error:
        txn = bisect_right(reader.starts, first_bad(found, log)) - 1
        raise DecodeError(f"txn {txn}: {'patches' if lossy else 'ops'}: {error}") from error
    document = Document._of(Replica(found, main), agent, read_id(history) or derived_id(kind, log))
    return Loaded(document, compare(document, history, may_differ=lossy))


def parse(data: bytes) -> dict[str, Any]:
    """The JSON object in `data`; `DecodeError` if there is none, or if it is larger than `MAX_BYTES`."""
    try:
        if data[:2] == b"\x1f\x8b":
            with gzip.open(io.BytesIO(data)) as stream:
                data = stream.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise DecodeError(f"this has more than {MAX_BYTES >> 20} MiB of JSON")
        found = json.loads(data, parse_constant=refuse_constant)
    except (OSError, EOFError, zlib.error) as error:
        raise DecodeError(f"the compressed data is damaged: {error}") from error
    except DecodeError:
        raise
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"this is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise DecodeError(f"a history is a JSON object, not a {type(found).__name__}")
    return found


def read_id(history: dict[str, Any]) -> str | None:
    """The document's id, if the history says one."""
    if "id" not in history:
        return None
    try:
        return check_id(history["id"])
    except EgwalkerError as error:
        raise DecodeError(f"id: {error}") from error


def refuse_constant(name: str) -> NoReturn:
    """`json` would read NaN and infinities, which are no JSON."""
    raise DecodeError(f"this is no JSON: {name}")


def read_txns(reader: TxnReader) -> None:
    """Put all txns of a history into the reader's log. `DecodeError` names the txn and the field."""
    log = reader.log
    for txn in reader:
        start = len(log)
        try:
            agent = check_agent(txn.get("agent"))
        except EgwalkerError as error:
            reader.fail("agent", error)
        seq = reader.integer("seqStart")
        parents = log.graph.ids(reader.integers("parents", start))
        ops = reader.ops("ops")
        added = reader.add(agent, seq, parents, "ops", ops)
        length = sum([deleted + len(inserted) for _, deleted, inserted in ops])
        if added < length:
            reader.fail("seqStart", f"events of {agent} from {seq} on are in an earlier txn, too")
        if txn.get("span") != [start, start + length]:
            reader.fail(
                "span", f"should be [{start}, {start + length}] by the ops, not {txn.get('span')!r:.80}"
            )


def first_bad(kind: Kind, log: OpLog) -> int:
    """The first local version at which a replay fails. By bisection: it is on the way to an error only."""
    works, fails = 0, len(log)  # how many events a replay does and does not work with
    while fails - works > 1:
        middle = (works + fails) // 2
        part = log.copy()
        part.truncate(middle)
        try:
            kind.checkout(part).merge()
        except EgwalkerError:
            fails = middle
        else:
            works = middle
    return works


def compare(document: Document, history: dict[str, Any], may_differ: bool) -> bool | None:
    """Whether the content is the one at `endContent`. `DecodeError` if it is not and nothing explains it."""
    if "endContent" not in history:
        return None
    if not document._type.positions:
        if document.content == history["endContent"]:
            return True
        raise DecodeError("endContent: differs from what the operations make")
    try:
        wanted = document._type.pack(history["endContent"])
    except EgwalkerError as error:
        raise DecodeError(f"endContent: {error}") from error
    found = document._replica.sequence().content()
    if wanted == found:
        return True
    if len(wanted) != len(found):
        raise DecodeError(f"endContent: has {len(wanted)} elements, but the txns make {len(found)}")
    if may_differ:
        return False
    at = next(i for i in range(len(found)) if wanted[i] != found[i])
    raise DecodeError(f"endContent: differs from what the txns make from element {at} on")
