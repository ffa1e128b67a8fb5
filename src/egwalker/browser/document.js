/** A text that several people edit, each in a replica of their own. */

import { toHex } from "./bytes.js";
import { Caret } from "./caret.js";
import * as codec from "./codec.js";
import { addEdit, take } from "./edits.js";
import { ConflictError, DecodeError, EgwalkerError, HistoryError, IdentityError, PendingError, report } from "./errors.js";
import { Graph, IN_BASE, MAX_SEQ, UNKNOWN, checkName, hasLoneSurrogate, sameVectors } from "./graph.js";
import { DELETE, MAX_LENGTH, OpLog, TYPE, countPoints, hasErased, sameOps } from "./log.js";
import { Text } from "./text.js";
import { Walk, plain, replay } from "./walker.js";

/** @typedef {import("./graph.js").Id} Id */
/** @typedef {import("./graph.js").Vector} Vector */
/** @typedef {import("./walker.js").Step} Step */
/** @typedef {import("./edits.js").Edit} Edit */
/** @typedef {{local: boolean, edits: Edit[], origin: unknown}} Change */
/** @typedef {{agent: string, seq: number, parents: Id[], log: OpLog, start: number, length: number}} Run Events of one agent, each but the first with the one before as its only parent. */

/** Events that may wait for their parents, and runs of them. */
const PENDING_EVENTS = 1_000_000;
const PENDING_RUNS = 10_000;
/** Rows of operations that a walk may hold before it is begun anew later, if that is worth it. */
const KEPT_ROWS = 2000;

/** A random string of hexadecimal digits. @param {number} bytes */
const random = (bytes) => toHex(crypto.getRandomValues(new Uint8Array(bytes)));

export class TextDocument {
  /**
   * `agent`: who edits here; two replicas must never edit under one name at the same time. By default a random one.
   * `id`: which document this is; without one, the document takes on that of whom it is first linked to.
   * `defer`: whether what is typed on keeps the parents that it began with, see `adopt`.
   * @param {{agent?: string, id?: string, defer?: boolean}} [options]
   */
  constructor({ agent = `web-${random(8)}`, id, defer = true } = {}) {
    this._caret = new Caret();
    this.agent = agent;
    if (id !== undefined && !/^[0-9a-f]{32}$/.test(id)) throw new IdentityError(`an id has 32 hexadecimal digits, unlike ${JSON.stringify(id)}`);
    this.kind = "text";
    this.id = id ?? random(16);
    /** @type {"" | "here" | "elsewhere"} Who has given it its id: it may still take on another one while it is blank, unless that was here. */
    this._idGiven = id !== undefined ? "here" : "";
    this._graph = new Graph();
    this._log = new OpLog();
    this._text = new Text();
    this._defer = Boolean(defer);
    /** The text at the graph's base. */
    this._baseText = "";
    /** @type {Walk | null} */
    this._walk = null;
    this._keep = KEPT_ROWS;
    /** How many events have been added before those that were there at first, see `_deepen`. */
    this._depth = 0;
    /** @type {Run[]} Runs that lack parents, or ones that follow what is older than the base. */
    this._pending = [];
    /** @type {Set<(change: Change) => void>} */
    this._subscribers = new Set();
    /** @type {Change[]} */
    this._changes = [];
    this._delivering = false;
    /** @type {{edits: Edit[], origin: unknown} | null} */
    this._transaction = null;
  }

  /** Who edits here. It may become somebody who has not edited yet: what is edited from now on is theirs. `AgentError`. @returns {string} */
  get agent() {
    return this._agent;
  }

  set agent(agent) {
    checkName(agent);
    this._agent = agent;
    this._caret.close();
  }

  // --- reading

  /** The text. */
  get text() {
    return this._text.toString();
  }

  /** Its length in UTF-16 code units, as that of a string. */
  get length() {
    return this._text.units;
  }

  /** Whether no event has been made, or has come. */
  get blank() {
    return !this._graph.n && !this._graph.baseEvents && !this._pending.length;
  }

  /** Whether the document begins with the text at some version, and not with its history. */
  get shallow() {
    return this._graph.baseEvents > 0;
  }

  /** How many events are part of the document. */
  get events() {
    return this._graph.n + this._graph.baseEvents;
  }

  /** How many events wait for others. */
  get pending() {
    return this._pending.reduce((sum, run) => sum + run.length, 0);
  }

  /** The ids of the events that none follows, ascending. @returns {Id[]} */
  get version() {
    return this._graph.version();
  }

  /** The seqs held of each agent, as half-open ranges. @returns {Vector} */
  get versionVector() {
    return this._graph.vector();
  }

  /** Whether an event is part of the document. @param {string} agent @param {number} seq */
  has(agent, seq) {
    return this._graph.lvOf(agent, seq) !== UNKNOWN;
  }

  /** `start:end` of the text, in UTF-16 code units, without making all of it. @param {number} [start] @param {number} [end] */
  slice(start = 0, end = this.length) {
    return this._text.sliceUnits(Math.max(0, Math.min(start, this.length)), Math.max(0, Math.min(end, this.length)));
  }

  /** A position in UTF-16 code units as one in code points. `RangeError`. @param {number} at */
  toPoints(at) {
    if (!Number.isSafeInteger(at) || at < 0 || at > this._text.units) throw new RangeError(`position ${at} is not within 0..${this._text.units}`);
    const found = this._text.toPoints(at);
    if (found < 0) throw new RangeError(`position ${at} is between the halves of a surrogate pair`);
    return found;
  }

  /** A position in code points as one in UTF-16 code units; beyond the end is the end. @param {number} at */
  fromPoints(at) {
    return this._text.toUnits(Math.max(0, Math.min(Math.floor(at) || 0, this._text.length)));
  }

  /** The text at a version. `HistoryError` if that is older than what a shallow document has, `VersionError`. @param {Iterable<Id>} version */
  checkout(version) {
    const versions = this._graph.lvsOf(version);
    const text = new Text(this._baseText);
    for (const step of replay(this._graph, this._log, versions, text.length)) take(text, this._log, step, true);
    const found = text.toString();
    if (this._log.erased && hasErased(found)) throw new HistoryError("this version holds what was deleted since, and it was not kept");
    return found;
  }

  /**
   * Where a caret at a position of the text at a version is in the text now; both are code points, as presences tell
   * them. It stays behind the element that is before it, and where that was when it is deleted. The current version
   * costs nothing, another one what is concurrent with it and what has been made since.
   * `RangeError` if that text has no such position, `VersionError`, `HistoryError` if the version is older than what a
   * shallow document has, or so far away that more than `most` runs of events had to be walked.
   * @param {number} pos @param {Iterable<Id>} version @param {number} [most]
   */
  mapPosition(pos, version, most = Infinity) {
    const graph = this._graph;
    const heads = graph.held(version);
    let found = -1;
    if (Number.isSafeInteger(pos) && pos >= 0) {
      const now = heads.length === graph.heads.length && heads.every((lv, i) => lv === graph.heads[i]);
      if (!now) found = this.#walkFrom(heads, most).place(pos, heads, most);
      else if (pos <= this._text.length) found = pos;
    }
    if (found < 0) throw new RangeError(`the text at that version has no position ${pos}`);
    return found;
  }

  // --- editing

  /** Insert at a position in UTF-16 code units. `RangeError`. @param {number} at @param {string} string */
  insert(at, string) {
    this.replace(at, 0, string);
  }

  /** Delete so many UTF-16 code units. `RangeError`. @param {number} at @param {number} count */
  delete(at, count) {
    this.replace(at, count, "");
  }

  /** Delete, then insert there. `RangeError`, then nothing has changed. @param {number} at @param {number} count @param {string} string */
  replace(at, count, string) {
    if (typeof string !== "string" || hasLoneSurrogate(string)) throw new RangeError("what is inserted is a string without lone surrogates");
    if (!Number.isSafeInteger(count) || count < 0) throw new RangeError(`${count} is no number of code units`);
    const pos = this.toPoints(at);
    const gone = count ? this.toPoints(at + count) - pos : 0;
    const come = countPoints(string);
    if (this._text.length - gone + come > MAX_LENGTH) throw new RangeError(`a text has at most ${MAX_LENGTH} code points`);
    if (this._graph.nextSeq(this.agent) + gone + come > MAX_SEQ) throw new RangeError("this agent has made too many events");
    if (gone) {
      this.#append(DELETE, pos, gone, "");
      this._text.delete(pos, gone);
    }
    if (come) {
      this.#append(TYPE, pos, come, string);
      this._text.insert(pos, string, come);
    }
    if (!gone && !come) return;
    const edit = { at, deleted: count, inserted: string };
    if (this._transaction) addEdit(this._transaction.edits, edit);
    else this.#deliver({ local: true, edits: [edit], origin: null });
  }

  /** @param {number} kind @param {number} pos @param {number} length @param {string} text */
  #append(kind, pos, length, text) {
    const graph = this._graph;
    const caret = this._caret;
    const agent = graph.agentNumber(this.agent);
    const seq = graph.nextSeq(this.agent);
    if (caret.apart && !(seq === caret.next && caret.goesOn(pos, kind === TYPE ? 0 : length))) caret.apart = false;
    const parents = caret.apart ? [graph.lvOf(this.agent, seq - 1)] : graph.heads.slice();
    this._log.push(kind, caret.apart ? pos + caret.shift : pos, length, text);
    graph.append(agent, seq, parents, length);
    if (this._defer) caret.typed(seq + length, kind === TYPE ? pos + length : pos, kind === TYPE ? length : -length);
  }

  /**
   * Whether what is typed on where the last edit ended, or erased there, follows the edits before it alone, though others'
   * are in the text already: see `adopt`.
   */
  get defer() {
    return this._defer;
  }

  set defer(defer) {
    this._defer = Boolean(defer);
    this._caret.close();
  }

  /**
   * Let the next edit follow all that is in the document, wherever it is. To be called when the caret is moved by key or
   * mouse: what is typed in one go then stays one group, until others change something right at the caret.
   */
  adopt() {
    this._caret.close();
  }

  /** Edits within `fn` are one change to subscribers, with this origin. Returns what `fn` does. @template T @param {() => T} fn @param {unknown} [origin] */
  transact(fn, origin = null) {
    if (this._transaction) return fn();
    const transaction = (this._transaction = { edits: /** @type {Edit[]} */ ([]), origin });
    try {
      return fn();
    } finally {
      this._transaction = null;
      if (transaction.edits.length) this.#deliver({ local: true, edits: transaction.edits, origin });
    }
  }

  /** Be told of each change, after it; returns a function that ends that. @param {(change: Change) => void} fn */
  subscribe(fn) {
    this._subscribers.add(fn);
    return () => void this._subscribers.delete(fn);
  }

  /** @param {Change} change */
  #deliver(change) {
    this._changes.push(change);
    if (this._delivering) return;
    this._delivering = true;
    for (let next; (next = this._changes.shift()); ) {
      for (const fn of [...this._subscribers]) {
        try {
          fn(next);
        } catch (error) {
          report(error);
        }
      }
    }
    this._delivering = false;
  }

  // --- what comes from elsewhere

  /**
   * Take in runs of events from elsewhere. Those that lack parents wait. On any error nothing has changed:
   * `PositionError`, `ConflictError`, `DecodeError`, `PendingError`.
   * `settled` is called when they are in, before subscribers are.
   * @param {Run[]} runs @param {unknown} [origin] @param {() => void} [settled] @returns {Change}
   */
  _receive(runs, origin = null, settled) {
    if (this._transaction) throw new EgwalkerError("nothing can be received within a transaction");
    const n = this._graph.n;
    const agents = this._graph.names.length;
    const pending = this._pending;
    const { erased } = this._log;
    /** @type {Step[]} */
    let steps;
    try {
      this._pending = pending.slice();
      for (const run of runs) this.#take(run);
      this.#wake(n);
      if (this._pending.length > pending.length) this.#checkPending();
      steps = this.#merge(n);
    } catch (error) {
      this._pending = pending;
      this._walk = null;
      this._graph.cut(n, agents);
      this._log.cut(n);
      this._log.erased = erased;
      throw error;
    }
    /** @type {Edit[]} */
    const edits = [];
    for (const step of steps) addEdit(edits, take(this._text, this._log, step));
    if (this._graph.n > n) this._caret.follow(steps);
    const change = { local: false, edits, origin };
    settled?.();
    if (edits.length) this.#deliver(change);
    return change;
  }

  /** Add what is new of a run, or let it wait. @param {Run} run */
  #take(run) {
    const graph = this._graph;
    const agent = graph.agentNumber(run.agent);
    for (let done = 0; done < run.length; ) {
      const seq = run.seq + done;
      const lv = graph.known(agent, seq);
      const length = Math.min(graph.rest, run.length - done);
      /** @type {Id[]} */
      const parents = done ? [[run.agent, seq - 1]] : run.parents;
      if (lv === UNKNOWN) {
        const found = this._parents(parents);
        if (typeof found === "string") {
          this._pending.push(done ? { ...run, seq, parents, start: run.start + done, length: run.length - done } : run);
          return;
        }
        this._log.pushFrom(run.log, run.start + done, run.start + done + length);
        graph.append(agent, seq, found, length);
      } else if (lv !== IN_BASE) this.#compare(lv, parents, run, done, length);
      done += length;
    }
  }

  /** The local versions of a run's parents; "unknown" if one is not held, "older" if they are not all that a shallow document begins with. @param {Id[]} ids @returns {number[] | "unknown" | "older"} */
  _parents(ids) {
    const graph = this._graph;
    const found = [];
    for (const [name, seq] of ids) {
      const lv = graph.lvOf(name, seq);
      if (lv === UNKNOWN) return "unknown";
      if (lv !== IN_BASE) found.push(lv);
    }
    if (found.length) return graph.reduce(found);
    return graph.isBase(ids) ? [] : "older";
  }

  /** `ConflictError` unless the events from `lv` on are these. @param {number} lv @param {Id[]} parents @param {Run} run @param {number} done @param {number} length */
  #compare(lv, parents, run, done, length) {
    const graph = this._graph;
    const wanted = this._parents(parents);
    const held = graph.parentsOf(lv);
    const refuse = (/** @type {string} */ what) => {
      throw new ConflictError(`event ${run.agent}:${run.seq + done} is held already, with ${what}`);
    };
    if (typeof wanted === "string" || String(wanted) !== String(held)) refuse("other parents");
    // Each further one must follow the one before here too.
    if (graph.find(lv) !== graph.find(lv + length - 1)) refuse("other parents, or one after it");
    if (!sameOps(this._log, lv, run.log, run.start + done, length)) refuse("another operation");
  }

  /** Let in what waited for events from `n` on. @param {number} n */
  #wake(n) {
    while (this._pending.length && this._graph.n > n) {
      n = this._graph.n;
      const waiting = this._pending;
      this._pending = [];
      for (const run of waiting) this.#take(run);
    }
  }

  #checkPending() {
    const last = this._pending[this._pending.length - 1];
    for (const run of this._pending) {
      for (const [name, seq] of run.parents) {
        if (name === run.agent && seq >= run.seq && seq < run.seq + run.length) {
          throw new DecodeError(`event ${run.agent}:${run.seq} has ${name}:${seq}, made after it, as parent`);
        }
      }
    }
    // The same may come again.
    const seen = new Map();
    this._pending = this._pending.filter((run) => {
      const key = `${run.seq} ${run.length} ${run.agent}`;
      return seen.has(key) ? false : seen.set(key, true);
    });
    if (this.pending > PENDING_EVENTS || this._pending.length > PENDING_RUNS) {
      throw new PendingError(`${this.pending} events would wait for parents such as ${last.parents.join(", ")}; at most ${PENDING_EVENTS} in ${PENDING_RUNS} runs may`);
    }
  }

  /** What the events from local version `at` on do to the text. @param {number} at @returns {Step[]} */
  #merge(at) {
    const graph = this._graph;
    /** @type {Step[]} */
    const steps = [];
    let { length } = this._text;
    while (at < graph.n) {
      const until = graph.criticalUntil(at);
      if (until) length = plain(graph, this._log, at, until, length, steps);
      else {
        const walk = (this._walk = this.#walkTo(at, length));
        walk.to(Math.min(graph.nextCritical(at), graph.n), steps);
        length = walk.length;
      }
      at = until || /** @type {Walk} */ (this._walk).walked;
    }
    if (length > MAX_LENGTH) throw new DecodeError(`the text would have ${length} code points, at most ${MAX_LENGTH} can be`);
    return steps;
  }

  /**
   * A walk of all events before `at`, where the text has this length. The one there is goes on if it can: so the cost
   * of an event is not that of all since the last critical version. It is begun anew, at a later critical version, when
   * what can be skipped then is more than it holds, or when it holds much and little of that is concurrent.
   * @param {number} at @param {number} length
   */
  #walkTo(at, length) {
    const graph = this._graph;
    const log = this._log;
    const critical = graph.lastCritical(at - 1);
    let walk = this._walk;
    if (walk && walk.base >= 0 && !graph.criticalUntil(walk.base)) {
      // Somebody went on from before it. Not to go back and forth, keep more the next time.
      this._keep = Math.max(this._keep, 2 * walk.rows);
      walk = null;
    }
    if (walk && walk.walked <= critical) {
      const row = log.find(critical);
      const skipped = row - log.find(walk.walked);
      if (skipped > walk.rows + 64 || (walk.rows > this._keep && 16 * (log.find(at - 1) - row) < walk.rows)) walk = null;
    }
    if (walk) {
      walk.to(at, null);
      return walk;
    }
    if (critical === at - 1) return new Walk(graph, log, critical, length);
    walk = new Walk(graph, log, critical);
    walk.to(at, null);
    walk.settle(length);
    return walk;
  }

  /** A walk of all events from some heads on or from before them: the one there is, if it began early enough. @param {number[]} heads @param {number} most Rows of operations to walk. */
  #walkFrom(heads, most) {
    const graph = this._graph;
    const log = this._log;
    const critical = graph.lastCritical(heads.length ? heads[heads.length - 1] : -1);
    let walk = this._walk;
    if (walk && (walk.base > critical || (walk.base >= 0 && !graph.criticalUntil(walk.base)))) walk = null;
    const start = walk ? walk.walked : critical + 1;
    if (start < graph.n && log.find(graph.n - 1) - log.find(start) >= most) throw new HistoryError(`this version is more than ${most} runs ago`);
    if (walk) walk.to(graph.n, null);
    else {
      walk = new Walk(graph, log, critical);
      walk.to(graph.n, null);
      walk.settle(this._text.length);
    }
    return (this._walk = walk);
  }

  // --- a shallow document

  /** Begin a blank document with the text at a version. @param {{vector: Vector, heads: Id[], content: string}} start */
  _begin({ vector, heads, content }) {
    if (!this.blank) throw new HistoryError("only a blank document can begin with another's text");
    this._graph = new Graph(vector, heads);
    this._text = new Text(content);
    this._baseText = content;
    this._walk = null;
    if (content) this.#deliver({ local: false, edits: [{ at: 0, deleted: 0, inserted: content }], origin: null });
  }

  /**
   * Which events of before the base those that wait follow, if any do: they need history from before them. None
   * named: all of it.
   * @returns {Id[] | null}
   */
  _needed() {
    if (!this.shallow) return null;
    /** @type {Map<string, Id>} */
    const found = new Map();
    let older = false;
    for (const { parents } of this._pending) {
      if (this._parents(parents) !== "older") continue;
      older = true;
      if (!parents.length) return [];
      for (const id of parents) found.set(`${id[1]} ${id[0]}`, id);
    }
    return older ? [...found.values()] : null;
  }

  /**
   * Take on older history: `other` begins with an older text and has all events of this one's base. The text stays
   * as it is; what waited for that history comes in. `HistoryError` if they do not fit, and nothing has changed.
   * @param {TextDocument} other @param {unknown} [origin]
   */
  _deepen(other, origin = null) {
    const graph = this._graph;
    if (other.pending || !sameVectors(other.versionVector, graph.baseVector()) || other.text !== this._baseText) {
      throw new HistoryError("the older history does not make the text that this document began with");
    }
    /** @type {Run[]} */
    const runs = [];
    for (let row = 0; row < graph.lv.length; row++) {
      const start = graph.lv[row];
      const parents = graph.parents[row].length ? graph.idsOf(graph.parents[row]) : graph.baseHeads;
      runs.push({ agent: graph.names[graph.agent[row]], seq: graph.seq[row], parents, log: this._log, start, length: graph.end(row) - start });
    }
    const depth = other._graph.n;
    other._receive(runs);
    if (other.text !== this.text) throw new HistoryError("the older history makes another text");
    this._depth += depth;
    this._graph = other._graph;
    this._log = other._log;
    this._walk = other._walk;
    this._baseText = other._baseText;
    const waiting = this._pending;
    this._pending = [];
    try {
      return this._receive(waiting, origin);
    } catch (error) {
      // What waited is wrong, and not to be kept.
      this._pending = [];
      throw error;
    }
  }

  // --- bytes

  /** Take in an update, as `since` and the Python side's `encode(since=...)` make them. On any error nothing has changed. @param {Uint8Array} data @param {unknown} [origin] @returns {Change} */
  apply(data, origin = null) {
    return this._receive(codec.readUpdate(data, this.id), origin);
  }

  /** The events that are not in a version of this document, as an update. @param {Iterable<Id>} [version] @returns {Uint8Array} */
  since(version = this._graph.baseHeads) {
    const ranges = this._graph.diff(this._graph.lvsOf(version), this._graph.heads)[1].reverse();
    return codec.writeUpdate(this, ranges);
  }

  /** The whole document, with its history, as the Python side's `Document.decode` and files have it. `HistoryError` for a shallow one. */
  encode() {
    if (this.shallow) throw new HistoryError("a shallow document does not have its history: dump() keeps what it has");
    return codec.writeDocument(this);
  }

  /** A document from `encode`'s bytes, uncompressed. `DecodeError`. @param {Uint8Array} data @param {{agent?: string}} [options] */
  static decode(data, options = {}) {
    const { id, start, runs } = codec.readDocument(data);
    const document = new TextDocument({ ...options, id });
    document._receive(runs);
    codec.verify(document, start);
    return document;
  }

  /** All that is here, for `restore`: also what a shallow document begins with, and what waits is left out. */
  dump() {
    return codec.writeDump(this);
  }

  /** A document from `dump`'s bytes. `DecodeError`. @param {Uint8Array} data @param {{agent?: string}} [options] */
  static restore(data, options = {}) {
    const { id, idGiven, agent, start, runs } = codec.readDump(data);
    const document = new TextDocument({ agent, ...options, id });
    if (!idGiven) document._idGiven = "";
    document._begin(start);
    document._receive(runs);
    if (document.pending) throw new DecodeError("this lacks events that others follow");
    return document;
  }

  /** Assert every invariant: for tests. O(events). */
  _check() {
    this._graph._check();
    this._text._check();
    this._walk?._check();
    if (this._log.n !== this._graph.n) throw new Error(`document: ${this._log.n} operations for ${this._graph.n} events`);
    const text = new Text(this._baseText);
    for (const step of replay(this._graph, this._log, this._graph.heads, text.length)) take(text, this._log, step);
    if (text.toString() !== this.text) throw new Error("document: the text is not what its history makes");
  }
}
