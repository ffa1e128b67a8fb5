import assert from "node:assert/strict";
import { test } from "node:test";

import {
  AgentError, ConflictError, DecodeError, HistoryError, IdentityError, PositionError, TextDocument, VersionError,
} from "../../src/egwalker/browser/egwalker.js";
import { Text } from "../../src/egwalker/browser/text.js";
import { Graph } from "../../src/egwalker/browser/graph.js";
import { Walk } from "../../src/egwalker/browser/walker.js";
import { DOC_ID, logOf, seeded } from "./histories.js";

const make = (agent = "ann") => new TextDocument({ agent, id: DOC_ID });

/** A replica for somebody else. */
const fork = (doc, agent) => TextDocument.decode(doc.encode(), { agent });

const run = (agent, seq, parents, ops) => {
  const log = logOf(ops);
  return { agent, seq, parents, log, start: 0, length: log.n };
};

test("a document is edited at UTF-16 positions", () => {
  const doc = make();
  doc.insert(0, "hello 😀 world");
  doc.insert(8, "!");
  assert.equal(doc.text, "hello 😀! world");
  doc.delete(6, 3);
  doc.replace(0, 5, "bye");
  assert.equal(doc.text, "bye  world");
  assert.equal(doc.length, 10);
  // An emoji is one event.
  assert.deepEqual(doc.version, [["ann", 13 + 1 + 2 + 5 + 3 - 1]]);
  doc._check();
});

test("what cannot be done is a RangeError, and changes nothing", () => {
  const doc = make();
  doc.insert(0, "a😀b");
  const changes = [];
  doc.subscribe((change) => changes.push(change));
  const before = doc.encode();
  for (const attempt of [
    () => doc.insert(2, "x"),
    () => doc.insert(-1, "x"),
    () => doc.insert(5, "x"),
    () => doc.insert(0.5, "x"),
    () => doc.insert(NaN, "x"),
    () => doc.insert(0, "\ud83d"),
    () => doc.insert(0, "\ude00"),
    () => doc.insert(0, 7),
    () => doc.delete(0, 2),
    () => doc.delete(1, 1),
    () => doc.delete(3, 2),
    () => doc.delete(0, -1),
    () => doc.replace(0, 2, "x"),
  ]) {
    assert.throws(attempt, RangeError);
  }
  assert.deepEqual(doc.encode(), before);
  assert.deepEqual(changes, []);
  assert.throws(() => new TextDocument({ agent: "" }), AgentError);
  assert.throws(() => new TextDocument({ agent: "x".repeat(256) }), AgentError);
  assert.throws(() => new TextDocument({ id: "12" }), IdentityError);
});

test("positions convert both ways", () => {
  const doc = make();
  const text = "a😀漢".repeat(3000);
  doc.insert(0, text);
  const points = [...text];
  const random = seeded("convert");
  for (let i = 0; i < 500; i++) {
    const at = random.below(points.length + 1);
    const units = doc.fromPoints(at);
    assert.equal(doc.toPoints(units), at);
    if (points[at] === "😀") assert.throws(() => doc.toPoints(units + 1), RangeError);
  }
  assert.equal(doc.fromPoints(1e9), text.length);
  assert.equal(doc.fromPoints(-1), 0);
});

test("the text is what a string would be", () => {
  const random = seeded("text");
  const text = new Text();
  let points = [];
  for (let i = 0; i < 1500; i++) {
    if (random.next() < 0.55 || !points.length) {
      const at = random.below(points.length + 1);
      const some = random.pick(["a", "😀", "漢字", "x".repeat(random.below(6000)), "é😀".repeat(random.below(3000))]);
      assert.equal(text.insert(at, some), points.slice(0, at).join("").length);
      points = [...points.slice(0, at), ...some, ...points.slice(at)];
    } else {
      const at = random.below(points.length);
      const n = Math.min(points.length - at, 1 + random.below(random.pick([2, 200, 20_000])));
      const gone = points.slice(at, at + n).join("").length;
      assert.deepEqual(text.delete(at, n), [points.slice(0, at).join("").length, gone]);
      points = [...points.slice(0, at), ...points.slice(at + n)];
    }
    if (i % 50 === 0) {
      assert.equal(text.toString(), points.join(""));
      text._check();
      const at = random.below(points.length + 1);
      const end = at + random.below(points.length + 1 - at);
      text.whole = null;
      assert.equal(text.slice(at, end), points.slice(at, end).join(""));
    }
    if (points.length > 60_000) points.splice(0, text.delete(0, 50_000) && 50_000);
  }
});

test("somebody else goes on at the same replica", () => {
  const doc = make();
  doc.insert(0, "> ");
  const bob = fork(doc, "bob");
  doc.insert(2, "one");
  bob.insert(0, ">");
  doc.apply(bob.since([]));
  for (const wrong of ["", "x".repeat(256), 7]) assert.throws(() => { doc.agent = wrong; }, AgentError);
  assert.equal(doc.agent, "ann");
  doc.insert(6, "!"); // of a run that does not know bob
  assert.deepEqual(doc.version, [["ann", 5], ["bob", 0]]);
  doc.agent = "Ann Lee";
  doc.insert(7, "?");
  assert.equal(doc.text, ">> one!?");
  assert.deepEqual(doc.version, [["Ann Lee", 0]]);
  doc._check();
  assert.equal(fork(doc, "cyd").text, doc.text);
});

test("subscribers get each change, and a transaction is one", () => {
  const doc = make();
  const changes = [];
  const stop = doc.subscribe((change) => changes.push(change));
  doc.insert(0, "abc");
  doc.replace(1, 1, "B");
  const result = doc.transact(() => {
    doc.insert(3, "d");
    doc.insert(4, "e");
    doc.delete(0, 1);
    return 7;
  }, "me");
  assert.equal(result, 7);
  assert.deepEqual(changes, [
    { local: true, edits: [{ at: 0, deleted: 0, inserted: "abc" }], origin: null },
    { local: true, edits: [{ at: 1, deleted: 1, inserted: "B" }], origin: null },
    { local: true, edits: [{ at: 3, deleted: 0, inserted: "de" }, { at: 0, deleted: 1, inserted: "" }], origin: "me" },
  ]);
  const other = fork(doc, "bob");
  const known = doc.version;
  other.insert(0, "x");
  doc.apply(other.since(known), "there");
  assert.deepEqual(changes[3], { local: false, edits: [{ at: 0, deleted: 0, inserted: "x" }], origin: "there" });
  stop();
  doc.insert(0, "y");
  assert.equal(changes.length, 4);
});

test("a transaction that fails keeps what it did, and tells it", () => {
  const doc = make();
  const changes = [];
  doc.subscribe((change) => changes.push(change));
  assert.throws(() => doc.transact(() => {
    doc.insert(0, "a");
    throw new TypeError("no");
  }), TypeError);
  assert.equal(doc.text, "a");
  assert.equal(changes.length, 1);
});

test("subscribers may edit: changes come in order to all", () => {
  const doc = make();
  const seen = [];
  doc.subscribe(({ edits }) => {
    if (edits[0].inserted === "a") doc.insert(1, "b");
  });
  doc.subscribe(({ edits }) => seen.push(edits[0].inserted));
  doc.insert(0, "a");
  assert.deepEqual(seen, ["a", "b"]);
});

test("a mirror that applies all edits has the text", () => {
  const random = seeded("mirror");
  const docs = ["ann", "bob", "cyd"].map(make);
  const mirrors = new Map(docs.map((doc) => [doc, ""]));
  for (const doc of docs) {
    doc.subscribe(({ edits }) => {
      for (const { at, deleted, inserted } of edits) {
        const text = mirrors.get(doc);
        mirrors.set(doc, text.slice(0, at) + inserted + text.slice(at + deleted));
      }
    });
  }
  for (let i = 0; i < 600; i++) {
    const doc = random.pick(docs);
    const n = doc._text.length;
    const at = doc.fromPoints(random.below(n + 1));
    if (n && random.next() < 0.4) {
      const end = doc.fromPoints(Math.min(n, doc.toPoints(at) + random.below(6)));
      doc.delete(at, end - at);
    } else doc.insert(at, random.pick(["a", "bc", "😀", "d😀e"]));
    if (random.next() < 0.3) {
      const other = random.pick(docs);
      other.apply(doc.since([]));
      other._walk?._check();
    }
    assert.equal(mirrors.get(doc), doc.text);
  }
  for (const doc of docs) for (const other of docs) if (doc !== other) doc.apply(other.since([]));
  for (const doc of docs) {
    assert.equal(doc.text, docs[0].text);
    assert.equal(mirrors.get(doc), doc.text);
    doc._check();
  }
});

test("a past version is what it was", () => {
  const doc = make();
  const seen = [];
  const other = fork(doc, "bob");
  const random = seeded("past");
  for (let i = 0; i < 60; i++) {
    const one = random.pick([doc, other]);
    one.insert(one.fromPoints(random.below(one._text.length + 1)), random.pick(["a", "😀"]));
    if (random.next() < 0.3) {
      doc.apply(other.since([]));
      other.apply(doc.since([]));
    }
    seen.push([doc.version, doc.text]);
  }
  for (const [version, text] of seen) assert.equal(doc.checkout(version), text);
  assert.equal(doc.checkout([]), "");
  assert.throws(() => doc.checkout([["zoe", 1]]), VersionError);
});

test("a caret stays behind the element before it", () => {
  const ann = make();
  ann.insert(0, "one 😀 two");
  const { version } = ann;
  const bob = fork(ann, "bob");
  bob.insert(6, "BOB");
  ann.insert(0, "ANN");
  assert.equal(ann.mapPosition(5, version), 8);
  ann.apply(bob.since(version));
  assert.equal(ann.text, "ANNone 😀BOB two");
  const places = (...all) => all.map((pos) => ann.mapPosition(pos, version));
  // What came in right at the caret is behind it.
  assert.deepEqual(places(0, 4, 5, 6, 9), [0, 7, 8, 12, 15]);
  assert.equal(ann.mapPosition(8, bob.version), 11);
  assert.equal(ann.mapPosition(15, ann.version), 15);
  ann.delete(3, 6);
  assert.equal(ann.text, "ANNBOB two");
  assert.deepEqual(places(0, 1, 5, 6), [0, 3, 3, 7]);
  // In place of what has been deleted: there the caret is behind it.
  ann.insert(3, "!");
  assert.deepEqual(places(0, 1, 5, 6), [0, 4, 4, 8]);
  ann._walk._check();
  for (const pos of [10, -1, 1.5, NaN, "1", 2 ** 60]) assert.throws(() => ann.mapPosition(pos, version), RangeError);
  for (const pos of [12, -1, "1"]) assert.throws(() => ann.mapPosition(pos, ann.version), RangeError);
  assert.throws(() => ann.mapPosition(0, [["zoe", 1]]), VersionError);
  assert.throws(() => ann.mapPosition(1, []), RangeError);
  assert.equal(ann.mapPosition(0, []), 0);
});

test("carets of any version are where they belong, however they are looked for", () => {
  const random = seeded("carets");
  const docs = ["ann", "bob", "cyd"].map(make);
  const [one] = docs;
  let letter = 0x4e00; // each once
  const told = [];
  for (let i = 0; i < 500; i++) {
    const doc = random.pick(docs);
    const n = doc.length;
    if (n > 8 && random.next() < 0.4) {
      const at = random.below(n - 5);
      doc.delete(at, 1 + random.below(5));
    } else {
      const typed = Array.from({ length: 1 + random.below(4) }, () => String.fromCharCode(letter++)).join("");
      doc.insert(random.below(n + 1), typed);
    }
    if (random.next() < 0.3) doc.apply(random.pick(docs).since([]));
    if (random.next() < 0.2) one.adopt();
    const some = random.pick(docs);
    told.push([random.below(some.length + 1), some.version, some.text]);
    const [pos, version, text] = random.pick(told);
    if (!version.every(([agent, seq]) => one.has(agent, seq))) continue;
    const place = one.mapPosition(pos, version);
    one._walk?._check();
    const [before, after] = [one.text.slice(0, place), one.text.slice(place)];
    if (pos && one.text.includes(text[pos - 1])) assert.equal(before.at(-1), text[pos - 1]);
    for (const char of text.slice(0, pos)) assert.ok(!after.includes(char));
    for (const char of text.slice(pos)) assert.ok(!before.includes(char));
    // The walk that is kept finds what a new one does.
    assert.equal(fork(one, "dora").mapPosition(pos, version), place);
  }
  for (const other of docs) one.apply(other.since([]));
  one._check();
});

test("what is far away is not looked for at any price", () => {
  const doc = make();
  doc.insert(0, "start");
  const { version } = doc;
  const other = fork(doc, "bob");
  for (let i = 0; i < 50; i++) doc.insert(i % 2 ? 0 : doc.length, "x");
  assert.equal(doc.mapPosition(2, version, 50), 27);
  doc._walk = null;
  assert.throws(() => doc.mapPosition(2, version, 49), HistoryError);
  assert.equal(doc.mapPosition(2, version), 27);
  // Back and forth between two branches, though they have been walked.
  for (let i = 0; i < 50; i++) other.insert(i % 2 ? 0 : other.length, "y");
  const [mine, theirs] = [doc.version, other.version];
  doc.apply(other.since(version));
  assert.equal(doc.mapPosition(28, mine, 200), doc.mapPosition(28, mine));
  assert.throws(() => doc.mapPosition(27, theirs, 99), HistoryError);
  assert.equal(doc.text[doc.mapPosition(27, theirs, 200) - 1], "t");
  doc._check();
});

test("events wait for their parents, also twice", () => {
  const doc = make();
  const third = run("bob", 2, [["bob", 1]], [[2, 0, "c"]]);
  doc._receive([third]);
  doc._receive([third, run("bob", 1, [["bob", 0]], [[1, 0, "b"]])]);
  assert.equal(doc.pending, 2);
  assert.equal(doc.text, "");
  doc._receive([run("bob", 0, [], [[0, 0, "a"]])]);
  assert.equal(doc.text, "abc");
  assert.equal(doc.pending, 0);
});

test("what is wrong is refused, and changes nothing", () => {
  const doc = make();
  doc.insert(0, "abc");
  doc._receive([run("bob", 0, [["ann", 1]], [[1, 0, "x"]]), run("bob", 5, [["zoe", 3]], [[0, 0, "y"]])]);
  const image = () => [doc.text, doc.version, [...doc.versionVector], doc.pending, doc._graph.names.slice()];
  const before = image();
  const bad = [
    [PositionError, run("bob", 1, [["bob", 0]], [[4, 0, "z"]])],
    [PositionError, run("bob", 1, [["bob", 0]], [[3, 1, ""]])],
    [PositionError, run("cyd", 0, [], [[0, 1, ""]])],
    [ConflictError, run("ann", 1, [["ann", 0]], [[1, 0, "B"]])],
    [ConflictError, run("ann", 1, [["ann", 0]], [[0, 0, "b"]])],
    [ConflictError, run("ann", 1, [], [[1, 0, "b"]])],
    [ConflictError, run("ann", 0, [], [[0, 0, "abcd"]].concat([[0, 1, ""]]).slice(1))],
    [DecodeError, run("cyd", 0, [["cyd", 0]], [[0, 0, "z"]])],
  ];
  for (const [error, wrong] of bad) {
    // What is right before it is refused with it.
    assert.throws(() => doc._receive([run("new", 0, [["ann", 2]], [[3, 0, "!"]]), wrong]), error);
    assert.deepEqual(image(), before);
    doc._check();
  }
  doc._receive([run("bob", 1, [["bob", 0]], [[0, 0, "z"]])]);
  assert.equal(doc.text, "zaxbc");
});

test("who went on from within a run of backspaces had what was still there then", () => {
  const doc = make("zoe");
  doc._receive([run("ann", 0, [], [[0, 0, "abcdef"], [5, 1, ""], [4, 1, ""], [3, 1, ""]])]);
  // Before "f" was gone, between "e" and "f"; and after that, between "d" and "e".
  doc._receive([run("bob", 0, [["ann", 5]], [[5, 0, "Y"]])]);
  doc._receive([run("zed", 0, [["ann", 6]], [[4, 0, "X"]])]);
  assert.equal(doc.text, "abcXY");
  doc._walk._check();
  doc._check();
});

test("too much that waits is refused", () => {
  const doc = make();
  const runs = Array.from({ length: 10_001 }, (_, i) => run("bob", 2 * i + 1, [["bob", 2 * i]], [[0, 0, "x"]]));
  assert.throws(() => doc._receive(runs), /would wait/);
  assert.equal(doc.pending, 0);
});

test("a long run is one span, forwards and where others type", () => {
  const doc = make();
  doc.insert(0, "base");
  const other = fork(doc, "bob");
  doc.insert(2, "x".repeat(100_000));
  other.insert(2, "y");
  doc.apply(other.since([]));
  assert.ok(doc._walk.tree.items < 8, `${doc._walk.tree.items} items`);
  assert.equal(doc.text.length, 100_005);
});

test("typing at once costs what is concurrent, not what has been typed since the last pause", (t) => {
  // Counts what is walked: no clock is needed.
  let walked = 0;
  const { some } = Walk.prototype;
  t.mock.method(Walk.prototype, "some", function (start, end, steps) {
    walked += end - start;
    return some.call(this, start, end, steps);
  });
  const [one, other] = [make("ann"), make("bob")];
  const late = [];
  const total = 6000;
  for (let i = 0; i < total; i++) {
    const [from, to] = i % 2 ? [one, other] : [other, one];
    const before = from.version;
    from.insert(from.length >> 1, "x");
    late.push([to, from.since(before)]);
    while (late.length > 8) {
      const [target, update] = late.shift();
      target.apply(update);
    }
  }
  assert.ok(one._graph.nextCritical(0) >= one._graph.n - 10, "there was a pause");
  assert.ok(walked < 4 * total, `${walked} events were walked for ${total}`);
  for (const [target, update] of late) target.apply(update);
  assert.equal(one.text, other.text);
});

test("the prepare version does not go to and fro between people who type on", (t) => {
  const diff = t.mock.method(Graph.prototype, "diff");
  const everybody = ["ann", "bob", "cid"].map((name) => make(name));
  everybody[0].insert(0, "a line, ".repeat(10));
  for (const each of everybody.slice(1)) each.apply(everybody[0].since([]));
  const carets = [60, 12, 12];
  const tell = (who, what) => {
    const before = everybody[who].version;
    what(everybody[who]);
    const update = everybody[who].since(before);
    everybody.forEach((each, i) => {
      if (i === who) return;
      const { edits } = each.apply(update);
      // Each one's caret stays where it is in the text, in front of what others insert there.
      for (const { at, deleted, inserted } of edits) if (at < carets[i]) carets[i] += inserted.length - deleted;
    });
  };
  for (let i = 0; i < 1500; i++) {
    const who = i % 3;
    tell(who, (doc) => doc.insert(carets[who], "xyz"[who]));
    carets[who]++;
    // Now and then some letters go again.
    if (i % 250 < 3) {
      tell(who, (doc) => doc.delete(carets[who] - 2, 2));
      carets[who] -= 2;
    }
  }
  for (const each of everybody) {
    each._check();
    assert.equal(each.text, everybody[0].text);
    assert.equal(each.checkout(each.version), each.text);
  }
  assert.ok(everybody[0].version.length === 3, "nobody has followed anybody");
  // Where they began, and where they erased. A walk says how far to look at most.
  const moves = diff.mock.calls.filter(({ arguments: given }) => given.length === 4).length;
  assert.ok(moves > 0 && moves < 500, `${moves} times for ${3 * everybody[0].events} events`);
});

test("a walk is begun anew after pauses, and does not grow for ever", () => {
  const [one, other] = [make("ann"), make("bob")];
  // One that types on and on would never follow the other.
  one.defer = other.defer = false;
  for (let i = 0; i < 200; i++) {
    const before = one.version;
    one.insert(0, "ab");
    other.insert(other.length, "c");
    const update = one.since(before);
    one.apply(other.since(before));
    const between = one.version;
    other.apply(update);
    for (let k = 0; k < 40; k++) one.insert((k * 7) % one.length, "d");
    other.apply(one.since(between));
  }
  assert.equal(one.text, other.text);
  assert.ok(one._walk.rows < 2500, `${one._walk.rows} rows`);
});

test("a dump keeps all, with updates since", () => {
  const doc = make();
  doc.insert(0, "a😀");
  doc.insert(3, "b");
  const kept = doc.dump();
  const version = doc.version;
  doc.delete(0, 1);
  const update = doc.since(version);
  const again = TextDocument.restore(kept);
  assert.equal(again.agent, "ann");
  assert.equal(again.text, "a😀b");
  again.apply(update);
  assert.equal(again.text, "😀b");
  assert.deepEqual(again.version, doc.version);
  again.insert(0, "z");
  assert.deepEqual(again.version, [["ann", 4]]);
  assert.equal(TextDocument.restore(kept, { agent: "bob" }).agent, "bob");
  for (let i = 0; i < kept.length; i++) {
    const damaged = Uint8Array.from(kept);
    damaged[i] ^= 1;
    assert.throws(() => TextDocument.restore(damaged), DecodeError);
  }
  const blank = TextDocument.restore(new TextDocument({ agent: "x" }).dump());
  assert.equal(blank._idGiven, "");
});

/** A document that begins at another's version, and the whole one. */
function shallow(text = "one two three") {
  const whole = make();
  whole.insert(0, text);
  const doc = new TextDocument({ agent: "cyd", id: DOC_ID });
  doc._begin({ vector: whole.versionVector, heads: whole.version, content: whole.text });
  return { whole, doc };
}

test("a shallow document has no past, and says so", () => {
  const { whole, doc } = shallow();
  const begin = doc.version;
  assert.ok(doc.shallow);
  assert.deepEqual(begin, whole.version);
  doc.insert(0, "zero ");
  assert.equal(doc.checkout(begin), "one two three");
  assert.throws(() => doc.checkout([["ann", 3]]), HistoryError);
  assert.throws(() => doc.checkout([]), HistoryError);
  assert.throws(() => doc.encode(), HistoryError);
  whole.apply(doc.since(begin));
  assert.equal(whole.text, "zero one two three");
  const again = TextDocument.restore(doc.dump());
  assert.ok(again.shallow);
  assert.equal(again.text, doc.text);
  assert.deepEqual(again.version, doc.version);
  again._check();
  doc._check();
});

test("what is older than the beginning waits for the history, and comes in with it", () => {
  const { whole, doc } = shallow();
  const old = new TextDocument({ agent: "bob", id: DOC_ID });
  old._receive([run("ann", 0, [], [[0, 0, "one"]])]);
  old.insert(1, "!");
  const before = doc.version;
  doc.insert(doc.length, " four");
  doc.apply(old.since([]));
  assert.equal(doc.pending, 1);
  assert.deepEqual(doc._needed(), [["ann", 2]]);
  assert.equal(doc.text, "one two three four");
  const events = [];
  doc.subscribe(({ edits }) => events.push(...edits));
  const older = new TextDocument({ agent: "cyd", id: DOC_ID });
  older.apply(whole.since([]));
  doc._deepen(older);
  assert.equal(doc.text, "o!ne two three four");
  assert.deepEqual(events, [{ at: 1, deleted: 0, inserted: "!" }]);
  assert.equal(doc._needed(), null);
  assert.ok(!doc.shallow);
  whole.apply(doc.since([]));
  assert.equal(whole.text, doc.text);
  assert.equal(doc.checkout(before), "one two three");
  doc._check();
});

test("history that does not fit is refused, and the document stays as it is", () => {
  const { doc } = shallow();
  doc.insert(0, "x");
  const wrong = make("ann");
  wrong.insert(0, "one two thrEE");
  assert.throws(() => doc._deepen(wrong), HistoryError);
  const short = make("ann");
  short.insert(0, "one");
  assert.throws(() => doc._deepen(short), HistoryError);
  assert.equal(doc.text, "xone two three");
  assert.ok(doc.shallow);
  doc._check();
});
