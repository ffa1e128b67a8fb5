/** Histories in the form of the conformance files, and ways to deliver them. */

import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";

import { DELETE, OpLog, TYPE, countPoints } from "../../src/egwalker/browser/log.js";

export const DOC_ID = "00112233445566778899aabbccddeeff";

/** A generator of random numbers below 1 that does the same again for the same seed (mulberry32, over a hash of it). */
export function seeded(seed) {
  let state = 0x9e3779b9;
  for (const char of String(seed)) state = Math.imul(state ^ char.charCodeAt(0), 0x01000193) >>> 0;
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
  return {
    next,
    below: (n) => Math.floor(next() * n),
    pick: (list) => list[Math.floor(next() * list.length)],
    shuffle(list) {
      for (let i = list.length - 1; i > 0; i--) {
        const k = Math.floor(next() * (i + 1));
        [list[i], list[k]] = [list[k], list[i]];
      }
      return list;
    },
  };
}

/** A file: a list of histories, or one. */
export function load(path) {
  const data = readFileSync(path);
  const found = JSON.parse((data[0] === 0x1f && data[1] === 0x8b ? gunzipSync(data) : data).toString());
  return Array.isArray(found) ? found : [found];
}

/** Operations `[position, deleted, inserted]` as a log. */
export function logOf(ops) {
  const log = new OpLog();
  for (const [pos, deleted, inserted] of ops) {
    if (deleted) log.push(DELETE, pos, deleted, "");
    if (inserted) log.push(TYPE, pos, countPoints(inserted), inserted);
  }
  return log;
}

/** A history's txns as runs. */
export function runsOf(history) {
  const spans = [];
  const idOf = (lv) => {
    let lo = 0;
    let hi = spans.length;
    while (hi - lo > 1) {
      const mid = (lo + hi) >> 1;
      if (spans[mid].start <= lv) lo = mid;
      else hi = mid;
    }
    return [spans[lo].agent, spans[lo].seq + lv - spans[lo].start];
  };
  return history.txns.map(({ agent, seqStart, span, parents, ops }) => {
    const log = logOf(ops);
    if (log.n !== span[1] - span[0]) throw new Error(`span ${span} does not fit its ops`);
    const run = { agent, seq: seqStart, parents: parents.map(idOf), log, start: 0, length: log.n };
    spans.push({ start: span[0], agent, seq: seqStart });
    return run;
  });
}

/** A run cut before its event `at`. */
export function cutRun(run, at) {
  return [
    { ...run, length: at },
    { ...run, seq: run.seq + at, parents: [[run.agent, run.seq + at - 1]], start: run.start + at, length: run.length - at },
  ];
}

/** The runs in random pieces, in a random order with parents before children. */
export function anyCausalOrder(random, runs, cut = 0.5) {
  const pieces = [];
  for (let run of runs) {
    while (run.length > 1 && random.next() < cut) {
      const [one, rest] = cutRun(run, 1 + random.below(run.length - 1));
      pieces.push(one);
      run = rest;
    }
    pieces.push(run);
  }
  const holder = new Map();
  for (const piece of pieces) {
    if (!holder.has(piece.agent)) holder.set(piece.agent, []);
    holder.get(piece.agent).push(piece);
  }
  for (const list of holder.values()) list.sort((a, b) => a.seq - b.seq);
  const find = ([agent, seq]) => holder.get(agent).find((piece) => piece.seq <= seq && seq < piece.seq + piece.length);
  const children = new Map(pieces.map((piece) => [piece, []]));
  const waiting = new Map();
  for (const piece of pieces) {
    const parents = new Set(piece.parents.map(find));
    waiting.set(piece, parents.size);
    for (const parent of parents) children.get(parent).push(piece);
  }
  const ready = pieces.filter((piece) => !waiting.get(piece));
  const order = [];
  // Now and then one branch after the other, now and then all mixed.
  const mixed = random.next();
  while (ready.length) {
    const [piece] = ready.splice(random.next() < mixed ? random.below(ready.length) : ready.length - 1, 1);
    order.push(piece);
    for (const child of children.get(piece)) {
      waiting.set(child, waiting.get(child) - 1);
      if (!waiting.get(child)) ready.push(child);
    }
  }
  return order;
}

/** A list in random pieces. */
export function batches(random, list) {
  const found = [];
  const most = random.pick([1, 3, 10, list.length]);
  for (let at = 0; at < list.length; ) {
    const n = 1 + random.below(most);
    found.push(list.slice(at, at + n));
    at += n;
  }
  return found;
}
