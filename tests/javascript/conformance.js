/**
 * Checks the browser's engine against histories whose end is known.
 *
 *     node tests/javascript/conformance.js [--deliveries N] [--seed S] FILE.json.gz ...
 *
 * Each history is taken in its stored order, all at once and run by run. With `--deliveries N` it is also delivered N
 * times in random causal orders and random pieces to two documents that merge with each other, as bytes or not; each
 * step is compared with a replay from nothing of the version reached. Prints a line for each history that fails, one
 * for each file, and at the end "N passed, M failed". Exit codes: 0 all passed, 1 some failed, 2 bad usage.
 */

import { parseArgs } from "node:util";
import { basename } from "node:path";

import { TextDocument } from "../../src/egwalker/browser/egwalker.js";
import { DOC_ID, anyCausalOrder, batches, load, runsOf, seeded } from "./histories.js";

class Mismatch extends Error {}

function expect(what, found, wanted) {
  if (found === wanted) return;
  let at = 0;
  while (found[at] === wanted[at] && at < wanted.length) at++;
  const near = (text) => JSON.stringify(text.slice(Math.max(0, at - 15), at + 25));
  throw new Mismatch(`${what}: differs at ${at}: ${near(found)} instead of ${near(wanted)} (lengths ${found.length} and ${wanted.length})`);
}

/** A document that has a whole history, after it was checked. */
function stored(runs, text) {
  const whole = new TextDocument({ agent: "whole", id: DOC_ID });
  whole._receive(runs);
  expect("whole", whole.text, text);
  if (whole.pending) throw new Mismatch(`${whole.pending} events wait`);
  whole._check();
  const each = new TextDocument({ agent: "each", id: DOC_ID });
  let mirror = "";
  each.subscribe(({ edits }) => {
    for (const { at, deleted, inserted } of edits) mirror = mirror.slice(0, at) + inserted + mirror.slice(at + deleted);
  });
  for (const run of runs) each._receive([run]);
  expect("run by run", each.text, text);
  expect("what a subscriber has", mirror, text);
  expect("version", String(each.version), String(whole.version));
  each._check();
  return whole;
}

/** Two documents that between them get a history. */
function deliver(random, runs, whole) {
  const documents = ["reader", "writer"].map((agent) => new TextDocument({ agent, id: DOC_ID }));
  const exchange = (target) => {
    const [document, other] = [documents[target], documents[1 - target]];
    const lacking = other._graph.lacking(document.versionVector);
    if (!lacking.length) return;
    if (random.next() < 0.5) document.apply(other.since(random.next() < 0.5 ? [] : common(document, other)));
    else document.apply(other.since([]));
  };
  for (const batch of batches(random, anyCausalOrder(random, runs))) {
    const target = random.next() < 0.75 ? 0 : 1;
    const document = documents[target];
    document._receive(batch);
    if (document.pending) exchange(target);
    if (document.pending) throw new Mismatch(`${document.pending} events wait`);
    if (random.next() < 0.1) exchange(random.below(2));
    if (random.next() < 0.05 && document._receive(batch).edits.length) throw new Mismatch("what was known made edits");
    if (random.next() < 0.2) expect(`text at ${document.version}`, document.text, whole.checkout(document.version));
    if (random.next() < 0.05) {
      document._check();
      documents[target] = TextDocument.restore(document.dump());
    }
  }
  for (const target of [0, 1]) exchange(target);
  for (const document of documents) {
    expect("text", document.text, whole.text);
    expect("version", String(document.version), String(whole.version));
    expect("version vector", vectorText(document), vectorText(whole));
    document._check();
    expect("text decoded", TextDocument.decode(document.encode()).text, whole.text);
  }
  for (let i = 0; i < 3; i++) {
    const version = whole._graph.idsOf([random.below(whole._graph.n)]);
    expect(`checkout of ${version}`, documents[0].checkout(version), whole.checkout(version));
  }
}

function vectorText(document) {
  return JSON.stringify([...document.versionVector].sort());
}

/** Heads of the one that the other has: a version of both. */
function common(document, other) {
  return document.version.filter(([agent, seq]) => other._graph.lvOf(agent, seq) >= 0);
}

function check(history, deliveries, seed) {
  const runs = runsOf(history);
  let where = "in stored order";
  try {
    const whole = stored(runs, history.endContent);
    for (let i = 0; i < deliveries; i++) {
      where = `delivery ${i}`;
      deliver(seeded(`${seed}:${i}`), runs, whole);
    }
    return null;
  } catch (error) {
    return `${where}: ${error instanceof Mismatch ? error.message : error.stack}`;
  }
}

function main() {
  const { values, positionals } = parseArgs({
    options: { deliveries: { type: "string", default: "0" }, seed: { type: "string", default: "0" } },
    allowPositionals: true,
  });
  if (!positionals.length) {
    console.error("usage: node conformance.js [--deliveries N] [--seed S] FILE.json.gz ...");
    return 2;
  }
  let passed = 0;
  let failed = 0;
  for (const path of positionals) {
    let histories;
    try {
      histories = load(path);
    } catch (error) {
      console.error(`conformance: ${path}: ${error.message}`);
      return 2;
    }
    const began = performance.now();
    let bad = 0;
    histories.forEach((history, number) => {
      const problem = check(history, Number(values.deliveries), `${values.seed}:${basename(path)}:${number}`);
      if (problem) {
        bad++;
        console.log(`FAIL ${basename(path)}[${number}] ${problem}`);
      }
    });
    passed += histories.length - bad;
    failed += bad;
    console.log(`${basename(path)}: ${histories.length - bad} passed, ${bad} failed, ${((performance.now() - began) / 1000).toFixed(1)} s`);
  }
  console.log(`${passed} passed, ${failed} failed`);
  return failed ? 1 : 0;
}

process.exitCode = main();
