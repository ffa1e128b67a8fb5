import assert from "node:assert/strict";
import { test } from "node:test";

import { AgentError, ConflictError, DecodeError, IdentityError, KindError, TextDocument } from "../../src/egwalker/browser/egwalker.js";
import { Reader, Writer, crc32c, fromHex, toHex, toUtf8 } from "../../src/egwalker/browser/bytes.js";
import { readStart, writeStart } from "../../src/egwalker/browser/codec.js";
import { DOC_ID } from "./histories.js";

const hex = (bytes) => toHex(bytes).replace(/../g, "$& ").trim();
const bytes = (text) => fromHex(text.replaceAll(" ", ""));
const make = (agent = "ann") => new TextDocument({ agent, id: "00112233445566778899aabbccddeeff" });

/** A blob with right checksums: `head` in hexadecimal, then chunks [type byte, payload]. */
function blob(head, ...chunks) {
  const out = new Writer().bytes(bytes(head));
  for (const [kind, payload] of chunks) {
    out.byte(kind);
    if (!(kind & 128)) out.number(payload.length);
    out.bytes(payload).fixed(crc32c(bytes(head), Uint8Array.of(kind), payload));
  }
  return out.taken();
}

/** The payload of HISTORY. */
function history(columns) {
  const out = new Writer();
  for (const column of columns) out.number(4 * column.length).bytes(column);
  return out.taken();
}

const UPDATE = "e7 11 00 11 22 33";
const names = (...found) => found.reduce((out, name) => out.name(name), new Writer()).taken();
const numbers = (...found) => found.reduce((out, x) => out.number(x), new Writer()).taken();

test("the examples of docs/format.md", () => {
  const doc = make();
  doc.insert(0, "cat");
  const version = doc.version;
  doc.insert(3, "s");
  assert.equal(hex(doc.since(version)), "e7 11 00 11 22 33 84 00 03 61 6e 6e 03 00 04 03 73 02 59 dc 2f");
  // But for the content, which is always there.
  const empty = make().encode();
  assert.equal(hex(empty.subarray(0, 31)), "e7 21 00 11 22 33 44 55 66 77 88 99 aa bb cc dd ee ff 01 08 04 74 65 78 74 00 00 00 06 4f 4b");
  assert.equal(hex(empty.subarray(-13)), "83 00 00 00 00 00 00 00 00 40 c6 b4 1d");
  const other = make("bob");
  other.apply(bytes("e7 11 00 11 22 33 84 00 03 61 6e 6e 03 00 04 03 73 02 59 dc 2f"));
  assert.equal(other.pending, 1);
});

test("checksums are CRC-32C", () => {
  assert.equal(crc32c(toUtf8("123456789")), 0xe3069283);
  assert.equal(crc32c(toUtf8("1234"), toUtf8("56"), toUtf8("789")), 0xe3069283);
  assert.equal(crc32c(), 0);
});

test("numbers come back, and others than the shortest are refused", () => {
  for (const x of [0, 1, 127, 128, 300, 2 ** 31 - 1, 2 ** 31, 2 ** 32 + 5, 2 ** 53 - 1]) {
    assert.equal(new Reader(new Writer().number(x).taken()).number(), x);
    for (const y of [x, -x]) assert.equal(new Reader(new Writer().signed(y).taken()).signed(), y + 0);
  }
  for (const wrong of ["80 00", "ff", "80 80 80 80 80 80 80 80 80 01", "ff ff ff ff ff ff ff ff 7f", ""]) {
    assert.throws(() => new Reader(bytes(wrong)).number(), DecodeError);
  }
  assert.equal(new Reader(bytes("91 80 80 80 80 80 80 80 40")).flags(), 17);
});

test("a document comes back whole, with the same bytes", () => {
  const doc = make();
  doc.insert(0, "héllo 😀\ufeff");
  doc.delete(1, 2);
  const other = TextDocument.decode(doc.encode(), { agent: "b\u{10348}b" });
  other.insert(0, "x");
  doc.insert(2, "y");
  doc.apply(other.since([]));
  const again = TextDocument.decode(doc.encode());
  assert.equal(again.text, doc.text);
  assert.deepEqual(again.versionVector, doc.versionVector);
  assert.deepEqual(again.encode(), doc.encode());
});

test("every changed byte and every end is noticed", () => {
  const doc = make();
  doc.insert(0, "cat 😀");
  doc.delete(0, 1);
  const data = doc.encode();
  for (let i = 0; i < data.length; i++) {
    const damaged = Uint8Array.from(data);
    damaged[i] ^= 4;
    assert.throws(() => TextDocument.decode(damaged), DecodeError);
    assert.throws(() => TextDocument.decode(data.slice(0, i)), DecodeError);
  }
});

test("what an update cannot say is refused", () => {
  const good = [names("ann"), numbers(0), numbers(2), numbers(0), numbers(4 * 2), numbers(0), toUtf8("ab"), numbers()];
  const doc = make("bob");
  doc.apply(blob(UPDATE, [0x83, history(good)]));
  assert.equal(doc.text, "ab");
  const wrong = {
    "an agent twice": { 0: names("ann", "ann") },
    "a name that is empty": { 0: Uint8Array.of(0) },
    "a name that is no UTF-8": { 0: bytes("02 c3 28") },
    "an agent that is not there": { 1: numbers(2) },
    "ids too many": { 1: numbers(0, 0) },
    "a seq below 0": { 1: numbers(1, 1) },
    "no events": { 2: numbers(0) },
    "more events than operations": { 2: numbers(3) },
    "a parent after it": { 3: numbers(3) },
    "a parent of itself": { 3: numbers(1, 1, 1) },
    "a parent by nobody": { 3: numbers(1, 2, 0) },
    "a root among parents": { 3: numbers(2, 1, 7, 0) },
    "parents cut": { 3: numbers(2, 1, 7) },
    "operations too many": { 4: numbers(12) },
    "positions too many": { 5: numbers(0, 0) },
    "a position below 0": { 5: numbers(1) },
    "a position beyond all": { 5: numbers(2 * 2 ** 31) },
    "content too short": { 6: toUtf8("a") },
    "content too long": { 6: toUtf8("abc") },
    "content that is no UTF-8": { 6: bytes("61 ff") },
    "a surrogate in UTF-8": { 6: bytes("61 ed a0 80") },
    "erased that do not add up": { 7: numbers(1, 2) },
    "erased more than are there": { 7: numbers(3) },
  };
  for (const [what, columns] of Object.entries(wrong)) {
    const data = blob(UPDATE, [0x83, history(good.map((column, i) => columns[i] ?? column))]);
    assert.throws(() => make("cyd").apply(data), DecodeError, what);
  }
  const more = new Writer().bytes(history(good)).byte(0).taken();
  assert.throws(() => make("cyd").apply(blob(UPDATE, [0x83, more])), DecodeError);
});

test("compressed columns are refused by name", () => {
  const payload = history([names("ann"), numbers(0), numbers(1), numbers(0), numbers(4), numbers(0), toUtf8("a"), numbers()]);
  payload[0] += 1;
  assert.throws(() => make().apply(blob(UPDATE, [0x83, payload])), /PLAIN/);
});

test("few bytes cannot take much memory", () => {
  const n = 2 ** 40;
  // So many elements that were not kept, inserted one before the other.
  for (const kind of [0, 1]) {
    const columns = [names("ann"), numbers(0), numbers(n), numbers(0), numbers(4 * n + kind), numbers(0), numbers(), numbers(0, n)];
    assert.throws(() => make("bob").apply(blob(UPDATE, [0x83, history(columns)])), /would take|operations/);
    const fewer = [names("ann"), numbers(0), numbers(1e7), numbers(0), numbers(4e7 + kind), numbers(0), numbers(), numbers(0, 1e7)];
    assert.throws(() => make("bob").apply(blob(UPDATE, [0x83, history(fewer)])), /would take/);
  }
});

test("content that was not kept shows as such, and its past not at all", () => {
  const columns = [names("ann"), numbers(0), numbers(4), numbers(0), numbers(4 * 3, 4 + 2), numbers(0, 3), toUtf8("ac"), numbers(1, 1, 1)];
  const doc = make("bob");
  doc.apply(blob(UPDATE, [0x83, history(columns)]));
  assert.equal(doc.text, "ac");
  assert.throws(() => doc.checkout([["ann", 2]]), /not kept/);
  assert.equal(doc.checkout([["ann", 0]]), "a");
  doc._check();
  const again = TextDocument.decode(doc.encode());
  assert.equal(again.text, "ac");
  assert.throws(() => again.checkout([["ann", 2]]), /not kept/);
  const shown = make("bob");
  shown.apply(blob(UPDATE, [0x83, history([...columns.slice(0, 2), numbers(3), numbers(0), numbers(12), numbers(0), toUtf8("ac"), numbers(1, 1, 1)])]));
  assert.equal(shown.text, "a\ufffdc");
});

test("chunks: unknown ones are skipped if they may be, and order matters", () => {
  const doc = make();
  doc.insert(0, "a");
  const payload = history([names("ann"), numbers(0), numbers(1), numbers(0), numbers(4), numbers(0), toUtf8("a"), numbers()]);
  const other = make("bob");
  other.apply(blob(UPDATE, [0x40 | 20, toUtf8("what")], [0x83, payload]));
  assert.equal(other.text, "a");
  assert.throws(() => other.apply(blob(UPDATE, [20, toUtf8("what")], [0x83, payload])), /required/);
  assert.throws(() => other.apply(blob(UPDATE, [3, payload], [0x83, payload])), DecodeError);
  assert.throws(() => other.apply(doc.encode()), DecodeError);
  assert.throws(() => TextDocument.decode(doc.since([])), DecodeError);
  assert.throws(() => other.apply(blob("e7 11 00 11 22 34", [0x83, payload])), IdentityError);
  assert.throws(() => other.apply(blob("e7 12 00 11 22 33", [0x83, payload])), /version 2/);
  assert.throws(() => other.apply("text"), DecodeError);
});

test("a summary must be what the history is", () => {
  const doc = make();
  doc.insert(0, "ab");
  const head = `e7 21 ${DOC_ID}`;
  const summary = (column) => new Writer().sized(toUtf8("text")).byte(0).bytes(column).taken();
  const right = new Writer().number(2).sized(names("ann")).number(1).number(0).number(2).number(0).number(1).taken();
  const payload = history([numbers(), numbers(0), numbers(2), numbers(0), numbers(8), numbers(0), toUtf8("ab"), numbers()]);
  assert.equal(TextDocument.decode(blob(head, [1, summary(right)], [0x83, payload])).text, "ab");
  for (const wrong of [
    new Writer().number(3).sized(names("ann")).number(1).number(0).number(3).number(0).number(2).taken(),
    new Writer().number(2).sized(names("ann")).number(1).number(0).number(2).number(0).number(0).taken(),
    new Writer().number(2).sized(names("ann")).number(1).number(0).number(2).taken(),
    new Writer().number(2).sized(names("ann")).number(1).number(0).number(2).number(1).number(1).taken(),
    new Writer().number(2).sized(names("ann")).number(2).number(0).number(1).number(0).number(1).number(0).number(1).taken(),
    new Writer().number(0).sized(names("ann")).number(0).taken(),
  ]) {
    assert.throws(() => TextDocument.decode(blob(head, [1, summary(wrong)], [0x83, payload])), DecodeError);
  }
  const content = (text) => new Writer().byte(0).bytes(toUtf8(text)).taken();
  assert.throws(() => TextDocument.decode(blob(head, [1, summary(right)], [2, content("ac")], [0x83, payload])), /another text/);
  const list = new Writer().sized(toUtf8("list")).byte(0).bytes(right).taken();
  assert.throws(() => TextDocument.decode(blob(head, [1, list], [0x83, payload])), KindError);
});

test("a start comes back", () => {
  const start = { vector: new Map([["ann", [[0, 3], [5, 6]]], ["bob", [[0, 1]]]]), heads: [["ann", 5], ["bob", 0]], content: "a😀" };
  const found = readStart(writeStart(DOC_ID, start), DOC_ID);
  assert.deepEqual(found, { id: DOC_ID, ...start });
  assert.throws(() => readStart(writeStart(DOC_ID, start), "f".repeat(32)), IdentityError);
  assert.throws(() => readStart(writeStart(DOC_ID, { ...start, heads: [["ann", 4]] })), DecodeError);
});

test("names and conflicts say what they are about", () => {
  assert.throws(() => new Writer().name("\ud800"), AgentError);
  const doc = make();
  doc.insert(0, "a");
  const twin = make();
  twin.insert(0, "b");
  assert.throws(() => doc.apply(twin.since([])), (error) => error instanceof ConflictError && /ann:0/.test(error.message));
});
