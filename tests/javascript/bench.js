/**
 * How fast egwalker.js is: prints a line of JSON for each thing measured, medians in milliseconds unless it says so.
 *
 *     node tests/javascript/bench.js [--conformance FILE ...] [--history FILE ...] [--yjs FOLDER]
 *
 * `--history`: whole documents as `egwalker repack` and `Document.encode` write them are compressed; give histories as
 * JSON (`-raw.json.gz`, or those of the conformance files). `--yjs`: where `npm install yjs` was run, to be measured
 * beside it.
 */

import { pathToFileURL } from "node:url";
import { basename, join } from "node:path";
import { parseArgs } from "node:util";

import { Session, TextDocument } from "../../src/egwalker/browser/egwalker.js";
import { readStart, writeStart } from "../../src/egwalker/browser/codec.js";
import { DOC_ID, load, runsOf, seeded } from "./histories.js";

const { values } = parseArgs({
  options: {
    conformance: { type: "string", multiple: true, default: [] },
    history: { type: "string", multiple: true, default: [] },
    yjs: { type: "string" },
  },
});

const round = (x) => Number(x.toPrecision(3));

function median(times) {
  times.sort((a, b) => a - b);
  return round(times[times.length >> 1]);
}

/** Milliseconds of each of some calls. */
function times(n, fn) {
  return Array.from({ length: n }, (_, i) => {
    const began = performance.now();
    fn(i);
    return performance.now() - began;
  });
}

function say(what, found) {
  console.log(JSON.stringify({ what, ...found }));
}

function spread(all) {
  const sorted = all.slice().sort((a, b) => a - b);
  return { median: median(all), p99: round(sorted[Math.floor(sorted.length * 0.99)]), most: round(sorted[sorted.length - 1]) };
}

/** A megabyte of lines, with some of what takes two units. */
function megabyte() {
  const random = seeded("text");
  const words = ["the", "history", "of", "a", "town", "council", "naïve", "漢字", "😀", "letters", "are", "written"];
  let text = "";
  while (text.length < 2 ** 20) text += random.pick(words) + (random.next() < 0.1 ? "\n" : " ");
  return text;
}

const text = megabyte();

function openShallow() {
  const whole = new TextDocument({ agent: "ann", id: DOC_ID });
  whole.insert(0, text);
  const start = writeStart(DOC_ID, { vector: whole.versionVector, heads: whole.version, content: text });
  say("open a megabyte, shallow", spread(times(15, () => new TextDocument({ agent: "bob" })._begin(readStart(start, DOC_ID)))));
}

function shallowPair() {
  const whole = new TextDocument({ agent: "ann", id: DOC_ID });
  whole.insert(0, text);
  const start = { vector: whole.versionVector, heads: whole.version, content: text };
  return ["cyd", "dora"].map((agent) => {
    const doc = new TextDocument({ agent, id: DOC_ID });
    doc._begin(start);
    return doc;
  });
}

/** Typing: keystrokes at one place, or each at another one. */
function keystrokes() {
  const random = seeded("keys");
  const place = (doc) => doc.fromPoints(random.below(doc._text.length));
  const [doc, other] = shallowPair();
  doc.subscribe(() => {});
  let caret = place(doc);
  say("local keystroke in a megabyte, typing on", spread(times(3000, () => doc.insert(caret++, "x"))));
  say("local keystroke in a megabyte, anywhere", spread(times(3000, () => doc.insert(place(doc), "x"))));
  const ends = [new Session(doc), new Session(other)];
  const talk = () => {
    for (let going = true; going; ) {
      going = false;
      for (const i of [0, 1]) for (let message; (message = ends[i].poll()); going = true) ends[1 - i].receive(message);
    }
  };
  talk();
  say("keystroke there and back through sessions, anywhere", spread(times(1000, () => (doc.insert(place(doc), "x"), talk()))));
  // Both type at once, and neither ever knows all of the other: what it has not seen is concurrent.
  const late = [];
  const all = times(20_000, (i) => {
    const mine = i % 2;
    const from = [doc, other][mine];
    from.insert(place(from), "y");
    for (let message; (message = ends[mine].poll()); ) late.push([1 - mine, message]);
    while (late.length > 6) {
      const [to, message] = late.shift();
      ends[to].receive(message);
    }
  });
  say("both type without pause, of 20,000 keystrokes the first 1,000", spread(all.slice(0, 1000)));
  say("both type without pause, of 20,000 keystrokes the last 1,000", spread(all.slice(-1000)));
}

function histories() {
  for (const path of values.history) {
    const [history] = load(path);
    const began = performance.now();
    const runs = runsOf(history);
    const read = performance.now() - began;
    const documents = [];
    const merged = times(5, () => {
      const doc = new TextDocument({ agent: "reader", id: DOC_ID });
      doc._receive(runs);
      documents.push(doc);
    });
    const [doc] = documents;
    const bytes = doc.encode();
    const decoded = times(5, () => TextDocument.decode(bytes));
    const equal = doc.text === history.endContent;
    say(`merge ${basename(path)} whole`, { events: doc.events, equal, rows: runs.length, read: round(read), merge: median(merged), bytes: bytes.length, decode: median(decoded) });
    say(`merge ${basename(path)}, run by run`, { merge: median(times(3, () => {
      const one = new TextDocument({ agent: "reader", id: DOC_ID });
      for (const run of runs) one._receive([run]);
    })) });
  }
}

function conformance() {
  for (const path of values.conformance) {
    const all = load(path).map(runsOf);
    const events = all.reduce((sum, runs) => sum + runs.reduce((n, run) => n + run.length, 0), 0);
    const ms = median(times(3, () => {
      for (const runs of all) new TextDocument({ agent: "reader", id: DOC_ID })._receive(runs);
    }));
    say(`conformance ${basename(path)}`, { histories: all.length, events, ms });
  }
}

async function yjs(folder) {
  const Y = await import(pathToFileURL(join(folder, "node_modules/yjs/dist/yjs.mjs")));
  const random = seeded("keys");
  const make = () => {
    const doc = new Y.Doc();
    doc.getText("t").insert(0, text);
    return doc;
  };
  const whole = make();
  const bytes = Y.encodeStateAsUpdate(whole);
  say("Yjs: open a megabyte", spread(times(15, () => {
    const doc = new Y.Doc();
    Y.applyUpdate(doc, bytes);
    doc.getText("t").toString();
  })));
  const doc = make();
  const shared = doc.getText("t");
  shared.observe(() => {});
  let caret = 500_000;
  say("Yjs: local keystroke in a megabyte, typing on", spread(times(3000, () => shared.insert(caret++, "x"))));
  say("Yjs: local keystroke in a megabyte, anywhere", spread(times(3000, () => shared.insert(random.below(shared.length), "x"))));
  const [one, other] = [new Y.Doc(), new Y.Doc()];
  for (const each of [one, other]) Y.applyUpdate(each, bytes);
  one.on("update", (update) => Y.applyUpdate(other, update));
  say("Yjs: keystroke there, anywhere", spread(times(1000, () => one.getText("t").insert(random.below(one.getText("t").length), "x"))));
}

openShallow();
keystrokes();
conformance();
histories();
if (values.yjs) await yjs(values.yjs);
