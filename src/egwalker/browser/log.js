/**
 * The operation log: what each event of the graph did, in rows.
 *
 * An event inserts or deletes one code point at a position of the text at its parents' version. Runs of events that
 * type on, prepend, delete on or erase backwards are one row.
 */

import { lastUpTo } from "./graph.js";

export const TYPE = 0;
export const PREPEND = 1;
export const DELETE = 2;
export const ERASE = 3;

/** Stands for a code point that is not known any more: no text holds it. */
export const ERASED = "\udfff";

/** Whether a string has such a mark; it may also be half of a pair. @param {string} text */
export function hasErased(text) {
  return /\udfff/u.test(text);
}

/** The string with such marks made what people see. @param {string} text */
export function showErased(text) {
  return text.replace(/\udfff/gu, "\ufffd");
}

/** A document's elements, and the operations of one row. */
export const MAX_LENGTH = 2 ** 31 - 1;

/** UTF-16 code units in a piece of the pool, about: cutting a piece costs as much. */
const PIECE = 2048;

/** How many code points a string without lone surrogates has. @param {string} text */
export function countPoints(text) {
  let n = text.length;
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    if (unit >= 0xd800 && unit < 0xdc00) {
      n--;
      i++;
    }
  }
  return n;
}

/** Where the code point `points` after unit `at` of a string begins, in code units. @param {string} text @param {number} points @param {number} [at] */
export function unitsOf(text, points, at = 0) {
  for (; points > 0; points--) {
    const unit = text.charCodeAt(at);
    at += unit >= 0xd800 && unit < 0xdc00 ? 2 : 1;
  }
  return at;
}

/** Cut a string into pieces of about `size` code units, none within a pair. @param {string} text @param {number} size */
export function cutText(text, size) {
  const pieces = [];
  for (let at = 0; at < text.length; ) {
    let end = Math.min(at + size, text.length);
    const unit = text.charCodeAt(end - 1);
    if (end < text.length && unit >= 0xd800 && unit < 0xdc00) end++;
    pieces.push(text.slice(at, end));
    at = end;
  }
  return pieces;
}

/** By how much the position changes from one operation of a row to the next. @param {number} kind */
export function stepOf(kind) {
  return kind === TYPE ? 1 : kind === ERASE ? -1 : 0;
}

/**
 * The kind of two rows as one, -1 if they do not join. A row of one operation has no direction of its own.
 * @param {number} k @param {number} pos @param {number} n @param {number} k2 @param {number} pos2 @param {number} n2
 */
export function join(k, pos, n, k2, pos2, n2) {
  if (k < DELETE && k2 < DELETE) {
    if (pos2 === pos + n && (k === TYPE || n === 1) && (k2 === TYPE || n2 === 1)) return TYPE;
    if (pos2 === pos && (k === PREPEND || n === 1) && (k2 === PREPEND || n2 === 1)) return PREPEND;
  } else if (k >= DELETE && k2 >= DELETE) {
    if (pos2 === pos && (k === DELETE || n === 1) && (k2 === DELETE || n2 === 1)) return DELETE;
    if (pos2 === pos - n && (k === ERASE || n === 1) && (k2 === ERASE || n2 === 1)) return ERASE;
  }
  return -1;
}

/** All code points ever inserted, in the order of their events. It is only appended to, and cut. */
class Pool {
  constructor() {
    this.n = 0;
    /** @type {number[]} The number of each piece's first code point. */ this.start = [];
    /** @type {string[]} */ this.text = [];
  }

  /** @param {string} text @param {number} points */
  append(text, points) {
    const last = this.text.length - 1;
    if (last >= 0 && this.text[last].length + text.length <= PIECE) this.text[last] += text;
    else if (text.length <= PIECE) {
      this.start.push(this.n);
      this.text.push(text);
    } else {
      let n = this.n;
      for (const piece of cutText(text, PIECE)) {
        this.start.push(n);
        this.text.push(piece);
        n += points === text.length ? piece.length : countPoints(piece);
      }
    }
    this.n += points;
  }

  /** Code points `start:end`. O(log n + length). @param {number} start @param {number} end */
  slice(start, end) {
    let found = "";
    for (let i = lastUpTo(this.start, start); start < end; i++) {
      const text = this.text[i];
      const first = this.start[i];
      const stop = i + 1 < this.start.length ? this.start[i + 1] : this.n;
      const upTo = Math.min(end, stop);
      if (stop - first === text.length) found += text.slice(start - first, upTo - first);
      else {
        const at = unitsOf(text, start - first);
        found += upTo === stop ? text.slice(at) : text.slice(at, unitsOf(text, upTo - start, at));
      }
      start = upTo;
    }
    return found;
  }

  /** Forget all from code point `n` on. @param {number} n */
  cut(n) {
    const i = lastUpTo(this.start, n);
    if (n >= this.n) return;
    const rest = this.slice(this.start[i], n);
    this.start.length = this.text.length = i;
    if (rest) {
      this.start.push(this.n = n - countPoints(rest));
      this.text.push(rest);
    }
    this.n = n;
  }
}

export class OpLog {
  constructor() {
    /** How many events. */
    this.n = 0;
    /** @type {number[]} By row: the first local version. */ this.lv = [];
    /** @type {number[]} */ this.kind = [];
    /** @type {number[]} The first operation's position, in code points. */ this.pos = [];
    /** @type {number[]} Of inserts the number of the first code point in the pool. */ this.content = [];
    this.pool = new Pool();
    /** Whether some content was not kept by whoever sent it. */
    this.erased = false;
  }

  /** The row of a local version. @param {number} lv */
  find(lv) {
    const at = this.lv;
    const last = at.length - 1;
    return at[last] <= lv ? last : lastUpTo(at, lv);
  }

  /** The local version after a row's last. @param {number} row */
  end(row) {
    return row + 1 < this.lv.length ? this.lv[row + 1] : this.n;
  }

  /** Append operations. `text` has the code points inserted, none for deletes. @param {number} kind @param {number} pos @param {number} length @param {string} text */
  push(kind, pos, length, text) {
    const last = this.lv.length - 1;
    const joined = last < 0 ? -1 : join(this.kind[last], this.pos[last], this.n - this.lv[last], kind, pos, length);
    if (joined >= 0) this.kind[last] = joined;
    else {
      this.lv.push(this.n);
      this.kind.push(length > 1 ? kind : kind < DELETE ? TYPE : DELETE);
      this.pos.push(pos);
      this.content.push(this.pool.n);
    }
    if (kind < DELETE) this.pool.append(text, length);
    this.n += length;
  }

  /** Append operations `start:end` of another log. @param {OpLog} other @param {number} start @param {number} end */
  pushFrom(other, start, end) {
    for (let row = start < end ? other.find(start) : 0; start < end; row++) {
      const hi = Math.min(end, other.end(row));
      const kind = other.kind[row];
      const offset = start - other.lv[row];
      this.push(kind, other.pos[row] + stepOf(kind) * offset, hi - start, kind < DELETE ? other.text(row, offset, hi - start) : "");
      start = hi;
    }
    this.erased ||= other.erased;
  }

  /** What a row inserts from its operation `offset` on. @param {number} row @param {number} offset @param {number} length */
  text(row, offset, length) {
    const at = this.content[row] + offset;
    return this.pool.slice(at, at + length);
  }

  /**
   * The operations of some events, none longer than its row.
   * @param {number} start @param {number} end
   * @returns {Generator<{lv: number, kind: number, pos: number, length: number, row: number, offset: number}>}
   */
  *ops(start, end) {
    for (let row = start < end ? this.find(start) : 0; start < end; row++) {
      const hi = Math.min(end, this.end(row));
      const offset = start - this.lv[row];
      const kind = this.kind[row];
      yield { lv: start, kind, pos: this.pos[row] + stepOf(kind) * offset, length: hi - start, row, offset };
      start = hi;
    }
  }

  /** Forget the operations from `n` on. @param {number} n */
  cut(n) {
    while (this.n > n) {
      const row = this.lv.length - 1;
      const offset = Math.max(0, n - this.lv[row]);
      if (this.kind[row] < DELETE) this.pool.cut(this.content[row] + offset);
      this.n = this.lv[row] + offset;
      if (offset === 0) this.lv.length = this.kind.length = this.pos.length = this.content.length = row;
      else if (offset === 1) this.kind[row] = this.kind[row] < DELETE ? TYPE : DELETE;
    }
  }
}

/** Whether two logs have the same operations, of `length` events from one's `a` and the other's `b` on. @param {OpLog} one @param {number} a @param {OpLog} other @param {number} b @param {number} length */
export function sameOps(one, a, other, b, length) {
  const mine = [...one.ops(a, a + length)];
  const theirs = [...other.ops(b, b + length)];
  for (let i = 0, k = 0, from = 0, start = 0; i < mine.length; ) {
    const x = mine[i];
    const y = theirs[k];
    const some = Math.min(x.length - from, y.length - start);
    if (x.kind < DELETE !== y.kind < DELETE || x.pos + stepOf(x.kind) * from !== y.pos + stepOf(y.kind) * start) return false;
    if (some > 1 && x.kind !== y.kind) return false;
    if (x.kind < DELETE) {
      const texts = [one.text(x.row, x.offset + from, some), other.text(y.row, y.offset + start, some)];
      // What was not kept may have been anything.
      if (texts[0] !== texts[1] && !texts.some(hasErased)) return false;
    }
    if ((from += some) === x.length) (from = 0), i++;
    if ((start += some) === y.length) (start = 0), k++;
  }
  return true;
}
