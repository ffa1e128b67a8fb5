import assert from "node:assert/strict";
import { test } from "node:test";

import { Session, SyncError, TextDocument, connect } from "../../src/egwalker/browser/egwalker.js";
import { Writer } from "../../src/egwalker/browser/bytes.js";
import { DOC_ID } from "./histories.js";

/** A server in this process that sockets connect to; it can be gone, and it says what is durable when told so. */
class Server {
  constructor() {
    this.document = new TextDocument({ agent: "server", id: DOC_ID });
    this.sockets = [];
    this.up = true;
    this.durable = true;
    this.stores = true;
    const server = this;
    this.WebSocket = class {
      constructor(url) {
        this.url = url;
        this.readyState = 0;
        this.bufferedAmount = 0;
        server.sockets.push(this);
        queueMicrotask(() => (server.up ? this.#open() : this.end(1006)));
      }

      #open() {
        if (this.readyState) return;
        this.readyState = 1;
        this.session = new Session(server.document);
        this.received = 0;
        this.onopen?.();
        this.#say();
      }

      send(message) {
        assert.equal(this.readyState, 1);
        for (const event of this.session.receive(Uint8Array.from(message))) if (event.type === "changed") this.received++;
        server.sockets.filter((socket) => socket.readyState === 1).forEach((socket) => socket.#say());
      }

      /** What its session says: that of a place that is durable, if it is to be one. */
      #say() {
        queueMicrotask(() => {
          for (let message; this.session && (message = this.session.poll()); ) {
            if (server.durable && message[0] === 1) message[3] |= 2;
            if (server.durable && message[0] === 5 && server.stores) message = Uint8Array.from([5, message[1], ...new Writer().number(this.session._received).number(this.session._received + 1).taken()]);
            this.onmessage?.({ data: message.buffer.slice(message.byteOffset, message.byteOffset + message.length) });
          }
        });
      }

      /** Its document has changed. */
      poke() {
        this.#say();
      }

      /** An ACK that says that all is durable. */
      store() {
        const { session } = this;
        const message = Uint8Array.from([5, session._numberOut, ...new Writer().number(session._received).number(session._received + 1).taken()]);
        session._numberOut = (session._numberOut + 1) % 256;
        this.onmessage?.({ data: message.buffer });
      }

      end(code = 1006, reason = "") {
        if (this.readyState === 3) return;
        this.readyState = 3;
        this.session = null;
        this.onclose?.({ code, reason });
      }

      close() {
        this.readyState = 3;
        this.session = null;
      }
    };
  }

  get last() {
    return this.sockets.at(-1);
  }
}

const settle = async () => {
  for (let i = 0; i < 50; i++) await null;
};

function page(t, server, options = {}) {
  t.mock.timers.enable({ apis: ["setTimeout", "setInterval", "Date"] });
  const doc = options.document ?? new TextDocument({ agent: "ann" });
  const statuses = [];
  const link = connect("http://example.org/letter?x=1#top", doc, {
    WebSocket: server.WebSocket,
    onStatus: (status, from) => statuses.push({ ...status, unsaved: from.unsaved }),
    ...options,
  });
  t.after(() => link.close());
  return { doc, link, statuses };
}

test("it says what is saved, and gets there and back", async (t) => {
  const server = new Server();
  server.document.insert(0, "hello");
  const { doc, link, statuses } = page(t, server, { token: "a b" });
  assert.equal(server.last.url, "ws://example.org/letter?x=1&token=a+b");
  await link.synced();
  await settle();
  assert.equal(doc.text, "hello");
  doc.insert(5, "!");
  doc.insert(6, "?");
  assert.equal(link.unsaved, 2);
  assert.equal(link.status.saved, false);
  await link.saved();
  assert.equal(server.document.text, "hello!?");
  server.document.insert(0, "> ");
  server.last.poke();
  await settle();
  assert.equal(doc.text, "> hello!?");
  assert.equal(statuses[0].connected, false);
  const { connected, synced, saved, unsaved } = statuses.at(-1);
  assert.deepEqual({ connected, synced, saved, unsaved }, { connected: true, synced: true, saved: true, unsaved: 0 });
});

test("a lost connection comes back, later and later, and what was typed meanwhile is saved then", async (t) => {
  const server = new Server();
  const { doc, link } = page(t, server);
  await link.synced();
  server.up = false;
  server.last.end();
  assert.equal(link.status.connected, false);
  doc.insert(0, "offline");
  assert.equal(link.unsaved, 7);
  assert.equal(link.status.saved, false);
  const waits = [];
  for (let attempt = server.sockets.length, waited = 0; waits.length < 9; ) {
    t.mock.timers.tick(100);
    waited += 100;
    await settle();
    if (server.sockets.length > attempt) {
      attempt = server.sockets.length;
      waits.push(waited);
      waited = 0;
    }
  }
  assert.ok(waits[0] <= 900 && waits.at(-1) >= 14_000 && Math.max(...waits) <= 46_000, `${waits}`);
  server.up = true;
  t.mock.timers.tick(50_000);
  await link.saved();
  assert.equal(server.document.text, "offline");
  assert.equal(link.status.attempts, 0);
});

test("what was sent but not durable is not saved, also after the connection was lost", async (t) => {
  const server = new Server();
  server.stores = false;
  const { doc, link } = page(t, server);
  await link.synced();
  doc.insert(0, "abc");
  await settle();
  assert.equal(server.document.text, "abc");
  assert.equal(link.unsaved, 3);
  server.last.end();
  assert.equal(link.unsaved, 3);
  doc.insert(0, "d");
  assert.equal(link.unsaved, 4);
  t.mock.timers.tick(1000);
  await settle();
  assert.ok(link.status.synced);
  // It has them all, and has not said that they are durable.
  assert.equal(server.document.text, "dabc");
  assert.equal(link.unsaved, 4);
  doc.insert(0, "e");
  await settle();
  assert.equal(link.unsaved, 5);
  server.last.store();
  assert.equal(link.unsaved, 0);
});

test("a server that stores nothing: received is saved", async (t) => {
  const server = new Server();
  server.durable = false;
  const { doc, link } = page(t, server);
  await link.synced();
  doc.insert(0, "abc");
  assert.equal(link.unsaved, 3);
  await link.saved();
});

test("an ERROR ends the link, and is not tried again", async (t) => {
  const server = new Server();
  const { link, doc } = page(t, server);
  await link.synced();
  const waiting = link.saved.call(link);
  doc.insert(0, "x");
  const rejected = assert.rejects(link.saved(), SyncError);
  server.last.session.fail(new SyncError("enough \u202e of this"));
  const message = server.last.session.poll();
  server.last.onmessage({ data: message.buffer });
  assert.match(link.status.error.message, /enough \? of this/);
  await rejected;
  await waiting.catch(() => {});
  const { length } = server.sockets;
  t.mock.timers.tick(100_000);
  assert.equal(server.sockets.length, length);
  assert.equal(link.start().status.connected, false);
});

test("a code that refuses ends the link too", async (t) => {
  const server = new Server();
  const { link } = page(t, server);
  await link.synced();
  server.last.end(1008, "go away");
  assert.match(link.status.error.message, /1008 go away/);
});

test("presences come, go with the connection, and are told again on a new one", async (t) => {
  const server = new Server();
  const seen = [];
  const { link } = page(t, server, { onPresence: (key, state) => seen.push([key, state]) });
  await link.synced();
  link.show({ name: "Ann" });
  t.mock.timers.tick(100);
  await settle();
  assert.deepEqual([...server.last.session._peersShown], ["ann"]);
  server.last.session.show("bob", { name: "Bob" });
  server.last.poke();
  await settle();
  assert.deepEqual([...link.presences], [["bob", { name: "Bob" }]]);
  server.last.end();
  assert.equal(link.presences.size, 0);
  assert.deepEqual(seen, [["bob", { name: "Bob" }], ["bob", null]]);
  t.mock.timers.tick(1000);
  await settle();
  assert.deepEqual([...server.last.session._peersShown], ["ann"]);
  assert.throws(() => link.show({ at: NaN }), SyncError);
});

test("the browser's own word of being online or not is heard", async (t) => {
  const listeners = new Map();
  globalThis.addEventListener = (name, fn) => void listeners.set(name, fn);
  globalThis.removeEventListener = (name) => void listeners.delete(name);
  t.after(() => {
    delete globalThis.addEventListener;
    delete globalThis.removeEventListener;
  });
  const server = new Server();
  const { link } = page(t, server);
  await link.synced();
  listeners.get("offline")();
  assert.equal(link.status.connected, false);
  listeners.get("online")();
  await link.synced();
  assert.equal(server.sockets.length, 2);
  link.close();
  assert.equal(listeners.size, 0);
});

test("a connection on which nothing is answered is given up", async (t) => {
  const server = new Server();
  const { doc, link } = page(t, server);
  await link.synced();
  await settle();
  const socket = server.last;
  socket.send = () => {};
  doc.insert(0, "x");
  await settle();
  t.mock.timers.tick(60_000);
  assert.equal(link.status.connected, false);
  t.mock.timers.tick(1000);
  await settle();
  assert.notEqual(server.last, socket);
  await link.saved();
  assert.equal(server.document.text, "x");
});

test("a full socket is given no more", async (t) => {
  const server = new Server();
  const { doc, link } = page(t, server);
  await link.synced();
  await settle();
  server.last.bufferedAmount = 2 << 20;
  doc.insert(0, "abc");
  await settle();
  assert.equal(server.document.text, "");
  doc.insert(0, "d");
  server.last.bufferedAmount = 0;
  t.mock.timers.tick(60);
  await link.saved();
  assert.equal(server.document.text, "dabc");
});

test("a restored document's unsaved edits are told from the beginning", async (t) => {
  const server = new Server();
  server.up = false;
  const document = new TextDocument({ agent: "ann", id: DOC_ID });
  document.insert(0, "kept");
  const { link } = page(t, server, { document: TextDocument.restore(document.dump()), unsaved: 4 });
  assert.equal(link.unsaved, 4);
  await settle();
  server.up = true;
  t.mock.timers.tick(1000);
  await link.saved();
  assert.equal(server.document.text, "kept");
});

test("what a page's functions throw is reported, and stops nothing", async (t) => {
  const errors = [];
  globalThis.reportError = (error) => errors.push(error.message);
  t.after(() => delete globalThis.reportError);
  const fail = (message) => () => {
    throw new Error(message);
  };
  const server = new Server();
  server.document.insert(0, "a");
  const { doc, link } = page(t, server, { onChange: fail("change"), onStatus: fail("status"), onPresence: fail("presence") });
  await link.synced();
  server.last.session.show("bob", 1);
  server.last.poke();
  await settle();
  assert.equal(doc.text, "a");
  link.close();
  await settle();
  assert.deepEqual(new Set(errors), new Set(["change", "status", "presence"]));
});
