import assert from "node:assert/strict";
import { test } from "node:test";

import { Session, TextDocument } from "../../src/egwalker/browser/egwalker.js";
import { Writer, fromHex, toHex, toUtf8 } from "../../src/egwalker/browser/bytes.js";
import { writeStart, writeUpdate } from "../../src/egwalker/browser/codec.js";
import { Table } from "../../src/egwalker/browser/columns.js";
import { DOC_ID } from "./histories.js";

const hex = (bytes) => toHex(bytes).replace(/../g, "$& ").trim();
const make = (agent = "ann") => new TextDocument({ agent, id: DOC_ID });

/** Let two sessions talk until there is silence; the types of what was said, by both. */
function talk(one, other) {
  const said = [[], []];
  for (let going = true; going; ) {
    going = false;
    [one, other].forEach((from, i) => {
      for (let message; (message = from.poll()); going = true) {
        said[i].push(message[0]);
        (i ? one : other).receive(message);
      }
    });
  }
  return said;
}

/** A session whose other end is written by hand: messages are numbered. */
class Hand {
  constructor(document, options) {
    this.session = new Session(document, options);
    this.hello = this.session.poll();
    this.sent = 0;
  }

  say(type, body = new Uint8Array(0), number = this.sent) {
    this.sent = number + 1;
    return this.session.receive(Uint8Array.from([type, number & 255, ...body]));
  }

  greet({ flags = 0, id = DOC_ID, kind = "text", vector = [] } = {}) {
    const names = new Writer();
    for (const [name] of vector) names.name(name);
    const out = new Writer().number(1).number(flags).bytes(fromHex(id)).sized(toUtf8(kind)).sized(names.taken());
    for (const [, start, length] of vector) out.number(1).number(start).number(length);
    return this.say(1, out.taken());
  }

  /** Why the link has ended. */
  get error() {
    return this.session.closed?.error?.message;
  }
}

test("HELLO and a keystroke, to the byte", () => {
  const ann = make();
  ann.insert(0, "cat");
  const left = new Session(ann);
  assert.equal(hex(left.poll()), "01 00 01 10 00 11 22 33 44 55 66 77 88 99 aa bb cc dd ee ff 04 74 65 78 74 04 03 61 6e 6e 01 00 03");
  const right = new Session(TextDocument.decode(ann.encode(), { agent: "bob" }));
  left.receive(right.poll());
  talk(left, right);
  ann.insert(3, "s");
  right.receive(left.poll());
  ann.insert(4, "!");
  assert.equal(hex(left.poll()), "03 03 84 01 00 04 04 21 c4 60 ff bb");
  const blank = new TextDocument({ agent: "b" });
  const asks = new Session(blank, { shallow: true }).poll();
  assert.equal(asks[3], 1 | 8 | 16);
  assert.equal(new Session(blank).poll()[3], 1 | 16);
});

test("two get the same, in the fewest messages", () => {
  const [ann, bob] = [make("ann"), make("bob")];
  ann.insert(0, "hello");
  bob.insert(0, "😀");
  const [left, right] = [new Session(ann), new Session(bob)];
  assert.deepEqual(talk(left, right), [[1, 5, 2, 4], [1, 2, 4, 5]]);
  assert.equal(ann.text, bob.text);
  assert.equal(left.unsaved, 0);
  ann.insert(0, "a");
  bob.insert(1, "b".repeat(300));
  assert.equal(left.unsaved, 1);
  assert.deepEqual(talk(left, right).map((types) => types.sort()), [[3, 5], [3, 5]]);
  assert.equal(ann.text, bob.text);
  assert.ok(left.synced && right.synced && left.allSent && right.allSent);
});

test("a large backlog comes in several messages, whose rest gets smaller", () => {
  const ann = make();
  ann.insert(0, "x".repeat(120_000));
  const [left, right] = [new Session(ann), new Session(make("bob"))];
  assert.deepEqual(talk(left, right), [[1, 2, 2, 2, 4], [1, 4, 5]]);
  assert.equal(right.document.text.length, 120_000);
});

test("ids: the blank one takes on the other's, or the smaller one", () => {
  const [one, other] = [new TextDocument({ agent: "a" }), new TextDocument({ agent: "b" })];
  const smaller = one.id < other.id ? one.id : other.id;
  talk(new Session(one), new Session(other));
  assert.deepEqual([one.id, other.id], [smaller, smaller]);
  const blank = new TextDocument({ agent: "c" });
  talk(new Session(blank), new Session(make()));
  assert.equal(blank.id, DOC_ID);
  // It may still take on another one as long as it is blank.
  const different = new TextDocument({ agent: "d", id: "f".repeat(32) });
  talk(new Session(blank), new Session(different));
  assert.equal(blank.id, different.id);
  const session = new Session(make());
  talk(session, new Session(different));
  assert.match(session.closed.error.message, /has document/);
});

test("what is lost, twice or out of order", () => {
  const hand = new Hand(make());
  hand.greet();
  assert.deepEqual(hand.say(4, [], 0), []);
  assert.equal(hand.session.closed, null);
  assert.deepEqual(hand.say(4, [], 1), [{ type: "synced" }]);
  assert.deepEqual(hand.say(5, [0, 0], 3), [{ type: "closed", error: null }]);
  assert.equal(hand.session.poll(), null);
  assert.deepEqual(hand.say(5, [0, 0], 2), []);
});

test("what may not be is answered by an ERROR", () => {
  const cases = {
    "before HELLO": (hand) => hand.say(4),
    twice: (hand) => (hand.greet(), hand.greet()),
    "unknown type": (hand) => hand.say(11),
    "a message has 1": (hand) => hand.session.receive(Uint8Array.of(1)),
    "before DONE": (hand) => (hand.greet(), hand.say(3, [1])),
    "after DONE": (hand) => (hand.greet(), hand.say(4), hand.say(2, [0])),
    "kind \"list\"": (hand) => hand.greet({ kind: "list" }),
    "has document": (hand) => hand.greet({ id: "0".repeat(32) }),
    "START came, and was not asked for": (hand) => (hand.greet(), hand.say(8, writeStart(DOC_ID, { vector: new Map([["x", [[0, 1]]]]), heads: [["x", 0]], content: "x" }))),
    "PAST came": (hand) => (hand.greet(), hand.say(10, [0])),
    "does not answer FETCH": (hand) => (hand.greet(), hand.say(9, [0, 0])),
    "are said to be received": (hand) => (hand.greet(), hand.say(5, [1, 0])),
    "bytes too many": (hand) => (hand.greet(), hand.say(4, [0])),
    "not JSON": (hand) => (hand.greet(), hand.say(6, [1, 97, 123])),
    "it is null": (hand) => (hand.greet(), hand.say(6, [1, 97, ...toUtf8("null")])),
    "a key of 0": (hand) => (hand.greet(), hand.say(6, [0])),
    "nested more": (hand) => (hand.greet(), hand.say(6, [1, 97, ...toUtf8("[".repeat(33) + "]".repeat(33))])),
    "lone surrogate": (hand) => (hand.greet(), hand.say(6, [1, 97, ...toUtf8('"\\ud800"')])),
    "damaged": (hand) => (hand.greet(), hand.say(4), hand.say(3, [0x84, 0, 1, 97, 0, 1, 4, 0, 98, 1, 2, 3, 4])),
    "events": (hand) => hand.greet({ vector: [["zoe", 0, 0]] }),
  };
  for (const [reason, attempt] of Object.entries(cases)) {
    const doc = make();
    const hand = new Hand(doc);
    attempt(hand);
    assert.ok(hand.error?.includes(reason) || (reason === "events" && hand.error), `${reason}: ${hand.error}`);
    assert.equal(hand.session.poll()?.[0], 7, reason);
    assert.equal(hand.session.poll(), null);
    assert.equal(doc.events, 0);
  }
});

test("an ERROR is not answered, and what it says is fit to be shown", () => {
  const hand = new Hand(make());
  hand.greet();
  const [event] = hand.say(7, [5, ...toUtf8("Error"), ...toUtf8("no\u001b[31m \u202eway")]);
  assert.equal(event.error.message, "the other end closed the link: Error: no?[31m ?way");
  assert.equal(hand.session.poll(), null);
});

test("what is durable is what is saved", () => {
  const doc = make();
  doc.insert(0, "abc");
  const hand = new Hand(doc);
  hand.greet({ flags: 2 });
  while (hand.session.poll());
  assert.equal(hand.session.unsaved, 3);
  hand.say(5, [1, 0]);
  assert.equal(hand.session.unsaved, 3);
  doc.insert(0, "d");
  while (hand.session.poll());
  hand.say(5, [2, 2]);
  assert.equal(hand.session.unsaved, 1);
  hand.say(5, [2, 3]);
  assert.equal(hand.session.unsaved, 0);
});

test("to who takes no edits none are sent", () => {
  const doc = make();
  doc.insert(0, "a");
  const hand = new Hand(doc);
  hand.greet({ flags: 4 });
  assert.equal(hand.session.poll()[0], 4);
  doc.insert(0, "b");
  assert.equal(hand.session.poll(), null);
  assert.equal(hand.session.unsaved, 2);
});

test("presences are told once, the last state of each", () => {
  const hand = new Hand(make());
  hand.greet();
  while (hand.session.poll());
  hand.session.show("ann", { at: 1 });
  hand.session.show("bob", 1);
  hand.session.show("ann", { at: 2 });
  assert.deepEqual([hand.session.poll(), hand.session.poll()].map((m) => new TextDecoder().decode(m.subarray(3))), ["bob1", 'ann{"at":2}']);
  hand.session.show("zoe", null);
  assert.equal(hand.session.poll(), null);
  hand.session.show("ann", null);
  assert.equal(new TextDecoder().decode(hand.session.poll().subarray(3)), "ann");
  for (const wrong of [NaN, { a: undefined }, () => 1, "\ud800", "x".repeat(5000), 10n]) {
    assert.throws(() => hand.session.show("ann", wrong));
  }
  assert.throws(() => hand.session.show("", 1));
  assert.deepEqual(hand.say(6, [1, 97, ...toUtf8('{"__proto__":1}')])[0].state, JSON.parse('{"__proto__":1}'));
  assert.deepEqual(hand.say(6, [1, 97]), [{ type: "presence", key: "a", state: null }]);
});

/** A whole document, and how far it was at a version. */
function history() {
  const whole = make("srv");
  whole.insert(0, "one two three");
  const start = { vector: new Map([["srv", [[0, 7]]]]), heads: [["srv", 6]], content: "one two" };
  return { whole, start };
}

/** The part of a document's history as one HISTORY, over a link. */
const part = (doc, range, table = new Table()) => writeUpdate(doc, [range], table, false);

test("a blank document begins at START, and fetches when something older comes", () => {
  const { whole, start } = history();
  const doc = new TextDocument({ agent: "ann" });
  const hand = new Hand(doc, { shallow: true });
  const into = new Table();
  into.add(["srv"]);
  hand.greet({ vector: [["srv", 0, 13]] });
  hand.say(8, writeStart(DOC_ID, start));
  assert.equal(doc.text, "one two");
  assert.ok(doc.shallow);
  hand.say(2, [0, ...part(whole, [7, 13], into)]);
  hand.say(4);
  assert.equal(doc.text, "one two three");
  doc.insert(0, "my ");
  const old = make("old");
  old._receive([{ agent: "srv", seq: 0, parents: [], log: whole._log, start: 0, length: 3 }]);
  old.insert(0, "!");
  hand.say(3, part(old, [3, 4], into));
  assert.equal(doc.pending, 1);
  const messages = [];
  for (let message; (message = hand.session.poll()); ) messages.push(message);
  const fetch = messages.find((message) => message[0] === 9);
  assert.equal(hex(fetch.subarray(2)), "01 03 73 72 76 06 01 03 73 72 76 02");
  const table = new Table();
  hand.say(8, writeStart(DOC_ID, { vector: new Map([["srv", [[0, 2]]]]), heads: [["srv", 1]], content: "on" }));
  assert.deepEqual(hand.say(10, [2, ...part(whole, [2, 5], table)]), []);
  assert.deepEqual(hand.say(10, [0, ...part(whole, [5, 7], table)]), [{ type: "deepened" }]);
  // Both were typed at the beginning: the smaller name is first.
  assert.equal(doc.text, "my !one two three");
  assert.ok(doc.shallow);
  assert.equal(doc.checkout([["srv", 2]]), "one");
  // Of what is here only "my " is not confirmed, and what had waited goes back; nothing of the past is sent.
  assert.equal(hand.session.unsaved, 4);
  doc._check();
});

test("an answer that is none ends the link, and leaves the document as it is", () => {
  const cases = {
    "no older history": (hand, start) => hand.say(8, writeStart(DOC_ID, start)),
    "not asked for": (hand) => {
      const empty = writeStart(DOC_ID, { vector: new Map(), heads: [], content: "" });
      hand.say(8, empty);
      hand.say(8, empty);
    },
    "are said to remain": (hand, start, whole) => {
      hand.say(8, writeStart(DOC_ID, { vector: new Map(), heads: [], content: "" }));
      hand.say(10, [7, ...part(whole, [0, 2])]);
    },
    "does not make the text": (hand, start, whole) => {
      hand.say(8, writeStart(DOC_ID, { vector: new Map(), heads: [], content: "" }));
      hand.say(10, [0, ...part(whole, [0, 2])]);
    },
    "is of document": (hand, start) => hand.say(8, writeStart("f".repeat(32), start)),
  };
  for (const [reason, attempt] of Object.entries(cases)) {
    const { whole, start } = history();
    const doc = new TextDocument({ agent: "ann" });
    const hand = new Hand(doc, { shallow: true });
    hand.greet({ vector: [["srv", 0, 13]] });
    hand.say(8, writeStart(DOC_ID, start));
    hand.session.fetchAll();
    while (hand.session.poll());
    attempt(hand, start, whole);
    assert.ok(hand.error?.includes(reason), `${reason}: ${hand.error}`);
    assert.equal(doc.text, "one two");
    assert.ok(doc.shallow);
    doc._check();
  }
});

test("who typed before START came asks for all, and keeps what they typed", () => {
  const { whole, start } = history();
  const doc = new TextDocument({ agent: "ann" });
  const hand = new Hand(doc, { shallow: true });
  hand.greet({ vector: [["srv", 0, 13]] });
  doc.insert(0, "mine");
  hand.say(8, writeStart(DOC_ID, start));
  const into = new Table();
  into.add(["srv"]);
  hand.say(2, [0, ...part(whole, [7, 13], into)]);
  hand.say(4);
  const messages = [];
  for (let message; (message = hand.session.poll()); ) messages.push(message);
  assert.equal(hex(messages.find((message) => message[0] === 9).subarray(2)), "01 03 73 72 76 06 00");
  hand.say(8, writeStart(DOC_ID, { vector: new Map(), heads: [], content: "" }));
  hand.say(10, [0, ...part(whole, [0, 7])]);
  assert.ok(!doc.shallow);
  assert.equal(doc.pending, 0);
  assert.ok(doc.text.includes("mine") && doc.text.includes("one two three"));
  doc._check();
});

test("a shallow document cannot be given to who lacks its beginning", () => {
  const doc = new TextDocument({ agent: "ann", id: DOC_ID });
  doc._begin(history().start);
  const hand = new Hand(doc);
  hand.greet({ vector: [["srv", 0, 3]] });
  assert.match(hand.error, /no history of any more/);
});
