/** Histories as columns, and single runs (docs/format.md, HISTORY and RUN). */

import { Reader, Writer, countNumbers, fromUtf8, toUtf8 } from "./bytes.js";
import { DecodeError } from "./errors.js";
import { MAX_SEQ } from "./graph.js";
import { DELETE, ERASE, ERASED, MAX_LENGTH, OpLog, PREPEND, TYPE, countPoints, join, stepOf, unitsOf } from "./log.js";

/** @typedef {import("./graph.js").Graph} Graph */
/** @typedef {import("./graph.js").Id} Id */
/** @typedef {import("./graph.js").Range} Range */
/** @typedef {import("./document.js").Run} Run */

export const COLUMNS = ["agents", "ids", "lengths", "parents", "kinds", "positions", "content", "erased"];

/** Events of a RUN chunk, at most. */
const MAX_RUN = 256;

/** Codes of the column of parents: none, outside and the last one, outside; then inside. */
const ROOT = 0;
const OUTSIDE = 1;
const OUTSIDE_MORE = 2;
const INSIDE = 3;

/** What the reader of a stream of updates knows from those before: agents by number, and the seq after the last run of each. */
export class Table {
  constructor() {
    /** @type {string[]} */ this.names = [];
    /** @type {Map<string, number>} */ this.numbers = new Map();
    /** @type {number[]} */ this.expected = [];
  }

  /** @param {Iterable<string>} names */
  add(names) {
    for (const name of names) {
      this.numbers.set(name, this.names.length);
      this.names.push(name);
      this.expected.push(-1);
    }
  }
}

/** Where a row of operations leaves its agent. @param {number} kind @param {number} pos @param {number} length */
function endOf(kind, pos, length) {
  return kind === TYPE ? pos + length : kind === ERASE ? pos - length + 1 : pos;
}

// --- writing

/** The rows of the graph and of operations in some ascending ranges. */
class HistoryWriter {
  /** @param {Graph} graph @param {OpLog} log @param {Range[]} ranges @param {string[]} known */
  constructor(graph, log, ranges, known) {
    this.graph = graph;
    this.log = log;
    this.ranges = ranges;
    /** @type {string[]} */ this.names = [...known];
    this.known = known.length;
    this.numbers = new Map(known.map((name, i) => [name, i]));
    /** @type {number[]} By number: the seq after the last row, and where the last operation ended. */ this.expected = known.map(() => 0);
    this.cursor = known.map(() => 0);
    this.columns = Object.fromEntries(COLUMNS.map((name) => [name, new Writer()]));
    /** @type {string[]} */ this.content = [];
    // The row of operations that is being gathered.
    this.kind = this.pos = this.length = this.agent = 0;
    // How many elements in a row are there, or are not.
    this.same = 0;
    this.erasing = false;
  }

  /** @param {number} agent */
  number(agent) {
    const name = this.graph.names[agent];
    const found = this.numbers.get(name);
    if (found !== undefined) return found;
    this.numbers.set(name, this.names.length);
    this.names.push(name);
    this.expected.push(0);
    this.cursor.push(0);
    return this.names.length - 1;
  }

  /** Which of the events written a local version is, -1 if it is none. @param {number} lv @param {number[]} before */
  index(lv, before) {
    let lo = 0;
    let hi = this.ranges.length;
    while (lo < hi) {
      const mid = (lo + hi) >>> 1;
      if (this.ranges[mid][1] <= lv) lo = mid + 1;
      else hi = mid;
    }
    return lo < this.ranges.length && lv >= this.ranges[lo][0] ? before[lo] + (lv - this.ranges[lo][0]) : -1;
  }

  write() {
    const { graph, columns } = this;
    let written = 0;
    /** @type {number[]} */
    const before = [];
    for (const [start, end] of this.ranges) {
      before.push(written);
      written += end - start;
    }
    written = 0;
    for (let [lo, stop] of this.ranges) {
      for (let row = graph.find(lo); lo < stop; row++) {
        const hi = Math.min(graph.end(row), stop);
        const seq = graph.seq[row] + (lo - graph.lv[row]);
        const mine = this.number(graph.agent[row]);
        const jump = seq - this.expected[mine];
        columns.ids.number(2 * mine + (jump ? 1 : 0));
        if (jump) columns.ids.signed(jump);
        this.expected[mine] = seq + hi - lo;
        columns.lengths.number(hi - lo);
        const parents = lo > graph.lv[row] ? [lo - 1] : graph.parents[row];
        if (parents.length) this.parents(parents.map((lv) => (this.index(lv, before) >= 0 ? this.index(lv, before) : graph.id(lv))), written, mine, seq);
        else this.parents(graph.baseHeads, written, mine, seq);
        this.operations(lo, hi, mine);
        written += hi - lo;
        lo = hi;
      }
    }
    this.flush();
    if (columns.erased.n) columns.erased.number(this.same);
    columns.content.bytes(toUtf8(this.content.join("")));
    for (const name of this.names.slice(this.known)) columns.agents.name(name);
  }

  /** @param {(number | Id)[]} parents Events written, or ids. @param {number} written @param {number} mine @param {number} seq */
  parents(parents, written, mine, seq) {
    const out = this.columns.parents;
    if (!parents.length) out.number(ROOT);
    parents.forEach((parent, i) => {
      const more = i + 1 < parents.length;
      if (typeof parent === "number") {
        out.number(INSIDE + 2 * (written - parent - 1) + (more ? 1 : 0));
        return;
      }
      out.number(more ? OUTSIDE_MORE : OUTSIDE);
      const number = this.number(/** @type {number} */ (this.graph.index.get(parent[0])));
      if (number === mine && parent[1] === seq - 1) out.number(0);
      else out.number(number + 1).number(parent[1]);
    });
  }

  /** @param {number} start @param {number} end @param {number} agent */
  operations(start, end, agent) {
    for (const { kind, pos, length, row, offset } of this.log.ops(start, end)) {
      this.gather(kind, pos, length, agent);
      if (kind < DELETE) this.insert(this.log.text(row, offset, length));
    }
  }

  /** Add operations to the row, as if they came one by one: rows do not depend on how a log came to be. @param {number} kind @param {number} pos @param {number} length @param {number} agent */
  gather(kind, pos, length, agent) {
    while (length) {
      let some = length;
      let joined = this.length ? join(this.kind, this.pos, this.length, kind, pos, some) : -1;
      if (joined < 0 && this.length && length > 1) {
        some = 1;
        joined = join(this.kind, this.pos, this.length, kind, pos, some);
      }
      if (joined < 0) {
        some = length;
        this.flush();
        this.kind = length > 1 ? kind : kind < DELETE ? TYPE : DELETE;
        this.pos = pos;
        this.agent = agent;
      } else this.kind = joined;
      this.length += some;
      pos += stepOf(kind) * some;
      length -= some;
    }
  }

  flush() {
    if (this.length) {
      this.columns.kinds.number(4 * this.length + this.kind);
      this.columns.positions.signed(this.pos - this.cursor[this.agent]);
      this.cursor[this.agent] = endOf(this.kind, this.pos, this.length);
    }
    this.length = 0;
  }

  /** @param {string} text */
  insert(text) {
    if (!this.log.erased) {
      this.content.push(text);
      return;
    }
    for (const part of text.split(/(\udfff+)/u)) {
      if (!part) continue;
      const gone = part[0] === ERASED;
      if (gone !== this.erasing) {
        this.columns.erased.number(this.same);
        this.erasing = gone;
        this.same = 0;
      }
      this.same += countPoints(part);
      if (!gone) this.content.push(part);
    }
  }
}

/**
 * The columns of the events in ascending ranges of local versions, in the order of `COLUMNS`, and the names in the
 * first one. `known`: agents that the reader knows, by number.
 * @param {Graph} graph @param {OpLog} log @param {Range[]} ranges @param {string[]} known
 * @returns {{columns: Uint8Array[], names: string[]}}
 */
export function writeColumns(graph, log, ranges, known) {
  const writer = new HistoryWriter(graph, log, ranges, known);
  writer.write();
  return { columns: COLUMNS.map((name) => writer.columns[name].taken()), names: writer.names.slice(writer.known) };
}

/**
 * The payload of a RUN chunk; null unless the events are one row of the graph and of operations.
 * @param {Graph} graph @param {OpLog} log @param {Range} range @param {Table} table
 */
export function writeRun(graph, log, [start, end], table) {
  const length = end - start;
  const row = graph.find(start);
  const op = log.find(start);
  if (length > MAX_RUN || graph.end(row) < end || log.end(op) < end || log.erased) return null;
  const out = new Writer();
  const seq = graph.seq[row] + (start - graph.lv[row]);
  const name = graph.names[graph.agent[row]];
  let number = table.numbers.get(name);
  if (number === undefined) {
    out.number(0).name(name).number(seq);
    table.add([name]);
    number = table.names.length - 1;
  } else if (table.expected[number] === seq) out.number(1 + 2 * number);
  else out.number(2 + 2 * number).number(seq);
  table.expected[number] = seq + length;
  const parents = start > graph.lv[row] ? [graph.id(start - 1)] : graph.parents[row].length ? graph.parents[row].map((lv) => graph.id(lv)) : graph.baseHeads;
  if (parents.length === 1 && parents[0][0] === name && parents[0][1] === seq - 1) out.number(0);
  else {
    out.number(1 + parents.length);
    for (const [other, at] of parents) {
      const known = table.numbers.get(other);
      if (other === name && at === seq - 1) out.number(0);
      else if (known === undefined) {
        out.number(1).name(other).number(at);
        table.add([other]);
      } else out.number(2 + known).number(at);
    }
  }
  const kind = length > 1 ? log.kind[op] : log.kind[op] < DELETE ? TYPE : DELETE;
  const offset = start - log.lv[op];
  out.number(4 * length + kind).number(log.pos[op] + stepOf(log.kind[op]) * offset);
  if (kind < DELETE) out.bytes(toUtf8(log.text(op, offset, length)));
  return out.taken();
}

// --- reading

/** How many bytes columns may take in memory, whatever they say: to be asked before they are read. @param {Uint8Array[]} columns @param {number} names */
export function memoryOf([, , lengths, parents, kinds, , content, erased], names) {
  let backwards = 0;
  const ops = new Reader(kinds, "column kinds");
  while (ops.left) {
    const x = ops.number();
    if (x % 4 === PREPEND) backwards += Math.floor(x / 4);
  }
  let gone = 0;
  const parts = new Reader(erased, "column erased");
  while (parts.left) {
    parts.number();
    if (parts.left) gone += parts.number();
  }
  return (
    countNumbers(lengths) * 104 + countNumbers(parents) * 16 + countNumbers(kinds) * 24 + content.length * 10 + gone * 16 +
    names * 300 + backwards * 240
  );
}

/**
 * The runs in some columns. `names`: those known before, and those of the first column. `DecodeError`, and memory is
 * taken for what is in the bytes, never for what they say will be.
 * @param {Uint8Array[]} columns @param {string[]} names @returns {Run[]}
 */
export function readColumns(columns, names) {
  if (new Set(names).size < names.length) throw new DecodeError("column agents names an agent twice");
  const [, ids, lengths, parents, kinds, positions, content, erased] = columns.map((data, i) => new Reader(data, `column ${COLUMNS[i]}`));
  const log = new OpLog();
  /** @type {Run[]} */
  const runs = [];
  /** @type {number[]} */
  const starts = [];
  const expected = names.map(() => 0);
  /** @type {number[]} */
  const agents = [];
  let n = 0;
  const idOf = (/** @type {number} */ index) => {
    let lo = 0;
    let hi = starts.length;
    while (hi - lo > 1) {
      const mid = (lo + hi) >>> 1;
      if (starts[mid] <= index) lo = mid;
      else hi = mid;
    }
    return /** @type {Id} */ ([runs[lo].agent, runs[lo].seq + (index - starts[lo])]);
  };
  while (lengths.left) {
    const length = lengths.number();
    if (!length || length > MAX_SEQ - n) throw lengths.fault(`has a row of ${length} events`);
    const x = ids.number();
    const agent = Math.floor(x / 2);
    if (agent >= names.length) throw ids.fault(`names agent ${agent} of ${names.length}`);
    const seq = expected[agent] + (x % 2 ? ids.signed() : 0);
    if (!(seq >= 0 && seq <= MAX_SEQ - length)) throw ids.fault(`has seq ${seq}`);
    expected[agent] = seq + length;
    /** @type {Id[]} */
    const found = [];
    for (;;) {
      const code = parents.number();
      if (code === ROOT) {
        if (found.length) throw parents.fault("has a root among several parents");
        break;
      }
      if (code < INSIDE) {
        const other = parents.number();
        if (other > names.length) throw parents.fault(`names agent ${other - 1} of ${names.length}`);
        const at = other ? parents.number() : seq - 1;
        if (at < 0 || at > MAX_SEQ) throw parents.fault(`has seq ${at}`);
        found.push([names[other ? other - 1 : agent], at]);
        if (code === OUTSIDE) break;
        continue;
      }
      const distance = Math.floor((code - INSIDE) / 2) + 1;
      if (distance > n) throw parents.fault(`has a parent ${distance} events before event ${n}`);
      found.push(idOf(n - distance));
      if ((code - INSIDE) % 2 === 0) break;
    }
    const name = names[agent];
    if (found.some(([other, at]) => other === name && at >= seq && at < seq + length)) {
      throw parents.fault(`gives event ${name}:${seq} a parent that was made after it`);
    }
    starts.push(n);
    agents.push(agent);
    runs.push({ agent: name, seq, parents: found, log, start: n, length });
    n += length;
  }
  ids.end();
  parents.end();
  readOperations(log, n, starts, agents, names.length, { kinds, positions, content, erased });
  return runs;
}

/**
 * @param {OpLog} log @param {number} events @param {number[]} starts @param {number[]} agents @param {number} names
 * @param {{kinds: Reader, positions: Reader, content: Reader, erased: Reader}} columns
 */
function readOperations(log, events, starts, agents, names, { kinds, positions, content, erased }) {
  const cursor = new Array(names).fill(0);
  /** @type {[number, number, number][]} */
  const rows = [];
  let n = 0;
  let inserted = 0;
  for (let row = 0; kinds.left; ) {
    const x = kinds.number();
    const kind = x % 4;
    const length = Math.floor(x / 4);
    if (!length || length > events - n) throw kinds.fault(`has ${length} operations, ${events - n} events are left`);
    while (row + 1 < starts.length && starts[row + 1] <= n) row++;
    const pos = cursor[agents[row]] + positions.signed();
    if (!(pos >= 0 && pos <= MAX_LENGTH) || length > MAX_LENGTH || (kind === ERASE && pos < length - 1)) {
      throw positions.fault(`has ${length} operations at ${pos}`);
    }
    cursor[agents[row]] = endOf(kind, pos, length);
    rows.push([kind, pos, length]);
    n += length;
    if (kind < DELETE) inserted += length;
  }
  positions.end();
  if (n !== events) throw kinds.fault(`has ${n} operations for ${events} events`);
  let text = fromUtf8(content.data, "column content");
  let points = countPoints(text);
  if (erased.left) {
    text = unerase(text, points, inserted, erased);
    points = inserted;
    log.erased = true;
  }
  if (points !== inserted) throw content.fault(`has ${points} elements for ${inserted} inserts`);
  const plain = text.length === points;
  let at = 0;
  for (const [kind, pos, length] of rows) {
    let some = "";
    if (kind < DELETE) {
      some = text.slice(at, plain ? at + length : unitsOf(text, length, at));
      at += some.length;
    }
    log.push(kind, pos, length, some);
  }
}

/** The content with a mark for each element that is not in it. @param {string} text @param {number} points @param {number} inserted @param {Reader} erased */
function unerase(text, points, inserted, erased) {
  const parts = [];
  let gone = false;
  let at = 0;
  while (erased.left) {
    const n = erased.number();
    if (n > inserted || (!gone && n > points)) throw erased.fault(`counts ${n} elements, ${inserted} are left, ${points} of content`);
    if (gone) parts.push(ERASED.repeat(n));
    else {
      const end = unitsOf(text, n, at);
      parts.push(text.slice(at, end));
      at = end;
      points -= n;
    }
    inserted -= n;
    gone = !gone;
  }
  if (inserted || points) throw erased.fault(`leaves ${inserted} elements, and ${points} of content`);
  return parts.join("");
}

/** The run of a RUN chunk. `DecodeError`. @param {Uint8Array} data @param {Table} table @returns {Run} */
export function readRun(data, table) {
  const reader = new Reader(data, "a run");
  const introduce = () => {
    const name = reader.name();
    if (table.numbers.has(name)) throw reader.fault(`introduces agent ${JSON.stringify(name)} again`);
    table.add([name]);
  };
  let x = reader.number();
  if (x === 0) {
    introduce();
    x = 2 * table.names.length;
  } else if (x > 2 * table.names.length) throw reader.fault(`names agent ${Math.floor((x - 1) / 2)} of ${table.names.length}`);
  const agent = Math.floor((x - 1) / 2);
  const name = table.names[agent];
  const seq = x % 2 ? table.expected[agent] : reader.number();
  /** @type {Id[]} */
  const parents = [];
  const n = reader.number();
  if (n === 0) parents.push([name, seq - 1]);
  for (let k = 1; k < n; k++) {
    const other = reader.number();
    if (other === 1) introduce();
    else if (other - 2 >= table.names.length) throw reader.fault(`names agent ${other - 2} of ${table.names.length}`);
    const parent = other === 0 ? name : table.names[other === 1 ? table.names.length - 1 : other - 2];
    parents.push([parent, other ? reader.number() : seq - 1]);
  }
  const code = reader.number();
  const kind = code % 4;
  const length = Math.floor(code / 4);
  const pos = reader.number();
  if (!length || length > MAX_LENGTH || pos > MAX_LENGTH || (kind === ERASE && pos < length - 1)) throw reader.fault(`has ${length} operations at ${pos}`);
  if ((kind < DELETE && length > reader.left) || (kind === ERASE && length > MAX_RUN)) throw reader.fault(`has ${length} operations`);
  if (seq < 0 || seq > MAX_SEQ - length || parents.some(([, at]) => at < 0 || at > MAX_SEQ)) throw reader.fault(`has seq ${seq}`);
  if (parents.some(([other, at]) => other === name && at >= seq && at < seq + length)) throw reader.fault("has a parent that was made after it");
  const text = fromUtf8(reader.take(reader.left), "a run's content");
  const points = countPoints(text);
  if (points !== (kind < DELETE ? length : 0)) throw reader.fault(`has ${points} elements for ${length} operations of kind ${kind}`);
  table.expected[agent] = seq + length;
  const log = new OpLog();
  log.push(kind, pos, length, text);
  return { agent: name, seq, parents, log, start: 0, length };
}
