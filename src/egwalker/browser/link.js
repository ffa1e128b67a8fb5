/** A document linked to a server's over a WebSocket, for as long as the page wants, through lost connections. */

import { EgwalkerError, SyncError, report } from "./errors.js";
import { writePresence } from "./messages.js";
import { Session } from "./session.js";

/** @typedef {import("./document.js").TextDocument} TextDocument */
/** @typedef {import("./document.js").Change} Change */
/**
 * `connected`: there is a connection, and the other end has said which document it has. `synced`: all that it had then
 * is here. `saved`: all that is here is durable there, or was received if it does not say. `readOnly`: it takes no
 * edits. `error`: why the link has ended for good; `attempts`: how many connections have failed one after another.
 * @typedef {{connected: boolean, synced: boolean, saved: boolean, readOnly: boolean, attempts: number, error: EgwalkerError | null}} Status
 */
/**
 * `token` says who is there. `shallow`: a blank document begins with the server's text, not with its history.
 * `unsaved`: how many events of a restored document were not saved when it was kept. `WebSocket`: the class to use.
 * @typedef {object} Options
 * @property {string} [token] @property {boolean} [shallow] @property {number} [unsaved] @property {any} [WebSocket]
 * @property {(status: Status, link: Link) => void} [onStatus]
 * @property {(key: string, state: any, link: Link) => void} [onPresence]
 * @property {(change: Change, link: Link) => void} [onChange] Of each change of the document, local or not.
 */

/** Milliseconds before the second attempt; each further one waits twice as long, up to the most. */
const FIRST_WAIT = 500;
const LONGEST_WAIT = 30_000;
/** Until an attempt is given up, or a connection on which nothing is answered. */
const PATIENCE = 20_000;
/** Between two presences, so that moving a caret costs little. */
const PRESENCE_WAIT = 40;
/** Bytes that may wait in the socket before more is given to it. */
const MOST_BUFFERED = 1 << 20;
/** Codes of a WebSocket's end that say that it would end so again. */
const REFUSED = new Set([1002, 1003, 1007, 1008, 1009]);

/** The address of a document as one of a WebSocket. @param {string | URL} url @param {string} [token] */
function socketUrl(url, token) {
  const found = new URL(url, globalThis.location?.href);
  found.protocol = found.protocol.replace(/^http/, "ws");
  found.hash = "";
  if (token !== undefined) found.searchParams.set("token", token);
  return found.href;
}

export class Link {
  /** @param {TextDocument} document @param {string | URL} url `ws:`, `wss:`, `http:`, `https:`, or relative to the page. @param {Options} [options] */
  constructor(document, url, options = {}) {
    this.document = document;
    this._key = document.agent; // whoever edits later, it is the same presence
    this.url = socketUrl(url, options.token);
    this.options = options;
    /** @type {Session | null} */ this.session = null;
    /** What others tell of themselves, by key. @type {Map<string, any>} */ this.presences = new Map();
    /** @type {Map<string, any>} */ this._mine = new Map();
    /** @type {any} */ this._socket = null;
    /** @type {EgwalkerError | null} */ this._error = null;
    this._open = false;
    this._attempts = 0;
    /** @type {any} */ this._retry = null;
    /** @type {any} */ this._flushTimer = null;
    /** @type {any} */ this._presenceTimer = null;
    /** @type {any} */ this._watch = null;
    this._flushing = false;
    this._heard = 0;
    this._telling = false;
    this._told = "";
    // How many events were not saved when there was no connection last, and how many there were in all then; after
    // the greeting of who tells what is durable: those that it has, or may have, but has not said to be.
    this._carried = options.unsaved ?? 0;
    this._counted = this.#events();
    this._doubt = 0;
    /** @type {Set<() => void>} */ this._watchers = new Set();
    /** @type {Map<string, Set<(...args: any[]) => void>>} Besides those of the options. */ this._listeners = new Map();
    /** @type {(() => void)[]} */ this._undo = [];
  }

  /** Begin to connect. Returns the link. */
  start() {
    if (this._open || this._error) return this;
    this._open = true;
    this._undo.push(this.document.subscribe((change) => {
      this.options.onChange?.(change, this);
      this.#soon();
    }));
    this.#listen("online", () => this.#now());
    this.#listen("pageshow", () => this.#now());
    this.#listen("offline", () => this.#lost());
    this.#connect();
    return this;
  }

  /** End it. What is not sent stays in the document. */
  close() {
    if (!this._open) return;
    this._open = false;
    for (const undo of this._undo.splice(0)) undo();
    this.#lost();
  }

  /** Tell the others something of who is here, such as where the caret is: JSON of at most 4,096 bytes; null: gone. `SyncError`. @param {any} state @param {string} [key] */
  show(state, key = this._key) {
    // Checked even while there is nobody to be told.
    writePresence(key, state ?? null);
    if (state === null || state === undefined) this._mine.delete(key);
    else this._mine.set(key, state);
    this.session?.show(key, state);
    this._presenceTimer ??= setTimeout(() => {
      this._presenceTimer = null;
      this.#flush();
    }, PRESENCE_WAIT);
  }

  /**
   * Be told, besides the options' `onStatus` and `onPresence`, with the same arguments; returns a function that ends it.
   * @param {"status" | "presence"} name @param {(...args: any[]) => void} fn @returns {() => void}
   */
  on(name, fn) {
    const listeners = this._listeners.get(name) ?? new Set();
    this._listeners.set(name, listeners.add(fn));
    return () => void listeners.delete(fn);
  }

  /** How many events of the document the server has not said to be saved. */
  get unsaved() {
    const { session } = this;
    if (!session?.greeted) return this._carried + this.#events() - this._counted;
    // What was not saved when the connection was lost, and came there nevertheless, is so only when it says so.
    const doubtful = session.peerIsDurable && session.acknowledged.durable < 0;
    return session.unsaved + (doubtful ? this._doubt : 0);
  }

  /** @returns {Status} */
  get status() {
    const greeted = Boolean(this.session?.greeted);
    return {
      connected: greeted,
      synced: greeted && Boolean(this.session?.synced),
      saved: this.unsaved === 0,
      readOnly: greeted && Boolean(this.session?.peerIsReadOnly),
      attempts: this._attempts,
      error: this._error,
    };
  }

  /** Resolves when all that the server had is here, now or at the next connection; rejects when the link ends. @returns {Promise<void>} */
  synced() {
    return this.#until((status) => status.synced);
  }

  /** Resolves when all that is here is saved there; rejects when the link ends. @returns {Promise<void>} */
  saved() {
    return this.#until((status) => status.connected && status.saved);
  }

  /** @param {(status: Status) => boolean} holds @returns {Promise<void>} */
  #until(holds) {
    return new Promise((resolve, reject) => {
      const look = () => {
        if (holds(this.status)) resolve();
        else if (!this._open) reject(this._error ?? new SyncError("the link was closed"));
        else return false;
        return true;
      };
      if (!look()) {
        const watcher = () => void (look() && this._watchers.delete(watcher));
        this._watchers.add(watcher);
      }
    });
  }

  /** How many events were ever made or came since the document was made in this page; history from before it does not count. */
  #events() {
    return this.document._graph.n - this.document._depth;
  }

  // --- connections

  /** @param {string} name @param {() => void} fn */
  #listen(name, fn) {
    if (typeof globalThis.addEventListener !== "function") return;
    globalThis.addEventListener(name, fn);
    this._undo.push(() => globalThis.removeEventListener(name, fn));
  }

  /** Connect at once if that was to happen later. */
  #now() {
    if (!this._open || this._socket) return;
    this._attempts = 0;
    clearTimeout(this._retry);
    this.#connect();
  }

  #connect() {
    this._retry = null;
    if (!this._open || this._socket) return;
    const WebSocket = this.options.WebSocket ?? globalThis.WebSocket;
    let socket;
    try {
      socket = new WebSocket(this.url);
    } catch (error) {
      this.#end(new SyncError(`cannot connect to ${this.url}: ${/** @type {Error} */ (error).message}`));
      return;
    }
    socket.binaryType = "arraybuffer";
    this._socket = socket;
    this._heard = Date.now();
    this._watch = setInterval(() => this.#look(), PATIENCE / 4);
    socket.onopen = () => {
      if (socket !== this._socket) return;
      const session = (this.session = new Session(this.document, { shallow: this.options.shallow ?? true }));
      for (const [key, state] of this._mine) session.show(key, state);
      this._heard = Date.now();
      this.#flush();
    };
    socket.onmessage = (/** @type {{data: unknown}} */ { data }) => {
      if (socket === this._socket) this.#arrived(data);
    };
    socket.onclose = (/** @type {{code: number, reason: string}} */ { code, reason }) => {
      if (socket !== this._socket) return;
      if (REFUSED.has(code)) this.#end(new SyncError(`the other end closed the link: ${code} ${reason}`.trim()));
      else this.#lost();
    };
    socket.onerror = () => {};
    this.#tell();
  }

  /** Let go of a connection on which nothing comes though something is awaited. */
  #look() {
    const { session, _socket: socket } = this;
    if (!socket) return;
    const awaited = !session?.greeted || session.acknowledged.received < session.sent;
    if (awaited && !socket.bufferedAmount && Date.now() - this._heard > PATIENCE) this.#lost();
  }

  /** There is no connection any more; there will be one later. */
  #lost() {
    const { _socket: socket } = this;
    if (socket) {
      this._carried = this.unsaved;
      this._counted = this.#events();
      this._socket = this.session = null;
      socket.onopen = socket.onmessage = socket.onclose = null;
      clearInterval(this._watch);
      try {
        socket.close(1000);
      } catch {
        // It was not open.
      }
      for (const key of [...this.presences.keys()]) this.#present(key, null);
    }
    clearTimeout(this._retry);
    clearTimeout(this._flushTimer);
    this._flushTimer = null;
    if (this._open) {
      const wait = Math.min(LONGEST_WAIT, FIRST_WAIT * 2 ** this._attempts) * (0.5 + Math.random());
      this._attempts++;
      this._retry = setTimeout(() => this.#connect(), wait);
    }
    this.#tell();
  }

  /** The link is at its end. @param {EgwalkerError} error */
  #end(error) {
    this._error = error;
    if (this._open) this.close();
    else this.#tell();
  }

  // --- messages

  /** @param {unknown} data */
  #arrived(data) {
    const session = /** @type {Session} */ (this.session);
    this._heard = Date.now();
    if (!(data instanceof ArrayBuffer)) {
      session.fail(new SyncError("a message is text, not bytes"));
      this.#flush();
      this.#end(/** @type {EgwalkerError} */ (session.closed?.error));
      return;
    }
    // A greeting tells what of that which was not saved has come there.
    const before = session.greeted ? 0 : this.unsaved;
    for (const event of session.receive(new Uint8Array(data))) {
      if (event.type === "greeted") {
        this._attempts = 0;
        this._doubt = Math.max(0, before - session.unsaved);
      } else if (event.type === "presence") this.#present(event.key, event.state);
      else if (event.type === "closed") {
        this.#flush();
        if (event.error) this.#end(event.error);
        else this.#lost();
        return;
      }
    }
    this.#flush();
  }

  /** @param {string} key @param {any} state */
  #present(key, state) {
    if (state === null) this.presences.delete(key);
    else this.presences.set(key, state);
    this.#call("presence", this.options.onPresence, key, state);
  }

  /** Send when what is being done is done: several edits are one message. */
  #soon() {
    if (this._flushing) return;
    this._flushing = true;
    queueMicrotask(() => {
      this._flushing = false;
      this.#flush();
    });
  }

  /** Give the socket what it takes. */
  #flush() {
    const { session, _socket: socket } = this;
    if (session && socket?.readyState === 1) {
      for (;;) {
        if (socket.bufferedAmount > MOST_BUFFERED) {
          this._flushTimer ??= setTimeout(() => {
            this._flushTimer = null;
            this.#flush();
          }, 50);
          break;
        }
        const message = session.poll();
        if (!message) break;
        socket.send(message);
      }
    }
    this.#tell();
  }

  /** Tell who waits, and soon, once for all that happens now, whoever wants to know the status. */
  #tell() {
    for (const watcher of [...this._watchers]) watcher();
    if (this._telling) return;
    this._telling = true;
    queueMicrotask(() => {
      this._telling = false;
      const { status } = this;
      const text = JSON.stringify([status, this.unsaved]);
      if (text === this._told) return;
      this._told = text;
      this.#call("status", this.options.onStatus, status);
    });
  }

  /** Tell whoever wants to know. @param {string} name @param {((...args: any[]) => void) | undefined} first @param {any[]} facts */
  #call(name, first, ...facts) {
    for (const fn of [first, ...(this._listeners.get(name) ?? [])]) {
      try {
        fn?.(...facts, this);
      } catch (error) {
        report(error);
      }
    }
  }
}

/** Link a document to a server's. @param {string | URL} url @param {TextDocument} document @param {Options} [options] */
export function connect(url, document, options = {}) {
  return new Link(document, url, options).start();
}
