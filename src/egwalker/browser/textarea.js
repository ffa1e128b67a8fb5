/** A `<textarea>` bound to a document. */

import { Teller } from "./presence.js";

/** Milliseconds between two edits that are undone one by one. */
const PAUSE = 700;
/** How many edits can be undone. */
const UNDONE = 1000;
/** What a carriage return is shown as: a textarea takes it for a line break, or leaves it out. */
const RETURN = "\u240d";
/** The keys that move a caret. */
const MOVING = new Set(["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Home", "End", "PageUp", "PageDown"]);

/** @typedef {{at: number, deleted: number, inserted: string}} Edit */

/** @param {string} text */
function shown(text) {
  return text.replaceAll("\r", RETURN);
}

/**
 * What has been edited between two texts, where the caret is after it: between equal letters it decides.
 * @param {string} old @param {string} text @param {number} caret @returns {Edit}
 */
function difference(old, text, caret) {
  const most = Math.min(old.length, text.length);
  let end = 0;
  // What is behind the caret has not been typed now.
  while (end < Math.min(most, text.length - caret) && old.at(-1 - end) === text.at(-1 - end)) end++;
  let start = 0;
  while (start < most - end && old[start] === text[start]) start++;
  while (end < most - start && old.at(-1 - end) === text.at(-1 - end)) end++;
  // Characters are not cut.
  if (start && /[\ud800-\udbff]/.test(old[start - 1] ?? "")) start--;
  if (end && /[\udc00-\udfff]/.test(old.at(-end) ?? "")) end--;
  return { at: start, deleted: old.length - end - start, inserted: text.slice(start, text.length - end) };
}

/** A place in a text after an edit of it. @param {number} place @param {Edit} edit @param {boolean} behind What is inserted there. */
function moved(place, { at, deleted, inserted }, behind) {
  if (place < at || (place === at && !behind)) return place;
  if (place < at + deleted) return at + (behind ? inserted.length : 0);
  return place - deleted + inserted.length;
}

/**
 * What was done here, to be undone: which ranges were inserted, and what was deleted where. Others' edits move these,
 * and what others type within them is not theirs.
 */
class Undo {
  constructor() {
    /** @type {{ranges: [number, number][], at: number, text: string, time: number}[]} */
    this.done = [];
    /** @type {Undo["done"]} */
    this.undone = [];
  }

  /** Something was done here. @param {Edit} edit @param {string} gone What was deleted. @param {Undo["done"]} stack */
  add(edit, gone, stack = this.done) {
    const { at, inserted } = edit;
    for (const list of [this.done, this.undone]) this.move(edit, list);
    const last = stack.at(-1);
    const time = performance.now();
    const [range] = last?.ranges ?? [];
    if (stack === this.done && last && time - last.time < PAUSE) {
      if (last.ranges.length === 1 && !gone && range[1] === at && !/\s$/.test(inserted)) {
        range[1] += inserted.length;
        last.time = time;
        return;
      }
      if (!last.ranges.length && !inserted && last.at === at) {
        last.text = gone + last.text;
        last.time = time;
        return;
      }
    }
    stack.push({ ranges: inserted ? [[at, at + inserted.length]] : [], at, text: gone, time });
    if (stack.length > UNDONE) stack.shift();
  }

  /** Somebody else's edit. @param {Edit} edit @param {Undo["done"]} list */
  move(edit, list) {
    for (const entry of list) {
      entry.at = moved(entry.at, edit, false);
      entry.ranges = entry.ranges.flatMap(([start, end]) => {
        const { at, deleted, inserted } = edit;
        /** @type {[number, number][]} */
        const parts = start < at && at + deleted < end && inserted
          ? [[start, at], [at + inserted.length, end - deleted + inserted.length]]
          : [[moved(start, edit, true), moved(end, edit, false)]];
        return parts.filter(([a, b]) => a < b);
      });
    }
  }
}

/**
 * Bind a textarea to a link's document: it shows the document's text, what is typed enters the document, and others see
 * where its caret is. Undoing undoes what was done here only. Returns a function that ends it.
 * @param {HTMLTextAreaElement} textarea @param {import("./link.js").Link} link
 * @param {{name?: string, color?: string}} [me] Who others see.
 */
export function bindTextarea(textarea, link, me = {}) {
  const { document: doc } = link;
  const undo = new Undo();
  /** @type {Edit[]} Others' edits while a character is being composed. */
  let waiting = [];
  let composing = false;
  let mine = false;
  let text = shown(doc.text);
  textarea.value = text;
  /** Where the selection is if nobody moves it. */
  let place = [-1, -1];

  const teller = new Teller(link, me, () => {
    if (composing) return null;
    const { selectionStart, selectionEnd, selectionDirection } = textarea;
    return selectionDirection === "backward" ? [selectionEnd, selectionStart] : [selectionStart, selectionEnd];
  });

  /** Edit the document. @param {Edit[]} edits */
  const edit = (edits, stack = undo.done) => {
    mine = true;
    try {
      doc.transact(() => {
        for (const one of edits) {
          const gone = doc.slice(one.at, one.at + one.deleted);
          doc.replace(one.at, one.deleted, one.inserted);
          undo.add(one, gone, stack);
        }
      });
    } finally {
      mine = false;
    }
  };

  /** Show the document's text, with the selection where it is in it now. @param {number} start @param {number} end */
  const show = (start, end) => {
    const { scrollTop, selectionDirection } = textarea;
    text = shown(doc.text);
    textarea.value = text;
    textarea.setSelectionRange(start, end, selectionDirection ?? undefined);
    textarea.scrollTop = scrollTop;
    place = [start, end];
  };

  /** The selection may have changed. Moved by key or mouse: what is typed now follows all that one sees. */
  const selected = () => {
    const { selectionStart: start, selectionEnd: end } = textarea;
    if (document.activeElement !== textarea) return;
    if (!composing && textarea.value === text && (start !== place[0] || end !== place[1])) {
      place = [start, end];
      doc.adopt();
    }
    teller.changed();
  };

  /** To the left and back again is one `selectionchange` or none, with the caret where it was: it has been moved, though. */
  const movedByHand = () => {
    if (!composing && textarea.value === text) doc.adopt();
  };

  /** What was typed enters the document. */
  const typed = () => {
    if (composing || textarea.value === text) return;
    let { selectionStart, selectionEnd } = textarea;
    const one = difference(text, textarea.value.toWellFormed(), selectionEnd);
    const late = waiting;
    waiting = [];
    if (!late.length) {
      text = textarea.value;
      undo.undone = [];
      edit([one]);
      place = [selectionStart, selectionEnd];
      if (text !== shown(doc.text)) show(selectionStart, selectionEnd);
    } else {
      // It was typed into a text that others have edited since: each letter that it deletes is where it is now.
      const places = Array.from({ length: one.deleted }, (_, i) => one.at + i);
      let { at } = one;
      /** @type {number[]} */
      let gone = places;
      for (const other of late) {
        at = moved(at, other, false);
        gone = gone.filter((place) => place < other.at || place >= other.at + other.deleted)
          .map((place) => moved(place, other, true));
      }
      undo.undone = [];
      edit([...gone.reverse().map((place) => ({ at: place, deleted: 1, inserted: "" })), { at, deleted: 0, inserted: one.inserted }]
        .filter(({ deleted, inserted }) => deleted || inserted));
      selectionStart = selectionEnd = at + one.inserted.length;
      show(selectionStart, selectionEnd);
    }
    teller.changed();
  };

  /** Undo, or redo, what was done last. @param {typeof undo.done} from @param {typeof undo.done} to */
  const back = (from, to) => {
    const entry = from.pop();
    if (!entry) return;
    /** @type {Edit[]} */
    const edits = entry.ranges.reverse().map(([start, end]) => ({ at: start, deleted: end - start, inserted: "" }));
    let { at } = entry;
    for (const one of edits) at = moved(at, one, false);
    const last = edits.at(-1);
    if (entry.text && last?.at === at) last.inserted = entry.text;
    else if (entry.text) edits.push({ at, deleted: 0, inserted: entry.text });
    if (edits.length) edit(edits, to);
    show(at + entry.text.length, at + entry.text.length);
    teller.changed();
  };

  const unsubscribe = doc.subscribe(({ edits }) => {
    if (mine) return;
    for (const one of edits) for (const list of [undo.done, undo.undone]) undo.move(one, list);
    if (composing || textarea.value !== text) {
      waiting.push(...edits);
      return;
    }
    let { selectionStart: start, selectionEnd: end } = textarea;
    for (const one of edits) {
      [start, end] = [moved(start, one, start !== end), moved(end, one, false)];
      end = Math.max(start, end);
    }
    show(start, end);
    teller.changed();
  });

  /** @type {[EventTarget, string, (event: any) => void][]} */
  const handlers = [
    [textarea, "input", typed],
    [textarea, "compositionstart", () => { composing = true; }],
    [textarea, "compositionend", () => { composing = false; typed(); if (waiting.length) catchUp(); }],
    [textarea, "beforeinput", (event) => {
      const which = { historyUndo: [undo.done, undo.undone], historyRedo: [undo.undone, undo.done] }[/** @type {string} */ (event.inputType)];
      if (!which) return;
      event.preventDefault();
      back(which[0], which[1]);
    }],
    [textarea, "keydown", (event) => {
      if (MOVING.has(event.key)) movedByHand();
      const key = event.key.toLowerCase();
      if (!(event.ctrlKey || event.metaKey) || event.altKey || (key !== "z" && key !== "y")) return;
      event.preventDefault();
      if (key === "y" || event.shiftKey) back(undo.undone, undo.done);
      else back(undo.done, undo.undone);
    }],
    [document, "selectionchange", selected],
    [textarea, "pointerdown", movedByHand],
  ];

  /** Nothing came of what was composed, and others have edited meanwhile. */
  function catchUp() {
    let { selectionStart: start, selectionEnd: end } = textarea;
    for (const one of waiting) [start, end] = [moved(start, one, false), moved(end, one, false)];
    waiting = [];
    show(start, end);
  }

  for (const [target, name, handler] of handlers) target.addEventListener(name, handler);
  teller.changed();
  return () => {
    unsubscribe();
    teller.stop();
    for (const [target, name, handler] of handlers) target.removeEventListener(name, handler);
  };
}
