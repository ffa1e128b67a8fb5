/**
 * The text: a list of short strings, each with its number of code points.
 *
 * Positions are code points; each edit also says where it was in UTF-16 code units, and positions convert both ways.
 * Looking up a place walks from the last one, the beginning or the end, whichever is nearest, over whole pieces: 500
 * of them in a text of a megabyte.
 */

import { countPoints, cutText, unitsOf } from "./log.js";

/** UTF-16 code units of a piece: at most, when one is cut, and below which one is joined to the next. */
const MOST = 4096;
const NEW = 2048;
const FEW = 512;

export class Text {
  /** @param {string} [text] Without lone surrogates. */
  constructor(text = "") {
    /** @type {string[]} */ this.pieces = [];
    /** @type {number[]} Code points in each. */ this.points = [];
    /** Code points. */ this.length = 0;
    /** UTF-16 code units. */ this.units = 0;
    // Where the last look-up ended: a piece, and what is before it.
    /** @type {number} */ this.i = 0;
    /** @type {number} */ this.beforePoints = 0;
    /** @type {number} */ this.beforeUnits = 0;
    /** @type {string | null} */ this.whole = null;
    if (!text) return;
    this.whole = text;
    this.units = text.length;
    this.pieces = cutText(text, NEW);
    this.points = this.pieces.map(countPoints);
    for (const points of this.points) this.length += points;
  }

  toString() {
    return (this.whole ??= this.pieces.join(""));
  }

  #rewind(/** @type {boolean} */ toEnd) {
    this.i = toEnd ? Math.max(0, this.pieces.length - 1) : 0;
    this.beforePoints = toEnd && this.pieces.length ? this.length - this.points[this.i] : 0;
    this.beforeUnits = toEnd && this.pieces.length ? this.units - this.pieces[this.i].length : 0;
  }

  /** Go to the piece with a place `at` or, `behind` it, one that ends there; counted in code points or units. */
  #seek(/** @type {number} */ at, /** @type {boolean} */ inUnits, /** @type {boolean} */ behind) {
    const total = inUnits ? this.units : this.length;
    const here = inUnits ? this.beforeUnits : this.beforePoints;
    if (at < here / 2) this.#rewind(false);
    else if (at > (here + total) / 2) this.#rewind(true);
    const { pieces, points } = this;
    let { i, beforePoints, beforeUnits } = this;
    while (i && (inUnits ? beforeUnits : beforePoints) > at) {
      i--;
      beforePoints -= points[i];
      beforeUnits -= pieces[i].length;
    }
    while (i + 1 < pieces.length) {
      const end = inUnits ? beforeUnits + pieces[i].length : beforePoints + points[i];
      if (behind ? end >= at : end > at) break;
      beforePoints += points[i];
      beforeUnits += pieces[i].length;
      i++;
    }
    while (behind && i && (inUnits ? beforeUnits : beforePoints) >= at && at > 0) {
      i--;
      beforePoints -= points[i];
      beforeUnits -= pieces[i].length;
    }
    this.i = i;
    this.beforePoints = beforePoints;
    this.beforeUnits = beforeUnits;
  }

  /** Units before a code point of the piece that was looked up. @param {number} points @returns {number} */
  #within(points) {
    const text = this.pieces[this.i];
    return text.length === this.points[this.i] ? points : unitsOf(text, points);
  }

  /** Where a code point begins, in units. `at` is within 0..length. @param {number} at */
  toUnits(at) {
    if (at === this.length) return this.units;
    this.#seek(at, false, false);
    return this.beforeUnits + this.#within(at - this.beforePoints);
  }

  /** The code point that begins at a place in units; -1 if that is between the halves of one. @param {number} at */
  toPoints(at) {
    if (at === this.units) return this.length;
    this.#seek(at, true, false);
    const text = this.pieces[this.i];
    const offset = at - this.beforeUnits;
    if (text.length === this.points[this.i]) return this.beforePoints + offset;
    const unit = text.charCodeAt(offset);
    if (unit >= 0xdc00 && unit < 0xe000) return -1;
    return this.beforePoints + countPoints(text.slice(0, offset));
  }

  /** Insert at a code point; returns where that was in units. @param {number} at @param {string} text @param {number} [points] */
  insert(at, text, points = countPoints(text)) {
    this.whole = null;
    if (!this.pieces.length) {
      this.pieces.push("");
      this.points.push(0);
    }
    this.#seek(at, false, true);
    const { i, pieces } = this;
    const offset = this.#within(at - this.beforePoints);
    const found = this.beforeUnits + offset;
    const joined = pieces[i].slice(0, offset) + text + pieces[i].slice(offset);
    this.length += points;
    this.units += text.length;
    if (joined.length <= MOST) {
      pieces[i] = joined;
      this.points[i] += points;
    } else {
      const cut = cutText(joined, NEW);
      splice(pieces, i, 1, cut);
      const narrow = joined.length === this.points[i] + points;
      splice(this.points, i, 1, cut.map(narrow ? (piece) => piece.length : countPoints));
    }
    return found;
  }

  /** Delete code points; returns where that was in units, and how many there were. @param {number} at @param {number} points @returns {[number, number]} */
  delete(at, points) {
    this.whole = null;
    this.#seek(at, false, false);
    const { i, pieces } = this;
    const offset = this.#within(at - this.beforePoints);
    const found = this.beforeUnits + offset;
    const before = this.units;
    // The last piece touched, and how many of its code points go.
    let last = i;
    let end = at - this.beforePoints + points;
    for (; end > this.points[last]; last++) end -= this.points[last];
    const text = pieces[last];
    let rest = pieces[i].slice(0, offset) + text.slice(text.length === this.points[last] ? end : unitsOf(text, end));
    if (rest.length < FEW && last + 1 < pieces.length && pieces[last + 1].length <= NEW) rest += pieces[++last];
    this.units += rest.length;
    for (let k = i; k <= last; k++) this.units -= pieces[k].length;
    this.length -= points;
    const kept = rest.length > MOST ? cutText(rest, NEW) : rest ? [rest] : [];
    let left = -points;
    for (let k = i; k <= last; k++) left += this.points[k];
    splice(this.points, i, last - i + 1, kept.length === 1 ? [left] : kept.map(countPoints));
    splice(pieces, i, last - i + 1, kept);
    if (i >= pieces.length) this.#rewind(true);
    return [found, before - this.units];
  }

  /** Code points `start:end` as a string. @param {number} start @param {number} end */
  slice(start, end) {
    return this.sliceUnits(this.toUnits(start), this.toUnits(end));
  }

  /** Units `start:end` as a string. @param {number} start @param {number} end */
  sliceUnits(start, end) {
    if (this.whole !== null) return this.whole.slice(start, end);
    let found = "";
    if (start < end) this.#seek(start, true, false);
    for (let { i, beforeUnits } = this; start < end; i++) {
      const stop = beforeUnits + this.pieces[i].length;
      const upTo = Math.min(end, stop);
      found += this.pieces[i].slice(start - beforeUnits, upTo - beforeUnits);
      start = upTo;
      beforeUnits = stop;
    }
    return found;
  }

  /** Assert every invariant: for tests. */
  _check() {
    let points = 0;
    let units = 0;
    this.pieces.forEach((piece, i) => {
      if (countPoints(piece) !== this.points[i]) throw new Error(`text: piece ${i} has other code points`);
      if (piece.length > MOST + 1 || (!piece && this.pieces.length > 1)) throw new Error(`text: piece ${i} has ${piece.length} units`);
      if (i === this.i && (points !== this.beforePoints || units !== this.beforeUnits)) throw new Error("text: the last place is wrong");
      points += this.points[i];
      units += piece.length;
    });
    if (points !== this.length || units !== this.units) throw new Error("text: lengths are wrong");
  }
}

/**
 * Replace some elements by others. @template T
 * @param {T[]} array @param {number} at @param {number} count @param {T[]} others
 */
function splice(array, at, count, others) {
  if (others.length < 10_000) array.splice(at, count, ...others);
  else {
    const rest = array.splice(at);
    for (const other of others) array.push(other);
    for (const other of rest.slice(count)) array.push(other);
  }
}
