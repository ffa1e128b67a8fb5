/**
 * Documents kept in this browser, in IndexedDB: they open without a connection, and what was typed survives the tab.
 *
 * Each tab is a replica with an agent of its own, and keeps that replica in a record of its own, so that two tabs
 * never edit under one name nor overwrite what the other has. A tab that opens a document begins with the last of its
 * records that has what the server may lack. The others that do are brought to the server by links of their own, and
 * only what the server has made durable is forgotten.
 *
 * A replica is kept whole once in a while, and in between as updates with what came since: to keep a keystroke in a
 * text of a megabyte does not write a megabyte.
 */

import { TextDocument } from "./document.js";
import { Link } from "./link.js";

const DATABASE = "egwalker";
const FACTS = "facts"; // of each replica, by key: url, base, name, changed, unsaved (how many events), stamp
const DUMPS = "dumps"; // of each replica, by the same key: bytes; and by [key, number] the updates since, in their order
/** Updates until a replica is kept whole again, and how much smaller than that they are together. */
const UPDATES = 200;
const SMALLER = 4;
/** Milliseconds after an edit here until it is kept, if the server has not confirmed it by then. */
const SOON = 200;
/** And until what came from elsewhere, or is confirmed, is. */
const LATER = 3000;
/** Keeping may take this part of the time: large documents are kept less often. */
const SHARE = 0.05;
/** Milliseconds for which what the server has, too, is kept. */
const LONG = 90 * 24 * 3600 * 1000;

/** @type {Promise<IDBDatabase> | null} */
let opened = null;

/** @returns {Promise<IDBDatabase>} */
function database() {
  opened ??= new Promise((resolve, reject) => {
    const request = indexedDB.open(DATABASE, 1);
    request.onupgradeneeded = () => {
      const facts = request.result.createObjectStore(FACTS, { keyPath: "key" });
      facts.createIndex("url", "url");
      facts.createIndex("base", "base");
      request.result.createObjectStore(DUMPS);
    };
    request.onsuccess = () => {
      request.result.onversionchange = () => request.result.close();
      request.result.onclose = () => { opened = null; };
      resolve(request.result);
    };
    request.onerror = () => reject(request.error);
  });
  opened.catch(() => { opened = null; });
  return opened;
}

/**
 * Do something in one transaction; what the requests that `work` returns found, once all of it is done.
 * @param {IDBTransactionMode} mode @param {(facts: IDBObjectStore, dumps: IDBObjectStore) => IDBRequest[] | void} work
 * @returns {Promise<any[]>}
 */
async function transact(mode, work) {
  const transaction = (await database()).transaction([FACTS, DUMPS], mode, { durability: "strict" });
  const requests = work(transaction.objectStore(FACTS), transaction.objectStore(DUMPS));
  return new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve((requests ?? []).map(({ result }) => result));
    transaction.onabort = () => reject(transaction.error);
  });
}

/** The updates of a replica. @param {string} key */
function updatesOf(key) {
  return IDBKeyRange.bound([key, 0], [key, Infinity]);
}

/** The document of a replica. `DecodeError`. @param {string} key @param {string} agent */
async function read(key, agent) {
  const [dump, updates] = await transact("readonly", (_, dumps) => [dumps.get(key), dumps.getAll(updatesOf(key))]);
  const document = TextDocument.restore(dump, { agent });
  for (const update of updates) document.apply(update);
  return document;
}

/** @param {IDBObjectStore} facts @param {IDBObjectStore} dumps @param {string} key */
function remove(facts, dumps, key) {
  facts.delete(key);
  dumps.delete(key);
  dumps.delete(updatesOf(key));
}

/** Forget a replica, unless it has been written again since. @param {{key: string, stamp: string}} record */
function forget({ key, stamp }) {
  return transact("readwrite", (facts, dumps) => {
    const request = facts.get(key);
    request.onsuccess = () => {
      if (request.result?.stamp === stamp) remove(facts, dumps, key);
    };
  });
}

/** @param {number} bytes */
function random(bytes) {
  return [...crypto.getRandomValues(new Uint8Array(bytes))].map((byte) => (byte % 36).toString(36)).join("");
}

/**
 * An agent's name that no other tab has: a person's name, which is for people to read, and something random.
 * @param {string} name
 */
export function agentNamed(name) {
  let said = "";
  for (const char of name.toWellFormed().normalize("NFC").replace(/[\p{C}\p{Zl}\p{Zp}]/gu, "").trim()) {
    if (new TextEncoder().encode(said + char).length > 60) break;
    said += char;
  }
  return `${said || "somebody"}.${random(8)}`;
}

/**
 * The documents below an address that this browser has: `unsaved` ones have edits that no server may have.
 * @param {string | URL} base @returns {Promise<{name: string, changed: number, unsaved: boolean}[]>}
 */
export async function keptDocuments(base) {
  const found = new Map();
  const [records] = await transact("readonly", (facts) => [facts.index("base").getAll(String(base))]);
  for (const { name, changed, unsaved } of records) {
    const other = found.get(name);
    found.set(name, {
      name, changed: Math.max(changed, other?.changed ?? 0), unsaved: unsaved > 0 || Boolean(other?.unsaved),
    });
  }
  return [...found.values()].sort((a, b) => b.changed - a.changed);
}

/** Forget all that this browser has of a document, edits that no server has, too. @param {string} url */
export async function discardKept(url) {
  const [records] = await transact("readonly", (facts) => [facts.index("url").getAll(url)]);
  await transact("readwrite", (facts, dumps) => {
    for (const { key } of records) remove(facts, dumps, key);
  });
}

/**
 * A document as this browser has it, or a blank one if it has none: to be linked and kept by `connect`.
 * @param {string} url The document's address, `http:` or `https:`.
 * @param {{agent?: string}} [options] `agent` is one that nobody has used, see `agentNamed`; by default a random one.
 * @returns {Promise<Keeper>}
 */
export async function openKept(url, { agent = agentNamed("") } = {}) {
  const keeper = new Keeper(url, new TextDocument({ agent }));
  try {
    await keeper._open(agent);
  } catch (error) {
    // A browser may not be allowed to keep anything: it can still edit.
    keeper.error = /** @type {Error} */ (error);
  }
  return keeper;
}

class Keeper {
  /** @param {string} url @param {TextDocument} document */
  constructor(url, document) {
    this.url = url;
    this.document = document;
    /** Whether this browser had the document. */
    this.found = false;
    /** @type {Error | null} Why nothing is kept. */
    this.error = null;
    /** Called when `safe` or `error` changed. @type {() => void} */
    this.onchange = () => {};
    /** @type {Link | null} */
    this.link = null;
    this._key = `${url} ${document.agent}`;
    this._inherited = 0; // events of an earlier tab that the server may lack
    /** @typedef {{key: string, stamp: string, unsaved: number}} Replica */
    /** @type {Replica | null} What this one began with. */
    this._first = null;
    /** @type {Replica[]} Other replicas there were. */
    this._others = [];
    this._edits = 0; // that were made here
    this._keptEdits = 0; // of them, those that are kept
    this._news = false; // there is something that is not kept, be it from elsewhere
    /** @type {{graph: object, id: string, version: [string, number][], number: number, whole: number, updates: number} | null} What is kept as a whole, and how much since. */
    this._kept = null;
    this._cost = 0; // milliseconds that keeping took
    this._timer = 0;
    this._due = Infinity;
    /** @type {Promise<void> | null} */
    this._writing = null;
    this._marked = false; // what is kept says that it is unsaved
  }

  /** Whether all edits made here are kept, so that they survive this tab. */
  get safe() {
    return !this.error && this._keptEdits === this._edits;
  }

  /** @param {string} agent */
  async _open(agent) {
    const [records] = await transact("readonly", (facts) => [facts.index("url").getAll(this.url)]);
    // Those with edits that the server may lack first, of them the latest.
    records.sort((a, b) => Number(b.unsaved > 0) - Number(a.unsaved > 0) || b.changed - a.changed);
    for (const record of records) {
      if (!this._first) {
        try {
          this.document = await read(record.key, agent);
          this._first = record;
          continue;
        } catch (error) {
          console.error(`what this browser kept of ${this.url} cannot be read`, error);
        }
      }
      this._others.push(record);
    }
    if (!this._first) return;
    this.found = this._news = true;
    this._inherited = this._first.unsaved;
  }

  /**
   * Link the document to the server, and keep it from now on, with what earlier tabs have left.
   * @param {import("./link.js").Options} [options] @returns {Link}
   */
  connect(options = {}) {
    const link = (this.link = new Link(this.document, this.url, { ...options, unsaved: this._inherited }));
    link.on("status", () => this._statusChanged());
    this.document.subscribe(({ local }) => {
      this._news = true;
      if (local) this._edits++;
      this._plan(local ? SOON : LATER);
    });
    addEventListener("pagehide", () => this.write());
    document.addEventListener("visibilitychange", () => document.hidden && this.write());
    if (!this.error) {
      // What it began with is there until then.
      this._plan(this._inherited ? SOON : LATER);
      void this._deliver();
    }
    return link.start();
  }

  /** Whether the server may lack some of what is here. */
  get unsaved() {
    return this._unsaved > 0;
  }

  get _unsaved() {
    return this.link ? this.link.unsaved : this._inherited;
  }

  _statusChanged() {
    if (!this.unsaved && this._marked) this._plan(SOON);
    else if (this.unsaved && !this.safe) this._plan(SOON);
  }

  /** @param {number} delay */
  _plan(delay) {
    const due = performance.now() + Math.max(delay, this._cost / SHARE);
    if (this._writing || due >= this._due) return;
    clearTimeout(this._timer);
    this._due = due;
    this._timer = setTimeout(() => {
      this._due = Infinity;
      // What the server has made durable meanwhile can wait.
      if (delay === SOON && !this.unsaved && !this._marked) {
        this._keptEdits = this._edits;
        this.onchange();
        this._plan(LATER);
      } else void this.write();
    }, due - performance.now());
  }

  /** Keep what there is now. */
  write() {
    this._writing ??= this._write().finally(() => {
      this._writing = null;
      if (this._news && !this.error) this._plan(this.safe ? LATER : SOON);
      this._statusChanged();
    });
    return this._writing;
  }

  async _write() {
    const unsaved = this._unsaved;
    if (this.error || (!this._news && unsaved > 0 === this._marked)) return;
    const edits = this._edits;
    const began = performance.now();
    const news = this._news ? this._take() : null;
    this._cost = Math.max(performance.now() - began, this._cost / 2);
    this._news = false;
    const { pathname } = new URL(this.url);
    const record = {
      key: this._key, url: this.url, base: new URL("./", this.url).href, changed: Date.now() / 1000, unsaved,
      name: decodeURIComponent(pathname.slice(pathname.lastIndexOf("/") + 1)), stamp: random(12),
    };
    try {
      await transact("readwrite", (facts, dumps) => {
        facts.put(record);
        if (news) {
          if (!news.number) dumps.delete(updatesOf(this._key));
          dumps.put(news.bytes, news.number ? [this._key, news.number] : this._key);
        }
        // At once, as the page may be left now: in WebKit it would hold up whatever page comes next, for as long as one can
        // go back to it.
        facts.transaction.commit();
      });
      this._marked = unsaved > 0;
      this._keptEdits = Math.max(edits, this._keptEdits);
      // Some browsers ask whoever sits there: not because a server takes its time.
      if (unsaved > 0 && !this.link?.status.connected) void navigator.storage?.persist?.().catch(() => {});
      await this._forgetOthers();
    } catch (error) {
      this._news = true;
      this.error = /** @type {Error} */ (error);
    }
    this.onchange();
  }

  /** What there is to be kept: an update to what is kept already, with its number, or all, which is number 0. */
  _take() {
    const { document, _kept: kept } = this;
    const { version, id, _graph: graph } = document; // a graph has one base for as long as it is there
    if (kept && kept.graph === graph && kept.id === id && kept.number < UPDATES && SMALLER * kept.updates < kept.whole) {
      const bytes = document.since(kept.version);
      this._kept = { ...kept, version, number: kept.number + 1, updates: kept.updates + bytes.length };
      return { bytes, number: this._kept.number };
    }
    const bytes = document.dump();
    // What is blank may still become another document.
    this._kept = document.blank ? null : { graph, id, version, number: 0, whole: bytes.length, updates: 0 };
    return { bytes, number: 0 };
  }

  /** What is in this replica now, or has been on the server for long, is not needed any more. */
  async _forgetOthers() {
    if (this._first) await forget(this._first);
    this._first = null;
    for (const other of this._others) if (!(other.unsaved > 0)) await forget(other);
    const old = Date.now() / 1000 - LONG / 1000;
    const [records] = await transact("readonly", (facts) => [facts.getAll()]);
    for (const record of records) if (!(record.unsaved > 0) && record.changed < old) await forget(record);
  }

  /** Bring to the server what other tabs have kept and may not have delivered. */
  async _deliver() {
    for (const record of this._others.filter((other) => other.unsaved > 0)) {
      try {
        const replica = await read(record.key, agentNamed(""));
        const link = new Link(replica, this.url, { unsaved: record.unsaved }).start();
        link.saved().then(() => {
          link.close();
          return forget(record);
        }).catch((error) => console.warn(`what this browser kept of ${this.url} is not delivered`, error));
      } catch (error) {
        console.error(`what this browser kept of ${this.url} cannot be delivered`, error);
      }
    }
  }
}
