/** The parts of messages (docs/protocol.md). */

import { Reader, Writer, fromUtf8, toUtf8 } from "./bytes.js";
import { readNames, readRanges, writeNames, writeRanges } from "./codec.js";
import { DecodeError, SyncError } from "./errors.js";
import { hasLoneSurrogate } from "./graph.js";

/** @typedef {import("./graph.js").Id} Id */
/** @typedef {import("./graph.js").Vector} Vector */

export const PROTOCOL = 1;

export const HELLO = 1;
export const BACKLOG = 2;
export const UPDATE = 3;
export const DONE = 4;
export const ACK = 5;
export const PRESENCE = 6;
export const ERROR = 7;
export const START = 8;
export const FETCH = 9;
export const PAST = 10;
export const NAMES = ["", "HELLO", "BACKLOG", "UPDATE", "DONE", "ACK", "PRESENCE", "ERROR", "START", "FETCH", "PAST"];

/** Flags of HELLO. */
export const BLANK = 1;
export const DURABLE = 2;
export const READ_ONLY = 4;
export const SHALLOW = 8;
export const PLAIN = 16;

/** Bytes of a message, of a HELLO, of a FETCH, of a presence as JSON, and of its key. */
export const MAX_MESSAGE = 16 << 20;
export const MAX_HELLO = 2 << 20;
export const MAX_FETCH = 64 << 10;
const MAX_PRESENCE = 4096;
const MAX_KEY = 255;
/** How deep a presence may be nested. */
const MAX_DEPTH = 32;
/** Characters of an error that the other end is told. */
const MAX_REASON = 1000;

/** @param {Writer} out @param {Vector} vector */
export function writeVector(out, vector) {
  writeNames(out, vector.keys());
  for (const ranges of vector.values()) writeRanges(out, ranges);
}

/** A version vector, to the end. @param {Reader} reader @returns {Vector} */
export function readVector(reader) {
  /** @type {Vector} */
  const vector = new Map();
  for (const name of readNames(reader)) vector.set(name, []);
  for (const name of vector.keys()) vector.set(name, readRanges(reader, name));
  reader.end();
  return vector;
}

/** @param {Id[]} heads @param {Id[]} wanted */
export function writeFetch(heads, wanted) {
  const out = new Writer().byte(FETCH);
  for (const ids of [heads, wanted]) {
    out.number(ids.length);
    for (const [name, seq] of ids) out.name(name).number(seq);
  }
  return out.taken();
}

/** Why a value is no JSON that can be told, "" if it is. @param {unknown} value @param {number} depth @returns {string} */
function wrong(value, depth) {
  if (value === null || typeof value === "boolean") return "";
  if (typeof value === "number") return Number.isFinite(value) ? "" : `${value} is no JSON`;
  if (typeof value === "string") return hasLoneSurrogate(value) ? "it holds a lone surrogate" : "";
  if (typeof value !== "object") return `${typeof value} is no JSON`;
  if (depth >= MAX_DEPTH) return `it is nested more than ${MAX_DEPTH} deep`;
  for (const [key, item] of Object.entries(/** @type {object} */ (value))) {
    const why = wrong(key, 0) || wrong(item, depth + 1);
    if (why) return why;
  }
  return "";
}

/** A PRESENCE message; null: they left. `SyncError` for what is no JSON, or too large. @param {string} key @param {unknown} state */
export function writePresence(key, state) {
  const why = wrong(key, 0) || wrong(state, 0);
  if (why) throw new SyncError(`the presence of ${JSON.stringify(key)}: ${why}`);
  const name = toUtf8(key);
  const text = toUtf8(state === null ? "" : JSON.stringify(state));
  if (!name.length || name.length > MAX_KEY || text.length > MAX_PRESENCE) {
    throw new SyncError(`a presence has ${text.length} bytes under a key of ${name.length}, at most ${MAX_PRESENCE} are told, under one of 1 to ${MAX_KEY}`);
  }
  return new Writer().byte(PRESENCE).sized(name).bytes(text).taken();
}

/** @param {Reader} reader @returns {{key: string, state: any}} */
export function readPresence(reader) {
  const length = reader.number();
  if (!length || length > MAX_KEY) throw reader.fault(`has a key of ${length} bytes, not 1 to ${MAX_KEY}`);
  const key = fromUtf8(reader.take(length), "a key");
  const raw = reader.take(reader.left);
  if (!raw.length) return { key, state: null };
  if (raw.length > MAX_PRESENCE) throw reader.fault(`has ${raw.length} bytes, at most ${MAX_PRESENCE} are read`);
  let state;
  try {
    state = JSON.parse(fromUtf8(raw, "a presence"));
  } catch (error) {
    throw reader.fault(`is not JSON: ${/** @type {Error} */ (error).message}`);
  }
  const why = state === null ? "it is null" : wrong(state, 0);
  if (why) throw reader.fault(`cannot be: ${why}`);
  return { key, state };
}

/** An ERROR message. @param {Error} error */
export function writeError(error) {
  const text = [...error.message].slice(0, MAX_REASON).join("");
  return new Writer().byte(ERROR).sized(toUtf8(error.name)).bytes(toUtf8(text)).taken();
}

/** What the other end found wrong, fit to be shown. @param {Uint8Array} message */
export function readError(message) {
  let name = "error";
  let text = "one that cannot be read";
  try {
    const reader = new Reader(message.subarray(2), "ERROR");
    name = fromUtf8(reader.take(reader.number()), "a name");
    text = new TextDecoder().decode(reader.take(Math.min(reader.left, 4 * MAX_REASON)));
  } catch (error) {
    if (!(error instanceof DecodeError)) throw error;
  }
  const shown = [...`${name.slice(0, 80)}: ${text}`].slice(0, MAX_REASON + 82).join("");
  // Neither what controls a terminal nor what turns the direction of writing.
  return new SyncError(`the other end closed the link: ${shown.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, "?")}`);
}
