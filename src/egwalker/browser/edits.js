/** What changes in a text, as subscribers are told. */

import { showErased } from "./log.js";

/** @typedef {import("./log.js").OpLog} OpLog */
/** @typedef {import("./text.js").Text} Text */
/** @typedef {import("./walker.js").Step} Step */
/** @typedef {{at: number, deleted: number, inserted: string}} Edit In UTF-16 code units, in the text after the edits before it. */

/** Let a step happen to a text; what it was in UTF-16 code units. What was not kept shows as U+FFFD, unless it is to stay marked. @param {Text} text @param {OpLog} log @param {Step} step @param {boolean} [marked] @returns {Edit} */
export function take(text, log, { at, deleted, content, length }, marked = false) {
  if (deleted) {
    const [found, units] = text.delete(at, deleted);
    return { at: found, deleted: units, inserted: "" };
  }
  let inserted = log.pool.slice(content, content + length);
  if (log.erased && !marked) inserted = showErased(inserted);
  return { at: text.insert(at, inserted, length), deleted: 0, inserted };
}

/** Add an edit, as part of the last one where they are one. @param {Edit[]} edits @param {Edit} edit */
export function addEdit(edits, edit) {
  const last = edits[edits.length - 1];
  if (last && !edit.deleted && edit.at === last.at + last.inserted.length) last.inserted += edit.inserted;
  else if (last && !last.inserted && edit.at === last.at) {
    last.deleted += edit.deleted;
    last.inserted = edit.inserted;
  } else if (last && !last.inserted && edit.at + edit.deleted === last.at && !edit.inserted) {
    last.at = edit.at;
    last.deleted += edit.deleted;
  } else edits.push(edit);
}
