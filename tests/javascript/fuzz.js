/**
 * Feeds all readers with damaged bytes: each must take them or refuse them with an error of its own, and a document
 * must be as it was when they are refused.
 *
 *     node tests/javascript/fuzz.js [--rounds N] [--seconds S] [--seed S]
 *
 * Checksums of what was damaged are made right most of the time, so that what is behind them is reached. Prints how
 * often what was refused, and exits 1 at the first failure, with the bytes.
 */

import { parseArgs } from "node:util";

import { EgwalkerError, Session, TextDocument } from "../../src/egwalker/browser/egwalker.js";
import { Reader, crc32c, fromHex, toHex } from "../../src/egwalker/browser/bytes.js";
import { writeStart } from "../../src/egwalker/browser/codec.js";
import { DOC_ID, seeded } from "./histories.js";

/** A read may take so long, in milliseconds: a page must not hang. */
const PATIENCE = 30_000;

const options = parseArgs({ options: { rounds: { type: "string", default: "Infinity" }, seconds: { type: "string", default: "120" }, seed: { type: "string", default: "0" } } }).values;
const random = seeded(options.seed);
const counts = new Map();

function edit(doc, times) {
  for (let i = 0; i < times; i++) {
    const points = doc._text.length;
    const at = doc.fromPoints(random.below(points + 1));
    if (points && random.next() < 0.4) {
      const end = doc.fromPoints(Math.min(points, doc.toPoints(at) + 1 + random.below(5)));
      doc.delete(at, end - at);
    } else doc.insert(at, random.pick(["a", "words ", "漢字", "😀", "é\u0301", "\ufeff", "x".repeat(300)]));
  }
}

/** A document with branches, and another one that lacks some of it. */
function world() {
  const one = new TextDocument({ agent: "ann", id: DOC_ID });
  edit(one, 1 + random.below(8));
  const other = TextDocument.decode(one.encode(), { agent: "bobé" });
  const known = other.version;
  for (let i = 0; i < 3; i++) {
    edit(one, random.below(4));
    edit(other, random.below(4));
    if (random.next() < 0.5) one.apply(other.since(known));
  }
  return { one, other, known };
}

/** Bytes with some of them changed. */
function damage(bytes) {
  let found = Uint8Array.from(bytes);
  for (let n = 1 + random.below(3); n; n--) {
    const at = random.below(found.length);
    const what = random.next();
    if (what < 0.3) found[at] = random.below(256);
    else if (what < 0.5) found[at] ^= 1 << random.below(8);
    else if (what < 0.6) found = found.slice(0, at);
    else if (what < 0.75) {
      const some = found.slice(at, at + 1 + random.below(8));
      found = Uint8Array.from([...found.slice(0, at), ...some, ...found.slice(at)]);
    } else if (what < 0.9) found = Uint8Array.from([...found.slice(0, at), ...found.slice(at + 1 + random.below(6))]);
    else found.set(random.pick([[255, 255, 255, 255, 255, 255, 255, 127], [128, 128, 0], [255, 255, 255, 127]]).slice(0, found.length - at), at);
    if (!found.length) found = Uint8Array.of(0);
  }
  return found;
}

/** The same with right checksums, as far as chunks can be found. `at`: where they begin; `head`: what sums begin with. */
function mend(bytes, at, head) {
  while (at < bytes.length - 4) {
    const kind = bytes[at];
    let begin = at + 1;
    let length = bytes.length - begin - 4;
    if (!(kind & 128)) {
      length = 0;
      for (let shift = 0; ; shift += 7) {
        const byte = bytes[begin++];
        if (byte === undefined || shift > 21) return bytes;
        length |= (byte & 127) << shift;
        if (byte < 128) break;
      }
    }
    if (length < 0 || begin + length + 4 > bytes.length) return bytes;
    const sum = crc32c(head, Uint8Array.of(kind), bytes.subarray(begin, begin + length));
    new DataView(bytes.buffer).setUint32(begin + length, sum, true);
    at = begin + length + 4;
    if (kind & 128) return bytes;
  }
  return bytes;
}

const mendBlob = (bytes) => {
  const at = 2 + ((bytes[1] ?? 0) >> 4 === 2 ? 16 : 4);
  return bytes.length > at ? mend(bytes, at, bytes.subarray(0, at)) : bytes;
};

/** The same of a dump: its head, and what it holds, as far as these can be found. */
function mendDump(bytes) {
  const reader = new Reader(bytes);
  try {
    reader.at = 3;
    reader.name();
    const sizes = [reader.number(), reader.number()];
    const sum = crc32c(bytes.subarray(0, reader.at));
    new DataView(bytes.buffer).setUint32(reader.at, sum, true);
    reader.at += 4;
    for (const size of sizes) bytes.set(mendBlob(Uint8Array.from(reader.take(size))), reader.at - size);
  } catch {
    // There is no more of it.
  }
  return bytes;
}

function image(doc) {
  return JSON.stringify([doc.text, doc.version, [...doc.versionVector], doc.pending, doc._log.n, doc._graph.names]);
}

function attempt(what, bytes, doc, read) {
  const before = doc && image(doc);
  const began = performance.now();
  let result = "taken";
  try {
    read(bytes);
  } catch (error) {
    if (!(error instanceof EgwalkerError)) fail(what, bytes, error);
    result = error.name;
    if (doc && image(doc) !== before) fail(what, bytes, new Error("the document has changed"));
  }
  if (performance.now() - began > PATIENCE) fail(what, bytes, new Error(`it took ${performance.now() - began} ms`));
  try {
    doc?._check();
  } catch (error) {
    fail(what, bytes, error);
  }
  count(`${what} ${result}`);
}

function count(what) {
  counts.set(what, (counts.get(what) ?? 0) + 1);
}

function fail(what, bytes, error) {
  console.log(`FAIL ${what}: ${error.stack}\n${toHex(bytes)}`);
  process.exit(1);
}

/** What each end says in a link of two documents, until there is silence. */
function record(one, other, shallow) {
  const ends = [new Session(one), new Session(other, { shallow })];
  const said = [];
  for (let going = true; going; ) {
    going = false;
    for (const i of [0, 1]) {
      for (let message; (message = ends[i].poll()); ) {
        going = true;
        said.push([i, message]);
        ends[1 - i].receive(message);
      }
    }
    if (!going && said.length < 30 && random.next() < 0.6) {
      edit(random.pick([one, other]), 1);
      random.pick(ends).show("k", { at: random.below(9), name: "é" });
      going = true;
    }
  }
  return said;
}

/** A session gets what was said before, and then a damaged message. */
function link() {
  const { one, other } = world();
  const kept = other.dump();
  const blank = random.next() < 0.3;
  const make = () => (blank ? new TextDocument({ agent: "cyd" }) : TextDocument.restore(kept));
  const said = record(one, blank ? new TextDocument({ agent: "cyd" }) : other, blank).filter(([from]) => from === 0);
  const doc = make();
  const session = new Session(doc, { shallow: blank });
  session.poll();
  const stop = random.below(said.length);
  for (const [, message] of said.slice(0, stop)) session.receive(message);
  if (session.closed) return;
  if (random.next() < 0.3) edit(doc, doc._idGiven ? 1 : 0);
  let message = damage(said[stop][1]);
  if (random.next() < 0.2 && message.length > 1) message[0] = 8 + random.below(3);
  if (random.next() < 0.8 && message.length > 1) message[1] = session._numberIn;
  const kind = message[0];
  if (random.next() < 0.9 && (kind === 2 || kind === 3)) message = mend(message, kind === 2 ? 3 : 2, fromHex(doc.id));
  if (random.next() < 0.2 && session.greeted && kind !== 7) {
    // A START of its own, asked for or not.
    const start = mendBlob(damage(writeStart(doc.id, { vector: new Map([["ann", [[0, 3]]]]), heads: [["ann", 2]], content: "abc" })));
    message = Uint8Array.from([8, session._numberIn, ...start]);
  }
  attempt(`message ${message[0] <= 10 ? message[0] : "unknown"}`, message, null, () => {
    const before = image(doc);
    const events = session.receive(message);
    const closed = events.find((event) => event.type === "closed");
    if (closed?.error && image(doc) !== before) throw new Error("the document has changed");
    if (closed?.error?.message.includes("internal")) throw new Error(closed.error.message);
    while (session.poll());
    doc._check();
    if (closed) count(`closed: ${closed.error?.name ?? "without an error"}`);
  });
}

const end = Date.now() + 1000 * Number(options.seconds);
let rounds = 0;
while (rounds < Number(options.rounds) && Date.now() < end) {
  rounds++;
  const { one, other, known } = world();
  const mended = random.next() < 0.9;
  const fix = (bytes, how) => (mended ? how(bytes) : bytes);
  attempt("update", fix(damage(one.since(known)), mendBlob), other, (bytes) => other.apply(bytes));
  attempt("document", fix(damage(one.encode()), mendBlob), null, (bytes) => TextDocument.decode(bytes)._check());
  attempt("dump", fix(damage(other.dump()), mendDump), null, (bytes) => TextDocument.restore(bytes)._check());
  for (let i = 0; i < 4; i++) link();
}
for (const [what, n] of [...counts].sort()) console.log(`${what}: ${n}`);
console.log(`${rounds} rounds, no failure`);
