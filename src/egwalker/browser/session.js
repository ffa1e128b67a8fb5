/**
 * One end of a link between two replicas: bytes in, bytes and events out, without sockets and clocks
 * (docs/protocol.md).
 *
 * Call `receive` for each message that arrives, in order; send what `poll` returns until that is null, again after
 * each `receive` and `show`, and when the document has changed. What is not sent yet is not kept as bytes.
 */

import { Reader, Writer, fromHex, fromUtf8, toHex, toUtf8 } from "./bytes.js";
import { readLinked, readStart, writeUpdate } from "./codec.js";
import { Table } from "./columns.js";
import { TextDocument } from "./document.js";
import { DecodeError, EgwalkerError, HistoryError, IdentityError, KindError, SyncError } from "./errors.js";
import { compareIds, covers, pushRange } from "./graph.js";
import * as messages from "./messages.js";
import { ACK, BACKLOG, DONE, ERROR, FETCH, HELLO, NAMES, PAST, PRESENCE, START, UPDATE } from "./messages.js";

/** @typedef {import("./graph.js").Id} Id */
/** @typedef {import("./graph.js").Range} Range */
/** @typedef {import("./graph.js").Vector} Vector */
/** @typedef {import("./document.js").Change} Change */
/**
 * What a message meant. `greeted`: the other end is there. `changed`: events came; `remaining` are still to come of
 * what the other end had at first. `synced`: all of that is here. `acknowledged`: how many messages with events have
 * been received there, and how many of them are durable (-1: not even what was there before). `presence`: what
 * somebody tells, null when they left. `deepened`: older history came. `closed`: the link is at its end, and why if
 * for an error.
 * @typedef {{type: "greeted", vector: Vector} | {type: "changed", change: Change, remaining: number} | {type: "synced"}
 *   | {type: "acknowledged", received: number, durable: number} | {type: "presence", key: string, state: any}
 *   | {type: "deepened"} | {type: "closed", error: EgwalkerError | null}} SessionEvent
 */

/** Messages are numbered modulo this. */
const COUNTER = 256;
/** Events in one message. */
const CHUNK_EVENTS = 50_000;
const MAX_NAMES = 1 << 20;
const MAX_PRESENCES = 10_000;

export class Session {
  /**
   * `shallow`: a blank document may begin with the other end's text at some version instead of all history.
   * @param {TextDocument} document @param {{shallow?: boolean}} [options]
   */
  constructor(document, { shallow = false } = {}) {
    this.document = document;
    /** @type {{error: EgwalkerError | null} | null} */ this.closed = null;
    this.greeted = false;
    this.synced = false;
    this.acknowledged = { received: 0, durable: -1 };
    /** Messages with events that have been sent. */ this.sent = 0;
    /** Events the other end still has to send of what it had at first. */ this.remaining = 0;
    this.peerIsDurable = false;
    this.peerIsReadOnly = false;
    this._shallow = shallow;
    this._into = new Table();
    this._out = new Table();
    /** @type {Uint8Array | null} */ this._answer = null;
    this._numberOut = this._numberIn = 0;
    this._helloSent = false;
    this._helloId = "";
    this._helloBlank = false;
    /** Whether a START in answer to HELLO may come. */ this._mayStart = false;
    this._doneSent = false;
    this._backlogBegun = false;
    // Local versions, as the document counted them when its history began `_depth` events earlier than at first: what
    // the other end lacked at first; what was made since, before `_at`, and has not come from there.
    /** @type {Range[]} */ this._backlog = [];
    /** @type {Range[]} */ this._live = [];
    this._at = 0;
    this._depth = document._depth;
    /** @type {number[]} How many events each message sent held that is not confirmed as far as it can be. */ this._unconfirmed = [];
    this._confirmedUpTo = 0;
    this._received = this._confirmed = 0;
    this._ackWasLast = false;
    this._updateWasLast = false;
    /** @type {Set<string>} */ this._shown = new Set();
    /** @type {Map<string, Uint8Array>} */ this._toShow = new Map();
    /** @type {Set<string>} */ this._peersShown = new Set();
    /** @type {{heads: Id[], wanted: Id[]} | null} A FETCH that is to be sent. */ this._toFetch = null;
    /**
     * The answer to a FETCH that is awaited. `older` begins where that does; null until START has come.
     * @type {{heads: Id[], events: number, older: TextDocument | null, remaining: number, table: Table, ordinary: boolean} | null}
     */
    this._fetch = null;
  }

  /** Whether the other end has been sent, or had, all events that are here. */
  get allSent() {
    this.#align();
    return this.greeted && !this._backlog.length && !this._live.length && this._at === this.document._graph.n;
  }

  /**
   * How many of the events here the other end has not said to be durable or, if it does not say that of any, to have
   * received. Meaningful once it has greeted.
   */
  get unsaved() {
    this.#align();
    let n = this.document._graph.n - this._at;
    for (const [start, end] of this._backlog) n += end - start;
    for (const [start, end] of this._live) n += end - start;
    for (const events of this._unconfirmed) n += events;
    return n;
  }

  // --- what is told from here

  /** Tell the other end somebody's presence; null when they left. `SyncError` for what is no JSON or too large. @param {string} key @param {unknown} state */
  show(key, state) {
    const message = messages.writePresence(key, state ?? null);
    if (this.closed) return;
    if (state === null || state === undefined) {
      if (!this._shown.delete(key)) return;
    } else if (!this._shown.has(key)) {
      if (this._shown.size >= MAX_PRESENCES) return;
      this._shown.add(key);
    }
    // Behind those that wait already: a departure first, so that there are never too many.
    this._toShow.delete(key);
    this._toShow.set(key, message);
  }

  /** Ask for the history from before what a shallow document begins with: all of it. */
  fetchAll() {
    if (this.document.shallow) this.#ask(this.document._graph.baseHeads, []);
  }

  /** Close the link for a reason that the other end is told. @param {EgwalkerError} error */
  fail(error) {
    if (!this.closed) {
      this._answer = messages.writeError(error);
      this.#close(error);
    }
  }

  /** @param {EgwalkerError | null} error @returns {SessionEvent} */
  #close(error) {
    this.closed = { error };
    this._toShow.clear();
    return { type: "closed", error };
  }

  // --- out

  /** The next message to send, null if there is none for now. What is wrong here closes the link. @returns {Uint8Array | null} */
  poll() {
    let message;
    try {
      message = this.#poll();
    } catch (error) {
      if (!(error instanceof EgwalkerError)) throw error;
      this.fail(error);
      message = this.#poll();
    }
    if (!message) return null;
    const numbered = new Uint8Array(message.length + 1);
    numbered[0] = message[0];
    numbered[1] = this._numberOut;
    numbered.set(message.subarray(1), 2);
    this._numberOut = (this._numberOut + 1) % COUNTER;
    return numbered;
  }

  /** The next message without its number. @returns {Uint8Array | null} */
  #poll() {
    if (this.closed) {
      const answer = this._answer;
      this._answer = null;
      return answer;
    }
    if (!this._helloSent) {
      this._helloSent = true;
      return this.#hello();
    }
    if (!this.greeted) return null;
    const confirm = this._confirmed < this._received;
    if (!confirm || this._ackWasLast) {
      this._ackWasLast = false;
      const message = this.#next();
      if (message || !confirm) return message;
    }
    this._ackWasLast = true;
    this._confirmed = this._received;
    // Nothing is durable here: a page can be closed at any time.
    return new Writer().byte(ACK).number(this._confirmed).number(0).taken();
  }

  #hello() {
    const { document } = this;
    if (!this.greeted) this.#noteIdentity();
    this._mayStart = this._helloBlank && this._shallow;
    const vector = document.versionVector;
    this._out.add(vector.keys());
    const flags = (this._helloBlank ? messages.BLANK : 0) | (this._mayStart ? messages.SHALLOW : 0) | messages.PLAIN;
    const out = new Writer().byte(HELLO).number(messages.PROTOCOL).number(flags).bytes(fromHex(this._helloId)).sized(toUtf8(document.kind));
    messages.writeVector(out, vector);
    if (out.n >= messages.MAX_HELLO) throw new SyncError(`the version vector has ${out.n} bytes, at most ${messages.MAX_HELLO} are read`);
    return out.taken();
  }

  /** What HELLO says of the document, and what both ends go by. An id that a link gave a blank document is of no weight. */
  #noteIdentity() {
    this._helloId = this.document.id;
    this._helloBlank = this.document._idGiven !== "here" && this.document.blank;
  }

  /** The next message with events or presence, a FETCH, or DONE. */
  #next() {
    this.#align();
    this.#own(this.document._graph.n);
    const sends = !this.peerIsReadOnly;
    if (this._toFetch) {
      const { heads, wanted } = this._toFetch;
      this._toFetch = null;
      return messages.writeFetch(heads, wanted);
    }
    if (sends && this._backlog.length) {
      const blob = this.#encode("_backlog");
      const remaining = this._backlog.reduce((sum, [start, end]) => sum + end - start, 0);
      return new Writer().byte(BACKLOG).number(remaining).bytes(blob).taken();
    }
    if (!this._doneSent) {
      this._doneSent = true;
      return Uint8Array.of(DONE);
    }
    if (sends && this._live.length && !(this._updateWasLast && this._toShow.size)) {
      this._updateWasLast = true;
      return new Writer().byte(UPDATE).bytes(this.#encode("_live")).taken();
    }
    this._updateWasLast = false;
    for (const [key, message] of this._toShow) {
      this._toShow.delete(key);
      return message;
    }
    return null;
  }

  /** An update with the first of some ranges, which it takes out of them. @param {"_backlog" | "_live"} which */
  #encode(which) {
    /** @type {Range[]} */
    const taken = [];
    let room = CHUNK_EVENTS;
    const rest = this[which];
    while (rest.length && room) {
      const [start, end] = rest[0];
      const cut = Math.min(end, start + room);
      taken.push([start, cut]);
      room -= cut - start;
      if (cut === end) rest.shift();
      else rest[0] = [cut, end];
    }
    this.sent++;
    this._unconfirmed.push(CHUNK_EVENTS - room);
    return writeUpdate(this.document, taken, this._out);
  }

  /** The document may have got older history, and count from there. */
  #align() {
    const by = this.document._depth - this._depth;
    if (!by) return;
    this._depth += by;
    this._at += by;
    for (const range of [...this._backlog, ...this._live]) {
      range[0] += by;
      range[1] += by;
    }
  }

  /** What was made before `end` and has not been looked at is for the other end. @param {number} end */
  #own(end) {
    if (this._at < end) pushRange(this._live, this._at, end);
    this._at = Math.max(this._at, end);
  }

  // --- in

  /**
   * Take a message that arrived; returns what it meant. What is malformed, out of order or not allowed closes the
   * link, `poll` then has a message that says why, and the document is as it was. Duplicates are ignored; where a
   * message is missing the link is closed without an error, and a new one brings it.
   * @param {Uint8Array} message @returns {SessionEvent[]}
   */
  receive(message) {
    if (this.closed) return [];
    try {
      return this.#receive(message);
    } catch (error) {
      // Also what should never be: it must not stop the page.
      const found = error instanceof EgwalkerError ? error : new SyncError(`an internal error: ${error}`);
      this.fail(found);
      return [{ type: "closed", error: found }];
    }
  }

  /** @param {Uint8Array} message @returns {SessionEvent[]} */
  #receive(message) {
    if (message.length < 2) throw new SyncError(`a message has ${message.length} bytes`);
    if (message.length > messages.MAX_MESSAGE) throw new SyncError(`a message has ${message.length} bytes, at most ${messages.MAX_MESSAGE} are read`);
    const kind = message[0];
    if (!NAMES[kind]) throw new SyncError(`a message is of the unknown type ${kind}`);
    if (kind === ERROR) return [this.#close(messages.readError(message))];
    const late = (this._numberIn - message[1] + COUNTER) % COUNTER;
    // Seen already; or one is lost.
    if (late) return late < COUNTER / 2 ? [] : [this.#close(null)];
    const name = NAMES[kind];
    if ((kind === HELLO) === this.greeted) throw new SyncError(`${name} came ${this.greeted ? "twice" : "before HELLO"}`);
    if ((kind === UPDATE && !this.synced) || ((kind === BACKLOG || kind === DONE) && this.synced)) {
      throw new SyncError(`${name} came ${this.synced ? "after" : "before"} DONE`);
    }
    try {
      const events = this.#understand(kind, message.subarray(2));
      this._numberIn = (message[1] + 1) % COUNTER;
      return events;
    } catch (error) {
      if (error instanceof DecodeError) throw new SyncError(`${name}: ${error.message}`);
      throw error;
    }
  }

  /** @param {number} kind @param {Uint8Array} body @returns {SessionEvent[]} */
  #understand(kind, body) {
    const reader = new Reader(body, NAMES[kind]);
    switch (kind) {
      case HELLO:
        return this.#greet(reader);
      case START:
        return this.#start(body);
      case PAST:
        return this.#past(reader);
      case FETCH:
        throw new SyncError("this end does not answer FETCH");
      case ACK:
        return this.#acknowledge(reader);
      case PRESENCE:
        return this.#presence(reader);
      case DONE:
        reader.end();
        if (this.remaining) throw new SyncError(`DONE came before ${this.remaining} events`);
        this.synced = true;
        return [{ type: "synced" }];
      case UPDATE:
        return this.#update(body, 0);
    }
    const remaining = reader.number();
    if (this._backlogBegun && remaining >= this.remaining) throw new SyncError(`${remaining} events are said to remain, of ${this.remaining}`);
    const events = this.#update(body.subarray(reader.at), remaining);
    this._backlogBegun = true;
    this.remaining = remaining;
    return events;
  }

  /** @param {Reader} reader @returns {SessionEvent[]} */
  #greet(reader) {
    if (reader.data.length + 2 > messages.MAX_HELLO) throw new SyncError(`HELLO has ${reader.data.length} bytes, at most ${messages.MAX_HELLO} are read`);
    const protocol = reader.number();
    if (protocol !== messages.PROTOCOL) throw new SyncError(`the other end speaks version ${protocol} of the protocol, this one ${messages.PROTOCOL}`);
    const flags = reader.flags();
    const id = toHex(reader.take(16));
    const kind = fromUtf8(reader.take(reader.number()), "the kind");
    const vector = messages.readVector(reader);
    const { document } = this;
    if (kind !== document.kind) throw new KindError(`the other end has a document of kind ${JSON.stringify(kind.slice(0, 80))}, this one is of "text"`);
    if (!this._helloSent) this.#noteIdentity();
    if (!this.#identify(id, Boolean(flags & messages.BLANK))) return [this.#close(null)];
    this.#align();
    const graph = document._graph;
    if (!covers(vector, graph.baseVector())) {
      throw new HistoryError("the other end lacks events that this document has no history of any more: it begins at a later version");
    }
    this._backlog = graph.lacking(vector);
    this._at = graph.n;
    this.peerIsDurable = Boolean(flags & messages.DURABLE);
    this.peerIsReadOnly = Boolean(flags & messages.READ_ONLY);
    this._into.add(vector.keys());
    this.greeted = true;
    this.#fetchIfNeeded();
    return [{ type: "greeted", vector }];
  }

  /** Agree on an id, by what both HELLOs say alone. False if the document has taken on another one since. @param {string} id @param {boolean} blank */
  #identify(id, blank) {
    const { document } = this;
    const mine = this._helloId;
    let agreed = mine;
    if (id !== mine && !(blank && !this._helloBlank)) {
      if (!this._helloBlank) throw new IdentityError(`the other end has document ${id}, this is ${mine}`);
      agreed = blank && mine < id ? mine : id;
    }
    if (document.id !== agreed) {
      if (document.id !== mine) return false;
      document.id = agreed;
    }
    if (!this._helloSent) {
      this._helloId = agreed;
      this._helloBlank = false;
    }
    document._idGiven ||= "elsewhere";
    return true;
  }

  /** @param {Uint8Array} blob @param {number} remaining @returns {SessionEvent[]} */
  #update(blob, remaining) {
    if (this._into.names.length > MAX_NAMES) throw new SyncError(`more than ${MAX_NAMES} agents were named`);
    const { document } = this;
    this._mayStart = false;
    const change = this.#take(readLinked(blob, document.id, this._into));
    this._received++;
    this.#fetchIfNeeded();
    return [{ type: "changed", change, remaining }];
  }

  /** Take in what the other end has: it is not sent back. @param {import("./document.js").Run[]} runs */
  #take(runs) {
    const { document } = this;
    this.#align();
    const before = document._graph.n;
    const waiting = document._pending.length;
    return document._receive(runs, this, () => {
      // With what waited before something else may have come in, which goes back with all of it.
      if (waiting) return;
      this.#own(before);
      this._at = document._graph.n;
    });
  }

  /** @param {Reader} reader @returns {SessionEvent[]} */
  #acknowledge(reader) {
    const received = reader.number();
    const durable = reader.number() - 1;
    reader.end();
    const old = this.acknowledged;
    if (received < old.received || received > this.sent || durable < old.durable || durable > received) {
      throw new SyncError(`${received} messages are said to be received, ${durable} durable, of ${this.sent}`);
    }
    this.acknowledged = { received, durable };
    const upTo = this.peerIsDurable ? durable : received;
    for (; this._confirmedUpTo < upTo; this._confirmedUpTo++) this._unconfirmed.shift();
    return [{ type: "acknowledged", received, durable }];
  }

  /** @param {Reader} reader @returns {SessionEvent[]} */
  #presence(reader) {
    const { key, state } = messages.readPresence(reader);
    if (state === null) this._peersShown.delete(key);
    else if (!this._peersShown.has(key)) {
      if (this._peersShown.size >= MAX_PRESENCES) throw new SyncError(`more than ${MAX_PRESENCES} presences came`);
      this._peersShown.add(key);
    }
    return [{ type: "presence", key, state }];
  }

  // --- where history begins

  /** @param {Id[]} heads @param {Id[]} wanted @param {boolean} [ordinary] */
  #ask(heads, wanted, ordinary = false) {
    if (this._fetch || this.closed) return;
    // What does not fit is asked for by asking for all.
    const fits = messages.writeFetch(heads, wanted).length < messages.MAX_FETCH;
    this._toFetch = { heads: heads.slice().sort(compareIds), wanted: fits ? wanted.slice().sort(compareIds) : [] };
    this._fetch = { heads: this._toFetch.heads, events: ordinary ? Infinity : this.document._graph.baseEvents, older: null, remaining: 0, table: new Table(), ordinary };
  }

  #fetchIfNeeded() {
    const wanted = this.greeted && !this._fetch ? this.document._needed() : null;
    if (wanted) this.#ask(this.document._graph.baseHeads, wanted);
  }

  /** @param {Uint8Array} blob @returns {SessionEvent[]} */
  #start(blob) {
    const { document } = this;
    const start = readStart(blob, document.id);
    if (!this._fetch) {
      if (!this._mayStart || this.synced) throw new SyncError("START came, and was not asked for");
      this._mayStart = false;
      if (!start.heads.length) throw new SyncError("START is of the empty version");
      if (!document.blank) {
        // Somebody typed before it came: then all history is needed, and is like any other.
        this.#ask(start.heads, [], true);
        return [];
      }
      document._begin(start);
      return [];
    }
    const fetch = this._fetch;
    if (fetch.older || this._toFetch) throw new SyncError("START came, and was not asked for");
    fetch.older = new TextDocument({ agent: document.agent, id: document.id });
    if (start.heads.length) {
      if (fetch.ordinary) throw new SyncError("START is of a version, all history was asked for");
      fetch.older._begin(start);
    }
    fetch.remaining = fetch.events - fetch.older._graph.baseEvents;
    // The same one again: this end cannot get at what it needs.
    if (fetch.remaining <= 0) throw new HistoryError("the other end has no older history");
    return [];
  }

  /** @param {Reader} reader @returns {SessionEvent[]} */
  #past(reader) {
    const { document, _fetch: fetch } = this;
    if (!fetch || !fetch.older) throw new SyncError("PAST came, and was not asked for");
    const remaining = reader.number();
    if (remaining >= fetch.remaining) throw new SyncError(`${remaining} events of the past are said to remain, of ${fetch.remaining}`);
    const runs = readLinked(reader.take(reader.left), document.id, fetch.table);
    fetch.remaining = remaining;
    if (fetch.ordinary) {
      const change = this.#take(runs);
      if (!remaining) this._fetch = null;
      return [{ type: "changed", change, remaining: this.remaining }];
    }
    fetch.older._receive(runs);
    if (remaining) return [];
    this._fetch = null;
    // Another link may have brought it meanwhile.
    if (String(fetch.heads) !== String(document._graph.baseHeads.slice().sort(compareIds))) return [];
    document._deepen(fetch.older, this);
    this.#fetchIfNeeded();
    return [{ type: "deepened" }];
  }
}
