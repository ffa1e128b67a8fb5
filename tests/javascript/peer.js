/**
 * Documents and sessions of egwalker.js for a program in another language, over stdin and stdout.
 *
 * A frame is its length as 4 bytes, the lowest first, then a line of JSON, then bytes. Each request has `do` and what
 * that needs, and gets one frame: what it asked for, or `{"error": name, "message": text}`. Positions are code points.
 */

import { Session, TextDocument } from "../../src/egwalker/browser/egwalker.js";
import { logOf } from "./histories.js";

/** By number. */
const documents = new Map();
const sessions = new Map();

const state = (doc) => ({
  id: doc.id,
  idGiven: Boolean(doc._idGiven),
  text: doc.text,
  points: doc._text.length,
  version: doc.version,
  vector: [...doc.versionVector],
  pending: doc.pending,
  shallow: doc.shallow,
  blank: doc.blank,
});

const requests = {
  new: ({ doc, agent, given }) => void documents.set(doc, new TextDocument({ agent, ...given })),
  encode: ({ doc }) => documents.get(doc).encode(),
  since: ({ doc, version }) => documents.get(doc).since(version),
  apply: ({ doc }, bytes) => documents.get(doc).apply(bytes).edits,
  receive_runs: ({ doc, runs }) =>
    documents.get(doc)._receive(
      runs.map(([agent, seq, parents, ops]) => {
        const log = logOf(ops);
        return { agent, seq, parents, log, start: 0, length: log.n };
      }),
    ).edits,
  checkout: ({ doc, version }) => documents.get(doc).checkout(version),
  map_position: ({ doc, pos, version }) => documents.get(doc).mapPosition(pos, version),
  edit({ doc, ops }) {
    const document = documents.get(doc);
    for (const [pos, deleted, inserted] of ops) {
      const at = document.fromPoints(pos);
      document.replace(at, document.fromPoints(pos + deleted) - at, inserted);
    }
  },
  state: ({ doc }) => state(documents.get(doc)),
  check: ({ doc }) => void documents.get(doc)._check(),
  // As a page that is closed and opened again.
  restart: ({ doc }) => void documents.set(doc, TextDocument.restore(documents.get(doc).dump())),
  forget({ docs }) {
    for (const doc of docs) documents.delete(doc);
    sessions.clear();
  },
  session: ({ session, doc, shallow }) => void sessions.set(session, new Session(documents.get(doc), { shallow })),
  poll: ({ session }) => sessions.get(session).poll(),
  show: ({ session, key, state }) => void sessions.get(session).show(key, state),
  fetch_all: ({ session }) => void sessions.get(session).fetchAll(),
  session_state({ session }) {
    const { greeted, synced, allSent, sent, acknowledged, unsaved } = sessions.get(session);
    return { greeted, synced, allSent, sent, acknowledged, unsaved };
  },
  receive: ({ session }, bytes) =>
    sessions.get(session).receive(bytes).map((event) => {
      if (event.type === "closed") return { type: "closed", error: event.error && `${event.error.name}: ${event.error.message}` };
      if (event.type === "greeted") return { type: "greeted", vector: [...event.vector] };
      if (event.type === "changed") return { type: "changed", edits: event.change.edits, remaining: event.remaining };
      return event;
    }),
};

function answer(frame) {
  const line = frame.indexOf(10);
  const request = JSON.parse(frame.subarray(0, line).toString());
  try {
    const found = requests[request.do](request, Uint8Array.from(frame.subarray(line + 1)));
    return found instanceof Uint8Array ? [{ bytes: true }, found] : [{ value: found ?? null }, new Uint8Array(0)];
  } catch (error) {
    return [{ error: error.name, message: error.message, stack: error.stack }, new Uint8Array(0)];
  }
}

let waiting = Buffer.alloc(0);
process.stdin.on("data", (data) => {
  waiting = waiting.length ? Buffer.concat([waiting, data]) : data;
  while (waiting.length >= 4 && waiting.length >= 4 + waiting.readUInt32LE(0)) {
    const end = 4 + waiting.readUInt32LE(0);
    const [head, bytes] = answer(waiting.subarray(4, end));
    waiting = waiting.subarray(end);
    const body = Buffer.concat([Buffer.from(`${JSON.stringify(head)}\n`), bytes]);
    const length = Buffer.alloc(4);
    length.writeUInt32LE(body.length);
    process.stdout.write(Buffer.concat([length, body]));
  }
});
