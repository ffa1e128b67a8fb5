// Diamond Types' own reader and writer, driven by `dt_node.py`: a JSON list of commands on stdin, one of answers
// on stdout.
// argv[2] is the folder that `diamond-types-node` is installed in.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";

const { OpLog } = createRequire(process.argv[2] + "/")("diamond-types-node");

const bytes = (text) => new Uint8Array(Buffer.from(text, "base64"));
const encoded = (data) => Buffer.from(data).toString("base64");

// What a log holds: text, version, and the ids, parents and operations of its events, run-length encoded.
function content(log) {
  const id = (lv) => log.localToRemoteVersion(Uint32Array.of(lv))[0];
  const history = log.getHistory().map(({ span, parents }) => ({
    ids: Array.from({ length: span[1] - span[0] }, (_, i) => id(span[0] + i)),
    parents: parents.map(id),
  }));
  const ops = log.getOps().map(({ kind, start, end, fwd, content }) => [kind, start, end, fwd, content ?? null]);
  return { text: log.checkout().get(), version: log.getRemoteVersion(), history, ops };
}

// Files, each merged into the same log in turn.
function read({ files }) {
  const log = OpLog.fromBytes(bytes(files[0]));
  for (const file of files.slice(1)) log.addFromBytes(bytes(file));
  return content(log);
}

// Logs that are edited: [log, "agent", name], [log, "ins", pos, text, parents or null],
// [log, "del", pos, length, parents or null], [log, "merge", other], and at the end the files asked for:
// [log, "file"], [log, "patch", version].
function make({ steps }) {
  const logs = new Map();
  const made = [];
  const named = (name) => {
    if (!logs.has(name)) logs.set(name, new OpLog(name));
    return logs.get(name);
  };
  for (const [name, what, ...rest] of steps) {
    const log = named(name);
    const parents = rest[2] ? Uint32Array.from(rest[2]) : undefined;
    if (what === "agent") log.setAgent(rest[0]);
    else if (what === "ins") log.ins(rest[0], rest[1], parents);
    else if (what === "del") log.del(rest[0], rest[1], parents);
    else if (what === "merge") log.addFromBytes(named(rest[0]).toBytes());
    else if (what === "file") made.push({ data: encoded(log.toBytes()), ...content(log) });
    else if (what === "patch") {
      made.push({ data: encoded(log.getPatchSince(Uint32Array.from(rest[0]))), ...content(log) });
    } else throw new Error(`no step ${what}`);
  }
  return { made };
}

const commands = JSON.parse(readFileSync(0, "utf8"));
process.stdout.write(JSON.stringify(commands.map((command) => ({ read, make })[command.what](command))));
