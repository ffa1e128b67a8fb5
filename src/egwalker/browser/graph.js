/**
 * The event graph: who made what, on top of which events.
 *
 * Inside a page events are numbered in the order of their arrival, by *local versions* (LVs); parents have smaller
 * ones than children. Consecutive events of one agent, each with the one before as its only parent, are one row.
 *
 * A shallow document's graph begins at a *base*: a version of which only the ids are known (a version vector and
 * heads), and which every event of the graph follows. To the graph it is the root: whoever has no parents here comes
 * directly after it. Of an ordinary document the base is empty.
 */

import { AgentError, HistoryError, VersionError } from "./errors.js";

/** @typedef {[string, number]} Id An event's id: agent and seq. */
/** @typedef {[number, number]} Range Half-open. */
/** @typedef {Map<string, Range[]>} Vector A version vector: for each agent the seqs held, ascending and apart. */

/** Seqs are below this. */
export const MAX_SEQ = 2 ** 53 - 1;
/** Bytes of an agent's name. */
const MAX_NAME = 255;
/** What `Graph.known` says of events that are part of the base, and of those that are not held. */
export const IN_BASE = -1;
export const UNKNOWN = -2;

const utf8 = new TextEncoder();

/** Whether a string holds half of a surrogate pair. @param {string} text */
export function hasLoneSurrogate(text) {
  return /[\ud800-\udfff]/u.test(text);
}

/** An agent's name in UTF-8; `AgentError`. @param {unknown} name @returns {Uint8Array} */
export function checkName(name) {
  if (typeof name !== "string" || hasLoneSurrogate(name)) throw new AgentError("an agent's name is a string without lone surrogates");
  const bytes = utf8.encode(name);
  if (!bytes.length || bytes.length > MAX_NAME) {
    throw new AgentError(`an agent's name has 1 to ${MAX_NAME} bytes of UTF-8, not ${bytes.length}`);
  }
  return bytes;
}

/** Negative, 0 or positive as names compare, by their bytes. @param {Uint8Array} a @param {Uint8Array} b */
function compareBytes(a, b) {
  const n = Math.min(a.length, b.length);
  for (let i = 0; i < n; i++) if (a[i] !== b[i]) return a[i] - b[i];
  return a.length - b.length;
}

/** Ids ascending: by name, compared by code points, then seq. @param {Id} a @param {Id} b */
export function compareIds(a, b) {
  return a[0] === b[0] ? a[1] - b[1] : compareBytes(utf8.encode(a[0]), utf8.encode(b[0]));
}

/** The index of the last of ascending numbers that is at most `x`, -1 if all are larger. @param {number[]} at @param {number} x */
export function lastUpTo(at, x) {
  let lo = 0;
  let hi = at.length;
  while (lo < hi) {
    const mid = (lo + hi) >>> 1;
    if (at[mid] <= x) lo = mid + 1;
    else hi = mid;
  }
  return lo - 1;
}

/** Parts of `ranges` that are not in `others`, both ascending. @param {Range[]} ranges @param {Range[]} others @returns {Range[]} */
function subtract(ranges, others) {
  /** @type {Range[]} */
  const left = [];
  let k = 0;
  for (let [start, end] of ranges) {
    while (k < others.length && others[k][1] <= start) k++;
    for (let i = k; i < others.length && others[i][0] < end; i++) {
      if (others[i][0] > start) left.push([start, others[i][0]]);
      start = others[i][1];
    }
    if (start < end) left.push([start, end]);
  }
  return left;
}

/** Add a range behind ascending ones, joined to the last if they touch. @param {Range[]} ranges @param {number} start @param {number} end */
export function pushRange(ranges, start, end) {
  const last = ranges[ranges.length - 1];
  if (last && last[1] === start) last[1] = end;
  else ranges.push([start, end]);
}

/** A heap of numbers, the largest first. */
class Heap {
  constructor() {
    /** @type {number[]} */
    this.at = [];
  }

  get size() {
    return this.at.length;
  }

  /** @param {number} x */
  push(x) {
    const at = this.at;
    let i = at.length;
    at.push(x);
    while (i) {
      const up = (i - 1) >> 1;
      if (at[up] >= x) break;
      at[i] = at[up];
      i = up;
    }
    at[i] = x;
  }

  pop() {
    const at = this.at;
    const top = at[0];
    const x = /** @type {number} */ (at.pop());
    const n = at.length;
    if (!n) return top;
    let i = 0;
    for (;;) {
      let child = 2 * i + 1;
      if (child >= n) break;
      if (child + 1 < n && at[child + 1] > at[child]) child++;
      if (at[child] <= x) break;
      at[i] = at[child];
      i = child;
    }
    at[i] = x;
    return top;
  }
}

/** An agent's events by seq: of each run its first seq, its local version, and how many. */
class AgentIds {
  constructor() {
    /** @type {number[]} */ this.seq = [];
    /** @type {number[]} */ this.lv = [];
    /** @type {number[]} */ this.length = [];
    /** @type {Range[]} Part of the base. */ this.base = [];
  }
}

export class Graph {
  /** @param {Vector} [base] @param {Id[]} [baseHeads] */
  constructor(base = new Map(), baseHeads = []) {
    /** How many events, but for those of the base. */
    this.n = 0;
    /** @type {number[]} By row: the first local version. */ this.lv = [];
    /** @type {number[]} The agent's number. */ this.agent = [];
    /** @type {number[]} The first seq. */ this.seq = [];
    /** @type {number[][]} The first event's parents, ascending, none before another; empty: the base. */ this.parents = [];
    /** @type {string[]} */ this.names = [];
    /** @type {Uint8Array[]} */ this.encoded = [];
    /** @type {Map<string, number>} */ this.index = new Map();
    /** @type {AgentIds[]} */ this.ids = [];
    /** @type {number[]} The local versions that nothing follows, ascending. */ this.heads = [];
    // Critical events, which every other one precedes or follows, as ascending ranges.
    /** @type {number[]} */ this.criticalStart = [];
    /** @type {number[]} */ this.criticalEnd = [];
    /** @type {Id[]} */ this.baseHeads = baseHeads.map(([name, seq]) => [name, seq]);
    this.baseEvents = 0;
    /** How many events from the one that `known` was asked about on are held alike. */
    this.rest = 0;
    for (const [name, ranges] of base) {
      this.ids[this.agentNumber(name)].base = ranges.map(([start, end]) => [start, end]);
      for (const [start, end] of ranges) this.baseEvents += end - start;
    }
  }

  // --- agents and ids

  /** The number of an agent, a new one if need be. `AgentError`. @param {string} name */
  agentNumber(name) {
    const found = this.index.get(name);
    if (found !== undefined) return found;
    const bytes = checkName(name);
    const number = this.names.length;
    this.names.push(name);
    this.encoded.push(bytes);
    this.index.set(name, number);
    this.ids.push(new AgentIds());
    return number;
  }

  /**
   * The local version of an event, `IN_BASE` or `UNKNOWN`; then `rest` is for how many events from this one on that
   * holds, their local versions following one another. O(log id runs).
   * @param {number} agent @param {number} seq
   */
  known(agent, seq) {
    const ids = this.ids[agent];
    const i = lastUpTo(ids.seq, seq);
    if (i >= 0 && seq < ids.seq[i] + ids.length[i]) {
      this.rest = ids.seq[i] + ids.length[i] - seq;
      return ids.lv[i] + (seq - ids.seq[i]);
    }
    this.rest = i + 1 < ids.seq.length ? ids.seq[i + 1] - seq : Infinity;
    const base = ids.base;
    if (base.length) {
      let lo = 0;
      let hi = base.length;
      while (lo < hi) {
        const mid = (lo + hi) >>> 1;
        if (base[mid][0] <= seq) lo = mid + 1;
        else hi = mid;
      }
      if (lo && seq < base[lo - 1][1]) {
        this.rest = base[lo - 1][1] - seq;
        return IN_BASE;
      }
      if (lo < base.length) this.rest = Math.min(this.rest, base[lo][0] - seq);
    }
    return UNKNOWN;
  }

  /** The local version of an event by name, `IN_BASE` or `UNKNOWN`. @param {string} name @param {number} seq */
  lvOf(name, seq) {
    const agent = this.index.get(name);
    return agent === undefined ? UNKNOWN : this.known(agent, seq);
  }

  /** The first seq after all of an agent's. @param {string} name */
  nextSeq(name) {
    const agent = this.index.get(name);
    if (agent === undefined) return 0;
    const { seq, length, base } = this.ids[agent];
    const last = seq.length - 1;
    return Math.max(last < 0 ? 0 : seq[last] + length[last], base.length ? base[base.length - 1][1] : 0);
  }

  /** The row of a local version. @param {number} lv */
  find(lv) {
    const at = this.lv;
    const last = at.length - 1;
    // What is asked about is most often new.
    if (at[last] <= lv) return last;
    if (last && at[last - 1] <= lv) return last - 1;
    return lastUpTo(at, lv);
  }

  /** The local version after a row's last. @param {number} row */
  end(row) {
    return row + 1 < this.lv.length ? this.lv[row + 1] : this.n;
  }

  /** @param {number} lv @returns {Id} */
  id(lv) {
    const row = this.find(lv);
    return [this.names[this.agent[row]], this.seq[row] + (lv - this.lv[row])];
  }

  /** The parents of an event. @param {number} lv */
  parentsOf(lv) {
    const row = this.find(lv);
    return this.lv[row] === lv ? this.parents[row] : [lv - 1];
  }

  /** Negative or positive as event `a` sorts before or after `b`: by the bytes of the agent's name, then seq. @param {number} a @param {number} b */
  compare(a, b) {
    const x = this.find(a);
    const y = this.find(b);
    if (this.agent[x] === this.agent[y]) return this.seq[x] + (a - this.lv[x]) - (this.seq[y] + (b - this.lv[y]));
    return compareBytes(this.encoded[this.agent[x]], this.encoded[this.agent[y]]);
  }

  /** The frontier as ids, ascending. @returns {Id[]} */
  version() {
    return this.heads.length ? this.idsOf(this.heads) : this.baseHeads.map(([name, seq]) => [name, seq]);
  }

  /** Local versions as ids, ascending. @param {number[]} versions @returns {Id[]} */
  idsOf(versions) {
    return versions.map((lv) => this.id(lv)).sort(compareIds);
  }

  /** All events held, the base included. @returns {Vector} */
  vector() {
    /** @type {Vector} */
    const vector = new Map();
    this.ids.forEach(({ seq, length, base }, number) => {
      /** @type {Range[]} */
      const all = seq.map((start, i) => [start, start + length[i]]);
      if (base.length) {
        all.push(...base.map(([start, end]) => /** @type {Range} */ ([start, end])));
        all.sort((a, b) => a[0] - b[0]);
      }
      /** @type {Range[]} */
      const ranges = [];
      for (const [start, end] of all) pushRange(ranges, start, end);
      if (ranges.length) vector.set(this.names[number], ranges);
    });
    return vector;
  }

  /** The base as a version vector. @returns {Vector} */
  baseVector() {
    const found = new Map();
    this.ids.forEach(({ base }, number) => {
      if (base.length) found.set(this.names[number], base.map(([start, end]) => [start, end]));
    });
    return found;
  }

  // --- adding

  /**
   * Add `length` events with new ids. `parents` are ascending and none precedes another.
   * @param {number} agent @param {number} seq @param {number[]} parents @param {number} length
   */
  append(agent, seq, parents, length) {
    const lv = this.n;
    const last = this.lv.length - 1;
    const joins =
      last >= 0 && parents.length === 1 && parents[0] === lv - 1 && this.agent[last] === agent &&
      this.seq[last] + (lv - this.lv[last]) === seq;
    if (!joins) {
      this.lv.push(lv);
      this.agent.push(agent);
      this.seq.push(seq);
      this.parents.push(parents);
    }
    this.n += length;
    this.#addIds(agent, seq, lv, length);
    this.#addHeads(parents, lv, lv + length);
  }

  /** @param {number} agent @param {number} seq @param {number} lv @param {number} length */
  #addIds(agent, seq, lv, length) {
    const ids = this.ids[agent];
    const i = lastUpTo(ids.seq, seq);
    if (i >= 0 && ids.seq[i] + ids.length[i] === seq && ids.lv[i] + ids.length[i] === lv) ids.length[i] += length;
    else if (i === ids.seq.length - 1) {
      ids.seq.push(seq);
      ids.lv.push(lv);
      ids.length.push(length);
    } else {
      ids.seq.splice(i + 1, 0, seq);
      ids.lv.splice(i + 1, 0, lv);
      ids.length.splice(i + 1, 0, length);
    }
  }

  /**
   * If the parents are all the heads, every earlier event precedes the run, which is critical then. Else it is
   * concurrent with something; a critical event precedes it if and only if it is not after the last parent.
   * @param {number[]} parents @param {number} start @param {number} end
   */
  #addHeads(parents, start, end) {
    const heads = this.heads;
    const starts = this.criticalStart;
    const ends = this.criticalEnd;
    if (heads.length === parents.length && heads.every((head, i) => head === parents[i])) {
      if (ends.length && ends[ends.length - 1] === start) ends[ends.length - 1] = end;
      else {
        starts.push(start);
        ends.push(end);
      }
      this.heads = [end - 1];
      return;
    }
    const last = parents.length ? parents[parents.length - 1] : -1;
    while (starts.length && starts[starts.length - 1] > last) {
      starts.pop();
      ends.pop();
    }
    if (ends.length && ends[ends.length - 1] > last + 1) ends[ends.length - 1] = last + 1;
    this.heads = heads.filter((head) => !parents.includes(head));
    this.heads.push(end - 1);
  }

  /** Forget the events from `n` on, and agents from number `agents` on. O(rows). @param {number} n @param {number} agents */
  cut(n, agents) {
    const rows = this.lv.map((lv, i) => ({ lv, agent: this.agent[i], seq: this.seq[i], parents: this.parents[i], end: this.end(i) }));
    for (const name of this.names.splice(agents)) this.index.delete(name);
    this.encoded.length = this.ids.length = agents;
    for (const ids of this.ids) ids.seq.length = ids.lv.length = ids.length.length = 0;
    this.lv.length = this.agent.length = this.seq.length = this.parents.length = 0;
    this.criticalStart.length = this.criticalEnd.length = 0;
    this.heads = [];
    this.n = 0;
    for (const { lv, agent, seq, parents, end } of rows) {
      if (lv < n) this.append(agent, seq, parents, Math.min(end, n) - lv);
    }
  }

  // --- versions

  /** Sort versions and drop those that others descend from. O(rows between the oldest and the newest). @param {number[]} versions */
  reduce(versions) {
    const sorted = [...new Set(versions)].sort((a, b) => a - b);
    if (sorted.length < 2) return sorted;
    const oldest = sorted[0];
    const kept = [];
    let left = sorted.length;
    const heap = new Heap();
    // 2 * lv for a version asked about, 2 * lv + 1 for one that is reached from above: these come first.
    for (const lv of sorted) heap.push(2 * lv);
    while (left) {
      let key = heap.pop();
      if (key % 2 === 0) {
        left--;
        kept.push(key / 2);
      }
      const row = this.find(Math.floor(key / 2));
      while (heap.size && heap.at[0] >= 2 * this.lv[row]) {
        key = heap.pop();
        if (key % 2 === 0) left--;
      }
      for (const parent of this.parents[row]) if (parent >= oldest) heap.push(2 * parent + 1);
    }
    return kept.reverse();
  }

  /**
   * The events after `floor`, a critical one or -1, that only version `a` has, and those that only `b` has, as ranges
   * in descending order. O(rows down to where all is in both); `HistoryError` if these are more than `most`.
   * @param {number[]} a @param {number[]} b @param {number} [floor] @param {number} [most] @returns {[Range[], Range[]]}
   */
  diff(a, b, floor = -1, most = Infinity) {
    /** @type {[Range[], Range[]]} */
    const found = [[], []];
    const heap = new Heap();
    let open = 0; // entries of the heap that are not in both
    /** @param {number} lv @param {number} side 1: in a, 2: in b, 3: in both */
    const reach = (lv, side) => {
      if (lv <= floor) return;
      heap.push(4 * lv + side);
      if (side !== 3) open++;
    };
    /** @param {number} start @param {number} end @param {number} side */
    const put = (start, end, side) => {
      if (side === 3 || start >= end) return;
      const ranges = found[side - 1];
      const last = ranges[ranges.length - 1];
      if (last && last[0] === end) last[0] = start;
      else ranges.push([start, end]);
    };
    for (const lv of a) reach(lv, b.includes(lv) ? 3 : 1);
    for (const lv of b) if (!a.includes(lv)) reach(lv, 2);
    for (let rows = 0; open; rows++) {
      if (rows >= most) throw new HistoryError(`these versions are more than ${most} runs apart`);
      const key = heap.pop();
      let side = key % 4;
      let lv = (key - side) / 4;
      if (side !== 3) open--;
      const row = this.find(lv);
      const start = Math.max(this.lv[row], floor + 1);
      while (heap.size && heap.at[0] >= 4 * start) {
        const other = heap.pop();
        const also = other % 4;
        const at = (other - also) / 4;
        if (also !== 3) open--;
        if ((side | also) !== side) {
          // Another path comes in here.
          put(at + 1, lv + 1, side);
          lv = at;
          side |= also;
        }
      }
      put(start, lv + 1, side);
      if (this.lv[row] === start) for (const parent of this.parents[row]) reach(parent, side);
      else reach(start - 1, side);
    }
    return found;
  }

  /**
   * The local versions of a version's ids, ascending; none: the base. `VersionError` for what is not held,
   * `HistoryError` for what is older than the base.
   * @param {Iterable<Id>} version @returns {number[]}
   */
  lvsOf(version) {
    return this.reduce(this.held(version));
  }

  /** That, even if some of the ids precede others: without a search of the graph. @param {Iterable<Id>} version @returns {number[]} */
  held(version) {
    const ids = [...version];
    const found = [];
    for (const [name, seq] of ids) {
      const lv = this.lvOf(name, seq);
      if (lv === UNKNOWN) throw new VersionError(`event ${name}:${seq} is not held`);
      if (lv >= 0) found.push(lv);
    }
    if (!found.length && !this.isBase(ids)) {
      throw new HistoryError("this version is older than what the document begins with here");
    }
    return [...new Set(found)].sort((a, b) => a - b);
  }

  /** Whether these are the heads of the base. @param {Id[]} ids */
  isBase(ids) {
    const heads = this.baseHeads;
    return ids.length === heads.length && ids.every(([name, seq]) => heads.some((head) => head[0] === name && head[1] === seq));
  }

  /** What somebody with this version vector lacks, as ascending ranges of local versions. O(rows). @param {Vector} vector @returns {Range[]} */
  lacking(vector) {
    /** @type {Range[]} */
    const found = [];
    for (let row = 0; row < this.lv.length; row++) {
      const lv = this.lv[row];
      const seq = this.seq[row];
      const held = vector.get(this.names[this.agent[row]]) ?? [];
      for (const [start, end] of subtract([[seq, seq + this.end(row) - lv]], rangesNear(held, seq))) {
        pushRange(found, lv + (start - seq), lv + (end - seq));
      }
    }
    return found;
  }

  /** The last critical event up to `lv`, -1 if there is none: that is the base. @param {number} lv */
  lastCritical(lv) {
    const i = lastUpTo(this.criticalStart, lv);
    return i < 0 ? -1 : Math.min(lv, this.criticalEnd[i] - 1);
  }

  /** Where the critical range that holds `lv` ends, 0 if it is not critical. @param {number} lv */
  criticalUntil(lv) {
    const i = lastUpTo(this.criticalStart, lv);
    return i >= 0 && this.criticalEnd[i] > lv ? this.criticalEnd[i] : 0;
  }

  /** The first critical event from `lv` on, `n` if there is none. @param {number} lv */
  nextCritical(lv) {
    if (this.criticalUntil(lv)) return lv;
    const i = lastUpTo(this.criticalStart, lv) + 1;
    return i < this.criticalStart.length ? this.criticalStart[i] : this.n;
  }

  /** Assert every invariant. O(rows squared at worst): for tests. */
  _check() {
    /** @param {unknown} ok @param {string} what */
    const assert = (ok, what) => {
      if (!ok) throw new Error(`graph: ${what}`);
    };
    const held = new Set();
    let lv = 0;
    for (let row = 0; row < this.lv.length; row++) {
      const parents = this.parents[row];
      assert(this.lv[row] === lv && this.end(row) > lv, `row ${row} is at ${this.lv[row]}, not ${lv}`);
      assert(parents.every((parent) => parent >= 0 && parent < lv), `parents ${parents} of ${lv} come later`);
      assert(String(this.reduce(parents)) === String(parents), `parents ${parents} of ${lv} are not reduced`);
      for (const parent of parents) held.add(parent);
      lv = this.end(row);
    }
    assert(lv === this.n, `rows end at ${lv}, not ${this.n}`);
    const heads = this.lv.map((_, row) => this.end(row) - 1).filter((end) => !held.has(end));
    assert(String(heads) === String(this.heads), `heads ${this.heads} should be ${heads}`);
    let total = 0;
    this.ids.forEach(({ seq, lv: at, length, base }, agent) => {
      for (let i = 0; i < seq.length; i++) {
        total += length[i];
        assert(!i || seq[i - 1] + length[i - 1] <= seq[i], `ids of ${this.names[agent]}`);
        assert(!subtract([[seq[i], seq[i] + length[i]]], base).some(([a, b], k) => k || b - a !== length[i]), "ids of the base twice");
        for (const offset of [0, length[i] - 1]) {
          const [name, found] = this.id(at[i] + offset);
          assert(name === this.names[agent] && found === seq[i] + offset, `id of ${at[i] + offset}`);
        }
      }
    });
    assert(total === this.n, `${total} ids for ${this.n} events`);
    for (let i = 0; i < this.criticalStart.length; i++) {
      assert(this.criticalStart[i] < this.criticalEnd[i] && (!i || this.criticalEnd[i - 1] < this.criticalStart[i]), "critical ranges");
    }
  }
}

/** @param {Vector} a @param {Vector} b */
export function sameVectors(a, b) {
  if (a.size !== b.size) return false;
  for (const [name, ranges] of a) if (String(ranges) !== String(b.get(name))) return false;
  return true;
}

/** Whether a version vector has all of another one. @param {Vector} vector @param {Vector} other */
export function covers(vector, other) {
  for (const [name, ranges] of other) if (subtract(ranges, vector.get(name) ?? []).length) return false;
  return true;
}

/** Of ascending ranges those that end after `seq`. @param {Range[]} ranges @param {number} seq */
function rangesNear(ranges, seq) {
  if (ranges.length < 8) return ranges;
  let lo = 0;
  let hi = ranges.length;
  while (lo < hi) {
    const mid = (lo + hi) >>> 1;
    if (ranges[mid][1] <= seq) lo = mid + 1;
    else hi = mid;
  }
  return ranges.slice(lo);
}
