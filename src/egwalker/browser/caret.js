/**
 * The deferred clock: which events know of each other while people type.
 *
 * A *run* is what is typed without moving: each edit goes on where the last one ended, at the caret. What others do
 * meanwhile is in the text, but is no parent: a run's events each follow the one before alone, so that it stays one
 * group. Around the caret lies a *stretch* of the text in which nobody else has changed anything since the run began:
 * there the text and that of the run's version have the same elements, and their positions differ by one number. A
 * change right at the caret ends the run, and so does coming to the stretch's border: only strictly inside it is
 * the place where something is typed the one where every walk puts it. All in code points.
 */
export class Caret {
  constructor() {
    this.open = false; // there is a run
    this.apart = false; // the document has events that it does not know
    this.next = 0; // the seq after its last event
    this.at = 0; // where it goes on
    this.start = -1; // of the stretch; -1: nothing is unknown before it
    this.end = Infinity;
    this.shift = 0; // what to add to a position for the one at the run's version
  }

  /** End the run: the next edit follows all that the document has. */
  close() {
    this.open = this.apart = false;
  }

  /** Whether deleting `length` elements from `pos` on, or inserting there if it is 0, belongs to the run. @param {number} pos @param {number} length */
  goesOn(pos, length) {
    if (!this.open || !(this.start < this.at && this.at < this.end)) return false;
    return (pos === this.at || pos + length === this.at) && this.start <= pos && pos + length <= this.end;
  }

  /** An edit was made here that ended at `at`. If the run is apart, it went on with it. @param {number} next @param {number} at @param {number} grown */
  typed(next, at, grown) {
    this.open = true;
    this.next = next;
    this.at = at;
    this.end += grown;
  }

  /** Others' events came into the document. @param {import("./walker.js").Step[]} steps */
  follow(steps) {
    if (!this.open) return;
    if (!this.apart) {
      this.apart = true;
      this.start = -1;
      this.end = Infinity;
      this.shift = 0;
    }
    for (const { at, deleted, length } of steps) {
      const grown = deleted ? -deleted : length;
      if (at > this.at) this.end = Math.min(this.end, at);
      else if (at + deleted >= this.at) return this.close();
      else {
        this.at += grown;
        this.end += grown;
        this.shift -= grown;
        this.start = deleted ? Math.max(this.start - deleted, at) : Math.max(this.start, at) + length;
      }
    }
  }
}
