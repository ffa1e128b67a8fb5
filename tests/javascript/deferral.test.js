import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { TextDocument } from "../../src/egwalker/browser/egwalker.js";
import { DOC_ID } from "./histories.js";

const scripts = JSON.parse(readFileSync(new URL("../fixtures/scripts/deferral.json", import.meta.url), "utf8"));

/** What `tests/scripted.py` does with documents in Python. */
function play({ agents, steps }) {
  const docs = new Map(agents.map((agent) => [agent, new TextDocument({ agent, id: DOC_ID })]));
  const updates = new Map(agents.map((agent) => [agent, []]));
  const heard = new Map();
  const hear = (agent, other, count) => {
    const key = `${agent} ${other}`;
    const first = heard.get(key) ?? 0;
    for (const data of updates.get(other).slice(first, first + count)) docs.get(agent).apply(data);
    heard.set(key, first + count);
  };
  for (const [agent, what, ...rest] of steps) {
    const doc = docs.get(agent);
    if (what === "hear") hear(agent, ...rest);
    else if (what === "adopt") doc.adopt();
    else if (what === "defer") doc.defer = rest[0];
    else {
      const before = doc.version;
      const at = doc.fromPoints(rest[0]);
      if (what === "insert") doc.insert(at, rest[1]);
      else doc.delete(at, doc.fromPoints(rest[0] + rest[1]) - at);
      updates.get(agent).push(doc.since(before));
    }
  }
  for (const agent of agents) for (const other of agents) if (other !== agent) hear(agent, other, Infinity);
  return [...docs.values()];
}

/** The first event of each run, in the order of the file. */
function events(doc) {
  const graph = doc._graph;
  const found = [];
  for (let row = 0; row < graph.lv.length; row++) {
    const [agent, seq] = [graph.names[graph.agent[row]], graph.seq[row]];
    const parents = graph.idsOf(graph.parents[row]);
    if (parents.length !== 1 || parents[0][0] !== agent || parents[0][1] !== seq - 1) found.push([agent, seq, parents]);
  }
  return found;
}

const sorted = (list) => list.map((item) => JSON.stringify(item)).sort();

for (const script of scripts) {
  test(`the deferred clock: ${script.name}`, () => {
    const docs = play(script);
    for (const doc of docs) {
      doc._check();
      assert.equal(doc.text, script.text);
      assert.deepEqual(sorted(events(doc)), sorted(script.events));
    }
  });
}

test("without it every event follows all that is there", () => {
  const ann = new TextDocument({ agent: "ann", id: DOC_ID, defer: false });
  const bob = new TextDocument({ agent: "bob", id: DOC_ID });
  assert.deepEqual([ann.defer, bob.defer], [false, true]);
  ann.insert(0, "a");
  bob.insert(0, "b");
  ann.apply(bob.since([]));
  ann.insert(ann.text.indexOf("a") + 1, "c");
  assert.deepEqual(ann.version, [["ann", 1]]);
});

test("what is refused, and older history, leave a run as it is", () => {
  const whole = new TextDocument({ agent: "ann", id: DOC_ID });
  whole.insert(0, "one two");
  const ann = TextDocument.decode(whole.encode(), { agent: "eve" });
  const bob = TextDocument.decode(whole.encode(), { agent: "bob" });
  ann.insert(3, "!");
  const before = bob.version;
  bob.insert(0, ">");
  ann.apply(bob.since(before));
  assert.throws(() => ann.insert(99, "x"), RangeError);
  assert.throws(() => ann.insert(5, "\ud800"), RangeError);
  ann.insert(5, "!");
  assert.deepEqual(ann.version, [["bob", 0], ["eve", 1]]);
  ann._check();
});
