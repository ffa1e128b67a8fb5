/** Documents and updates as bytes: chunks and checksums around columns (docs/format.md). Columns are not compressed here. */

import { Reader, Writer, crc32c, fromHex, fromUtf8, toHex, toUtf8 } from "./bytes.js";
import { COLUMNS, Table, memoryOf, readColumns, readRun, writeColumns, writeRun } from "./columns.js";
import { DecodeError, IdentityError, KindError } from "./errors.js";
import { MAX_SEQ, compareIds } from "./graph.js";

/** @typedef {import("./graph.js").Id} Id */
/** @typedef {import("./graph.js").Range} Range */
/** @typedef {import("./graph.js").Vector} Vector */
/** @typedef {import("./document.js").Run} Run */
/** @typedef {import("./document.js").TextDocument} TextDocument */
/** @typedef {{vector: Vector, heads: Id[], content: string}} Start A version by its events, and the text there. */
/** @typedef {{kind: number, payload: Uint8Array}} Chunk */

const MAGIC = 0xe7;
const DUMP = 0xe8;
const VERSION = 1;
const PART_OF_ID = 1;
const WHOLE_ID = 2;

const SUMMARY = 1;
const CONTENT = 2;
const HISTORY = 3;
const RUN = 4;
const PADDING = 0x40 | 63;
const NAMES = ["", "SUMMARY", "CONTENT", "HISTORY", "RUN"];

const LAST = 0x80;
const OPTIONAL = 0x40;
const TYPE = 0x3f;

/** What data may take in memory when it is read: this much, and this much for each of its bytes. */
const MEMORY = 48 << 20;
const MEMORY_PER_BYTE = 24;
const CONTENT_FACTOR = 10;
const SUMMARY_FACTOR = 80;

/** @param {number} need @param {number} size */
function refuseBeyond(need, size) {
  if (need > MEMORY + MEMORY_PER_BYTE * size) {
    throw new DecodeError(`this would take ${Math.round(need / 2 ** 20)} MiB, too much for its ${size} bytes`);
  }
}

// --- chunks

/** @param {Writer} out @param {Uint8Array} head @param {number} kind @param {Uint8Array} payload */
function addChunk(out, head, kind, payload) {
  out.byte(kind);
  if (!(kind & LAST)) out.number(payload.length);
  out.bytes(payload).fixed(crc32c(head, Uint8Array.of(kind), payload));
}

/** The chunks after the first `at` bytes, which are checked when they are of a known kind or required. @param {Uint8Array} data @param {number} at @param {Uint8Array} head @returns {Chunk[]} */
function findChunks(data, at, head) {
  /** @type {Chunk[]} */
  const found = [];
  const reader = new Reader(data, "this");
  reader.at = at;
  for (let last = 0; !last; ) {
    const start = reader.at;
    if (!reader.left) throw reader.fault("ends before its last chunk");
    const kind = reader.byte();
    last = kind & LAST;
    const length = last ? reader.left - 4 : reader.number();
    if (length < 0 || length > reader.left - 4) throw reader.fault(`has a chunk of ${length} bytes, ${reader.left} are left`);
    const payload = reader.take(length);
    const sum = reader.fixed();
    if (crc32c(head, Uint8Array.of(kind), payload) !== sum) {
      throw new DecodeError(`byte ${start}: the chunk of ${length} bytes is damaged: it does not fit its checksum`);
    }
    const number = kind & TYPE;
    if (number < 1 || number > RUN) {
      if (kind & OPTIONAL) continue;
      throw new DecodeError(`byte ${start}: chunk ${number} is required, but not known here`);
    }
    if (found.length && found[found.length - 1].kind >= number) throw new DecodeError(`byte ${start}: chunk ${NAMES[number]} is there twice, or out of order`);
    found.push({ kind: number, payload });
  }
  return found;
}

/** The header of a blob and its chunks. @param {Uint8Array} data */
function parse(data) {
  if (!(data instanceof Uint8Array)) throw new DecodeError("this is no Uint8Array");
  if (data[0] !== MAGIC) throw new DecodeError("this is no encoded document: it begins with another byte");
  if (data.length < 2) throw new DecodeError("this ends within its header");
  const version = data[1] & 15;
  const form = data[1] >> 4;
  if (version !== VERSION) throw new DecodeError(`this is of version ${version} of the format; version ${VERSION} can be read`);
  if (form !== PART_OF_ID && form !== WHOLE_ID) throw new DecodeError(`this has an id in the unknown form ${form}`);
  const at = 2 + (form === WHOLE_ID ? 16 : 4);
  if (data.length < at) throw new DecodeError("this ends within its header");
  const head = data.subarray(0, at);
  const chunks = findChunks(data, at, head);
  return { form, id: toHex(head.subarray(2)), chunks, kinds: chunks.map((chunk) => NAMES[chunk.kind]).join(" ") };
}

/** A column of a chunk that has only one, or the next one of a HISTORY. @param {number} method @param {number} length @param {Reader} reader */
function column(method, length, reader) {
  if (method > 3) throw reader.fault(`has a column compressed by the unknown method ${method}`);
  if (method) throw reader.fault("has a compressed column: this reader reads uncompressed ones, and says so by the flag PLAIN");
  return reader.take(length);
}

/** @param {Uint8Array} payload @param {string[]} known @param {number} size @returns {{runs: Run[], names: string[]}} */
function readHistory(payload, known, size) {
  const reader = new Reader(payload, "chunk HISTORY");
  const columns = COLUMNS.map(() => {
    const x = reader.number();
    return column(x % 4, Math.floor(x / 4), reader);
  });
  reader.end();
  refuseBeyond(CONTENT_FACTOR * columns[0].length, size);
  const names = new Reader(columns[0], "column agents").names();
  refuseBeyond(memoryOf(columns, names.length), size);
  return { runs: readColumns(columns, [...known, ...names]), names };
}

// --- versions

/** @param {Writer} out @param {Range[]} ranges */
export function writeRanges(out, ranges) {
  out.number(ranges.length);
  let at = 0;
  for (const [start, end] of ranges) {
    out.number(start - at).number(end - start);
    at = end;
  }
}

/** @param {Reader} reader @param {string} agent @returns {Range[]} */
export function readRanges(reader, agent) {
  /** @type {Range[]} */
  const ranges = [];
  let at = 0;
  for (let left = reader.number(); left; left--) {
    const start = at + reader.number();
    at = start + reader.number();
    if (at === start || (ranges.length && start === ranges[ranges.length - 1][1]) || at > MAX_SEQ) {
      throw reader.fault(`has ${start}:${at}, no range of seqs, or not apart from the last one`);
    }
    ranges.push([start, at]);
  }
  if (!ranges.length) throw reader.fault(`has agent ${JSON.stringify(agent)} without events`);
  return ranges;
}

/** Names after the length of all of them. @param {Reader} reader */
export function readNames(reader) {
  const names = new Reader(reader.take(reader.number()), reader.what).names();
  if (new Set(names).size < names.length) throw reader.fault("names an agent twice");
  return names;
}

/** @param {Writer} out @param {Iterable<string>} names */
export function writeNames(out, names) {
  const inner = new Writer();
  for (const name of names) inner.name(name);
  out.sized(inner.taken());
}

/** @param {Vector} vector @param {Id[]} heads @param {string[]} [agents] In the order that they are to have. */
function writeSummary(vector, heads, agents = [...vector.keys()]) {
  const out = new Writer();
  let events = 0;
  for (const ranges of vector.values()) for (const [start, end] of ranges) events += end - start;
  out.number(events);
  writeNames(out, agents);
  for (const agent of agents) writeRanges(out, /** @type {Range[]} */ (vector.get(agent)));
  const numbers = new Map(agents.map((agent, i) => [agent, i]));
  for (const [agent, seq] of heads) out.number(/** @type {number} */ (numbers.get(agent))).number(seq);
  return new Writer().sized(toUtf8("text")).byte(0).bytes(out.taken()).taken();
}

/** @param {Uint8Array} payload @param {number} size @returns {{vector: Vector, heads: Id[], agents: string[]}} */
function readSummary(payload, size) {
  const outer = new Reader(payload, "chunk SUMMARY");
  const kind = fromUtf8(outer.take(outer.number()), "the kind");
  if (kind !== "text") throw new KindError(`this is a document of kind ${JSON.stringify(kind)}, not a text`);
  const method = outer.byte();
  if (method) outer.number();
  const data = column(method, outer.left, outer);
  refuseBeyond(SUMMARY_FACTOR * data.length, size);
  const reader = new Reader(data, "chunk SUMMARY");
  const events = reader.number();
  const agents = readNames(reader);
  /** @type {Vector} */
  const vector = new Map();
  let total = 0;
  for (const agent of agents) {
    const ranges = readRanges(reader, agent);
    vector.set(agent, ranges);
    for (const [start, end] of ranges) total += end - start;
  }
  /** @type {Id[]} */
  const heads = [];
  while (reader.left) {
    const agent = agents[reader.number()];
    const seq = reader.number();
    if (agent === undefined || !vector.get(agent)?.some(([start, end]) => start <= seq && seq < end)) throw reader.fault(`has a head, ${seq}, that is not held`);
    /** @type {Id} */
    const head = [agent, seq];
    if (heads.length && compareIds(heads[heads.length - 1], head) >= 0) throw reader.fault("has heads that are not ascending");
    heads.push(head);
  }
  if (Boolean(heads.length) !== Boolean(events) || total !== events) throw reader.fault(`does not have ${events} events with heads`);
  return { vector, heads, agents };
}

/** @param {string} content */
function writeContent(content) {
  return new Writer().byte(0).bytes(toUtf8(content)).taken();
}

/** @param {Uint8Array} payload */
function readContent(payload) {
  const reader = new Reader(payload, "chunk CONTENT");
  const method = reader.byte();
  if (method) reader.number();
  return fromUtf8(column(method, reader.left, reader), "the content");
}

// --- updates

/** @param {number} form @param {string} id */
function header(form, id) {
  const bytes = fromHex(id);
  return new Writer().byte(MAGIC).byte(VERSION | (form << 4)).bytes(form === WHOLE_ID ? bytes : bytes.subarray(0, 4)).taken();
}

/** Chunks, and padding before them if whoever reads them would not believe that they need so much memory. @param {Uint8Array} head @param {boolean} shown @param {number} need @param {[number, Uint8Array][]} chunks */
function blob(head, shown, need, chunks) {
  const build = (/** @type {number} */ padding) => {
    const out = new Writer();
    if (shown) out.bytes(head);
    if (padding) addChunk(out, head, PADDING, new Uint8Array(padding));
    for (const [kind, payload] of chunks) addChunk(out, head, kind, payload);
    return out.taken();
  };
  const data = build(0);
  const missing = need - MEMORY - MEMORY_PER_BYTE * data.length;
  return missing > 0 ? build(Math.ceil(missing / MEMORY_PER_BYTE) + 1) : data;
}

/** @param {Uint8Array[]} columns */
function history(columns) {
  const out = new Writer();
  for (const data of columns) out.number(4 * data.length).bytes(data);
  return out.taken();
}

/**
 * The events in ascending ranges of local versions. With a table: over a link, whose direction it belongs to.
 * @param {TextDocument} document @param {Range[]} ranges @param {Table | null} [table] @param {boolean} [runs] Whether it may be a RUN.
 */
export function writeUpdate(document, ranges, table = null, runs = true) {
  const known = table ?? new Table();
  const head = table ? fromHex(document.id) : header(PART_OF_ID, document.id);
  const run = runs && ranges.length === 1 ? writeRun(document._graph, document._log, ranges[0], known) : null;
  if (run) return blob(head, !table, 0, [[RUN | LAST, run]]);
  const { columns, names } = writeColumns(document._graph, document._log, ranges, known.names);
  known.add(names);
  return blob(head, !table, memoryOf(columns, names.length), [[HISTORY | LAST, history(columns)]]);
}

/** @param {Chunk[]} chunks @param {Table} table @param {number} size @returns {Run[]} */
function readRuns([chunk], table, size) {
  if (chunk.kind === RUN) return [readRun(chunk.payload, table)];
  const { runs, names } = readHistory(chunk.payload, table.names, size);
  table.add(names);
  return runs;
}

/** @param {Uint8Array} data @param {string} id @returns {Run[]} */
export function readUpdate(data, id) {
  const found = parse(data);
  if (found.form !== PART_OF_ID || (found.kinds !== "RUN" && found.kinds !== "HISTORY")) throw new DecodeError("this is no update");
  if (!id.startsWith(found.id)) throw new IdentityError(`this is an update to a document ${found.id}..., not to ${id}`);
  return readRuns(found.chunks, new Table(), data.length);
}

/** The same from over a link. @param {Uint8Array} data @param {string} id @param {Table} table @returns {Run[]} */
export function readLinked(data, id, table) {
  const chunks = findChunks(data, 0, fromHex(id));
  if (chunks.length !== 1 || chunks[0].kind < HISTORY) throw new DecodeError("this is no update over a link");
  return readRuns(chunks, table, data.length);
}

// --- documents

/** @param {TextDocument} document */
export function writeDocument(document) {
  const graph = document._graph;
  const agents = [...new Set(graph.agent)].map((number) => graph.names[number]);
  const { columns } = writeColumns(graph, document._log, graph.n ? [[0, graph.n]] : [], agents);
  const summary = writeSummary(graph.vector(), graph.version(), agents);
  return blob(header(WHOLE_ID, document.id), true, Math.max(memoryOf(columns, 0), SUMMARY_FACTOR * summary.length), [
    [SUMMARY, summary],
    [CONTENT, writeContent(document.text)],
    [HISTORY | LAST, history(columns)],
  ]);
}

/** @param {Uint8Array} data */
export function readDocument(data) {
  const { id, chunks, kinds, form } = parse(data);
  if ((kinds !== "SUMMARY HISTORY" && kinds !== "SUMMARY CONTENT HISTORY") || form !== WHOLE_ID) throw new DecodeError("this is no whole document");
  const summary = readSummary(chunks[0].payload, data.length);
  const content = chunks.length > 2 ? readContent(chunks[1].payload) : null;
  const { runs } = readHistory(chunks[chunks.length - 1].payload, summary.agents, data.length);
  return { id, start: { ...summary, content }, runs };
}

/** `DecodeError` unless a document that was read is what its summary says. @param {TextDocument} document @param {{vector: Vector, heads: Id[], content: string | null}} start */
export function verify(document, { vector, heads, content }) {
  const found = document._graph.vector();
  const same = found.size === vector.size && [...vector].every(([name, ranges]) => String(ranges) === String(found.get(name)));
  if (document.pending || !same || String(document.version) !== String(heads)) throw new DecodeError("the history does not have the events that the summary says");
  if (content !== null && content !== document.text) throw new DecodeError("the history makes another text than the content");
}

/** A document at a version without its history: START. @param {string} id @param {Start} start */
export function writeStart(id, { vector, heads, content }) {
  const summary = writeSummary(vector, heads);
  return blob(header(WHOLE_ID, id), true, SUMMARY_FACTOR * summary.length, [
    [SUMMARY, summary],
    [CONTENT | LAST, writeContent(content)],
  ]);
}

/** @param {Uint8Array} data @param {string} [id] The one that it must have. @returns {Start & {id: string}} */
export function readStart(data, id) {
  const found = parse(data);
  if (found.kinds !== "SUMMARY CONTENT" || found.form !== WHOLE_ID) throw new DecodeError("this is not a summary with content");
  if (id !== undefined && found.id !== id) throw new IdentityError(`this is of document ${found.id}, not of ${id}`);
  const { vector, heads } = readSummary(found.chunks[0].payload, data.length);
  return { id: found.id, vector, heads, content: readContent(found.chunks[1].payload) };
}

/**
 * What `TextDocument.dump` keeps: a byte, the version, flags (1: the id was given), the agent, the sizes of a START and of
 * an update with all events since, 0 if there are none, a checksum of this, and the two, which have their own.
 * @param {TextDocument} document
 */
export function writeDump(document) {
  const graph = document._graph;
  const start = writeStart(document.id, { vector: graph.baseVector(), heads: graph.baseHeads, content: document._baseText });
  const update = graph.n ? writeUpdate(document, [[0, graph.n]]) : new Uint8Array(0);
  const out = new Writer().byte(DUMP).byte(VERSION).byte(document._idGiven === "here" || !document.blank ? 1 : 0).name(document.agent);
  out.number(start.length).number(update.length);
  return out.fixed(crc32c(out.at.subarray(0, out.n))).bytes(start).bytes(update).taken();
}

/** @param {Uint8Array} data */
export function readDump(data) {
  if (!(data instanceof Uint8Array) || data[0] !== DUMP || data[1] !== VERSION) throw new DecodeError("this is no dumped document");
  const reader = new Reader(data, "a dumped document");
  reader.at = 2;
  const flags = reader.byte();
  const agent = reader.name();
  const sizes = [reader.number(), reader.number()];
  const sum = crc32c(data.subarray(0, reader.at));
  if (reader.fixed() !== sum) throw new DecodeError("the dumped document is damaged: it does not fit its checksum");
  const { id, ...start } = readStart(reader.take(sizes[0]));
  const runs = sizes[1] ? readUpdate(reader.take(sizes[1]), id) : [];
  reader.end();
  return { id, idGiven: Boolean(flags & 1), agent, start, runs };
}

