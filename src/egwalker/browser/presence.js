/** Who else is there, and telling them where one is: what all bindings have in common. */

/** Milliseconds between two tellings of where the caret is. */
const PERIOD = 60;
/** Characters of a name that are shown. */
const NAME_LENGTH = 40;
/** How many heads a version told with a caret has at most. */
const HEADS = 16;
/** Runs of events that are walked to find where a caret is now. */
const WALKED = 1000;

/**
 * What somebody says their name is, fit to be shown as text: what cannot be seen, or turns text around, is marked.
 * @param {unknown} name
 */
export function shownName(name) {
  const text = (typeof name === "string" ? name : "").toWellFormed().trim()
    .replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, (char) => (char === "\u200c" || char === "\u200d" ? char : "\ufffd"));
  const chars = [...text];
  return chars.length > NAME_LENGTH ? `${chars.slice(0, NAME_LENGTH - 1).join("")}…` : text || "Somebody";
}

/** Whether a colour from elsewhere is one. @param {unknown} color @returns {color is string} */
export function isColor(color) {
  return typeof color === "string" && /^#[0-9a-f]{6}$/i.test(color);
}

/** Whether a document has all events of a version that somebody told. @param {any} document @param {unknown} version */
export function hasAll(document, version) {
  if (!Array.isArray(version)) return true;
  return version.every((id) => Array.isArray(id) && document.has(String(id[0]), id[1]));
}

/**
 * Where a position that somebody told is now, in UTF-16 code units. It means the text at their version; without one, or
 * with one that cannot be gone back to, it is taken as it is.
 * @param {import("./document.js").TextDocument} document @param {number} pos @param {unknown} version All of it is here.
 */
export function placeOf(document, pos, version) {
  let now = pos;
  try {
    if (Array.isArray(version)) now = document.mapPosition(pos, version, WALKED);
  } catch {
    // Anybody may tell anything.
  }
  return document.fromPoints(now);
}

/** Tells others where the caret is, and whose it is, whenever that has changed. */
export class Teller {
  /**
   * @param {import("./link.js").Link} link
   * @param {{name?: string, color?: string}} me Read each time.
   * @param {() => [number, number] | null} selection Its anchor and head in the document, in UTF-16 code units.
   */
  constructor(link, me, selection) {
    this.link = link;
    this.me = me;
    this.selection = selection;
    this.told = "";
    this.timer = 0;
  }

  /** To be called when anything may have changed. It is told soon. */
  changed() {
    this.timer ||= setTimeout(() => {
      this.timer = 0;
      this.tell();
    }, PERIOD);
  }

  tell() {
    const { document } = this.link;
    const found = this.selection();
    if (!found) return;
    let anchor, head;
    try {
      [anchor, head] = found.map((at) => document.toPoints(at));
    } catch {
      return; // between the halves of a character
    }
    const state = { name: this.me.name ?? "", color: this.me.color ?? "", anchor, head };
    const text = JSON.stringify(state);
    if (text === this.told) return;
    this.told = text;
    const { version } = document;
    // In which text it is there: who lacks some of that waits for it, and who has more finds its place. Where that has
    // the same number, a later version has no more to tell.
    this.link.show(version.length <= HEADS ? { ...state, version } : state);
  }

  stop() {
    clearTimeout(this.timer);
  }
}
