/**
 * The transforming walk (Eg-walker, arXiv 2409.14252): what events mean for the text as it has become.
 *
 * A `Walk` begins at a critical version, over a placeholder for all the text there was. It knows each element since
 * twice: whether it is visible in the *prepare* version, at which the next event is to be read, and in the *effect*
 * version, the text as it has become. An event's position is found by the one and read off by the other. Elements
 * are in a B+ tree of *items*, runs of elements that are split only where an event says so.
 *
 * A walk is kept, and goes on with what comes next: an event costs what it is concurrent with, not all that has
 * happened since the last critical version. Who types on while others do makes a branch that gets long: the prepare
 * version does not go to and fro between two of those, as what was typed last says where the next element stands.
 */

import { HistoryError, PositionError } from "./errors.js";
import { lastUpTo } from "./graph.js";
import { DELETE, ERASE, PREPEND, TYPE } from "./log.js";

/** @typedef {import("./graph.js").Graph} Graph */
/** @typedef {import("./log.js").OpLog} OpLog */
/** @typedef {{at: number, deleted: number, content: number, length: number}} Step An edit in code points: so many deleted, or `length` inserted, which are in the pool from `content` on. */

/** Items in a leaf, and nodes in a node. */
const SLOTS = 32;
/** The length of a placeholder as long as the real one is not known. */
const ENDLESS = 2 ** 40;
/** How many people who type are known: see `Typist`. */
const TYPISTS = 64;

/** The last element of an item. Origins on the left are such ends: an item that is split gives its end to the new piece. */
class End {
  /** @param {Item} item */
  constructor(item) {
    this.item = item;
  }
}

/** A run of elements. Its first one stays that for ever, so that origins on the right are items. */
class Item {
  /** @param {number} lv @param {number} length @param {End | null} left @param {Item | null} right */
  constructor(lv, length, left, right) {
    /** The first element's event; -1 in a placeholder. */
    this.lv = lv;
    this.length = length;
    this.left = left;
    this.right = right;
    /** In the prepare version: 0 not inserted, 1 visible, 1 + n deleted n times. */
    this.state = 1;
    /** In the effect version. */
    this.deleted = false;
    this.end = new End(this);
    /** @type {Item | null} The piece that was cut off it last. */
    this.next = null;
    /** @type {Node} */
    this.leaf = /** @type {any} */ (null);
  }

  get shown() {
    return this.state === 1 ? this.length : 0;
  }

  get kept() {
    return this.deleted ? 0 : this.length;
  }
}

/** Somebody who types, behind their last event. @typedef {{pos: number, left: End, right: Item | null}} Typist The caret in the version of that event, and between which origins it is. */

/** A node of the tree: items, or nodes of one level. It knows how many elements below it both versions show. */
class Node {
  /** @param {boolean} leaf */
  constructor(leaf) {
    this.leaf = leaf;
    /** @type {any[]} */
    this.kids = [];
    this.shown = 0;
    this.kept = 0;
    /** @type {Node | null} */
    this.up = null;
    /** @type {Node | null} The next leaf. */
    this.next = null;
  }
}

/** What events `lv : lv + length` touched: elements from the first of `item` on; `backwards`: the last event the first element. */
class Entry {
  /** @param {number} lv @param {number} length @param {Item} item @param {boolean} backwards */
  constructor(lv, length, item, backwards) {
    this.lv = lv;
    this.length = length;
    this.item = item;
    this.backwards = backwards;
  }
}

/** Items in document order. */
class Tree {
  /** @param {Graph} graph @param {number} length */
  constructor(graph, length) {
    this.graph = graph;
    this.root = new Node(true);
    this.first = this.root;
    this.items = 0;
    /** @type {Item[]} The items that the last `delete` found. */
    this.hit = [];
    this.#place(null, new Item(-1, length, null, null));
  }

  /** Take some elements off the end, which was taken too far for want of knowing. @param {number} surplus */
  shorten(surplus) {
    let node = this.root;
    while (!node.leaf) node = node.kids[node.kids.length - 1];
    node.kids[node.kids.length - 1].length -= surplus;
    this.#count(node, -surplus, -surplus);
  }

  // --- places

  /** @param {Node | null} node @param {number} shown @param {number} kept */
  #count(node, shown, kept) {
    for (; node; node = node.up) {
      node.shown += shown;
      node.kept += kept;
    }
  }

  /** Put an item behind another, or first of all. @param {Item | null} before @param {Item} item */
  #place(before, item) {
    const leaf = before ? before.leaf : this.first;
    leaf.kids.splice(before ? leaf.kids.indexOf(before) + 1 : 0, 0, item);
    item.leaf = leaf;
    this.items++;
    this.#count(leaf, item.shown, item.kept);
    if (leaf.kids.length > SLOTS) this.#split(leaf);
  }

  /** @param {Node} node */
  #split(node) {
    const other = new Node(node.leaf);
    other.kids = node.kids.splice(SLOTS >> 1);
    for (const kid of other.kids) {
      other.shown += kid.shown;
      other.kept += kid.kept;
      if (node.leaf) kid.leaf = other;
      else kid.up = other;
    }
    if (node.leaf) {
      other.next = node.next;
      node.next = other;
    }
    let up = node.up;
    if (!up) {
      up = this.root = new Node(false);
      up.kids.push(node);
      up.shown = node.shown;
      up.kept = node.kept;
      node.up = up;
    }
    node.shown -= other.shown;
    node.kept -= other.kept;
    other.up = up;
    up.kids.splice(up.kids.indexOf(node) + 1, 0, other);
    if (up.kids.length > SLOTS) this.#split(up);
  }

  /** The item behind another one. @param {Item} item @returns {Item | null} */
  after(item) {
    const { leaf } = item;
    const slot = leaf.kids.indexOf(item) + 1;
    if (slot < leaf.kids.length) return leaf.kids[slot];
    return leaf.next ? leaf.next.kids[0] : null;
  }

  /** How many elements the effect version has up to the end of an item. O(log items). @param {Item} item */
  keptThrough(item) {
    let sum = 0;
    /** @type {any} */
    let kid = item;
    for (let node = item.leaf; node; kid = node, node = /** @type {Node} */ (node.up)) {
      for (let i = 0; node.kids[i] !== kid; i++) sum += node.kids[i].kept;
    }
    return sum + item.kept;
  }

  /** Whether one item stands before another. O(log items). @param {Item} a @param {Item} b */
  precedes(a, b) {
    if (a === b) return false;
    let x = a.leaf;
    let y = b.leaf;
    if (x === y) return x.kids.indexOf(a) < x.kids.indexOf(b);
    while (x.up !== y.up) {
      x = /** @type {Node} */ (x.up);
      y = /** @type {Node} */ (y.up);
    }
    const { kids } = /** @type {Node} */ (x.up);
    return kids.indexOf(x) < kids.indexOf(y);
  }

  /** The item with element `pos` of the prepare version, the element's place in it, and what the effect version has before the item. @param {number} pos @returns {[Item, number, number]} */
  find(pos) {
    let kept = 0;
    /** @type {any} */
    let node = this.root;
    for (;;) {
      let i = 0;
      for (let kid = node.kids[0]; pos >= kid.shown; kid = node.kids[++i]) {
        pos -= kid.shown;
        kept += kid.kept;
      }
      if (node.leaf) return [node.kids[i], pos, kept];
      node = node.kids[i];
    }
  }

  /** Cut an item before its element `at`; returns the second piece. @param {Item} item @param {number} at */
  cut(item, at) {
    const { end, leaf } = item;
    const rest = new Item(item.lv < 0 ? -1 : item.lv + at, item.length - at, null, item.right);
    item.end = rest.end;
    item.end.item = item;
    rest.end = end;
    end.item = rest;
    rest.left = item.end;
    rest.next = item.next;
    item.next = rest;
    rest.state = item.state;
    rest.deleted = item.deleted;
    const { shown, kept } = rest;
    item.length = at;
    this.#count(leaf, -shown, -kept);
    this.#place(item, rest);
    return rest;
  }

  // --- what events do

  /**
   * Insert at `pos` of the prepare version; returns the item, and where it stands in the effect version.
   *
   * Among items at the same place that the prepare version does not know, the place is found as FugueMax has it.
   * @param {number} pos @param {number} length @param {number} lv @returns {[Item, number]}
   */
  insert(pos, length, lv) {
    /** @type {Item | null} */
    let before = null;
    /** @type {End | null} */
    let left = null;
    let kept = 0;
    if (pos) {
      const [item, offset, sum] = this.find(pos - 1);
      before = item;
      kept = sum + (item.deleted ? 0 : offset + 1);
      if (offset + 1 < item.length) {
        const right = this.cut(item, offset + 1);
        return [this.#put(item, new Item(lv, length, item.end, right)), kept];
      }
      left = item.end;
    }
    // What follows and is not inserted yet in the prepare version is concurrent. Behind it is the right origin.
    let right = before ? this.after(before) : this.first.kids[0];
    while (right && right.state === 0) right = this.after(right);
    [before, kept] = this.#settle(before, kept, left, right, lv);
    // What goes on from the last event walked is one item with it: nothing else has come to that item's end since.
    if (
      before && left === before.end && before.lv >= 0 && before.lv + before.length === lv && before.right === right &&
      this.graph.lv[this.graph.find(lv)] !== lv
    ) {
      before.length += length;
      this.#count(before.leaf, length, length);
      return [before, kept];
    }
    return [this.#put(before, new Item(lv, length, left, right)), kept];
  }

  /** Insert between two origins, in the effect version only; returns as `insert` does. O(log items). @param {End} left @param {Item | null} right @param {number} length @param {number} lv @returns {[Item, number]} */
  insertBetween(left, right, length, lv) {
    const [before, kept] = this.#settle(left.item, this.keptThrough(left.item), left, right, lv);
    const item = new Item(lv, length, left, right);
    item.state = 0;
    return [this.#put(before, item), kept];
  }

  /**
   * Behind which item one with these origins stands, at `before` or behind some that follow it, and how many elements
   * the effect version has up to there.
   * @param {Item | null} before @param {number} kept Up to `before`. @param {End | null} left @param {Item | null} right @param {number} lv
   * @returns {[Item | null, number]}
   */
  #settle(before, kept, left, right, lv) {
    let other = before ? this.after(before) : this.first.kids[0];
    let ahead = kept;
    let scanning = false;
    while (other !== right) {
      if (other.left === left) {
        if (other.right === right) {
          if (this.graph.compare(lv, other.lv) < 0) break;
          scanning = false;
        } else scanning = !right || (other.right !== null && this.precedes(other.right, right));
      } else if (!other.left || (left && this.precedes(other.left.item, left.item))) break;
      ahead += other.kept;
      if (!scanning) {
        before = other;
        kept = ahead;
      }
      other = /** @type {Item} */ (this.after(other));
    }
    return [before, kept];
  }

  /** @param {Item | null} before @param {Item} item */
  #put(before, item) {
    this.#place(before, item);
    return item;
  }

  /**
   * Delete elements of the prepare version from `pos` on. `hit` then has the items, and `gone` is called with ranges
   * of the effect version to delete, one after the other.
   * @param {number} pos @param {number} length @param {(at: number, length: number) => void} gone
   */
  delete(pos, length, gone) {
    this.hit.length = 0;
    let [item, offset, kept] = this.find(pos);
    if (offset) {
      if (!item.deleted) kept += offset;
      item = this.cut(item, offset);
    }
    let from = -1;
    let count = 0;
    while (length) {
      if (item.state === 1) {
        if (item.length > length) this.cut(item, length);
        this.hit.push(item);
        length -= item.length;
        item.state = 2;
        this.#count(item.leaf, -item.length, item.deleted ? 0 : -item.length);
        if (!item.deleted) {
          item.deleted = true;
          if (from === kept) count += item.length;
          else {
            if (count) gone(from, count);
            from = kept;
            count = item.length;
          }
        }
      } else kept += item.kept;
      if (length) item = /** @type {Item} */ (this.after(item));
    }
    if (count) gone(from, count);
  }

  /** Advance (1) or retreat (-1) the prepare version over so many elements, which are whole items from this one on. @param {Item | null} item @param {number} length @param {number} by */
  shift(item, length, by) {
    for (; length > 0 && item; item = item.next) {
      const { shown } = item;
      item.state += by;
      if (item.shown !== shown) this.#count(item.leaf, item.shown - shown, 0);
      length -= item.length;
    }
  }

  /** Assert every invariant: for tests. */
  _check() {
    /** @param {unknown} ok @param {string} what */
    const assert = (ok, what) => {
      if (!ok) throw new Error(`tree: ${what}`);
    };
    let items = 0;
    /** @type {Node | null} */
    let leaf = this.first;
    /** @param {Node} node @param {number} level @returns {number} */
    const check = (node, level) => {
      let shown = 0;
      let kept = 0;
      let depth = 0;
      assert(node.kids.length && node.kids.length <= SLOTS, `a node has ${node.kids.length} kids`);
      for (const kid of node.kids) {
        shown += kid.shown;
        kept += kid.kept;
        if (node.leaf) {
          items++;
          assert(kid.leaf === node && kid.end.item === kid && kid.state >= 0 && kid.length >= 0, "an item");
        } else {
          assert(kid.up === node, "a node's parent");
          const found = check(kid, level + 1);
          assert(!depth || found === depth, "leaves at different levels");
          depth = found;
        }
      }
      assert(shown === node.shown && kept === node.kept, `counts ${node.shown}, ${node.kept} should be ${shown}, ${kept}`);
      if (!node.leaf) return depth;
      assert(leaf === node, "the chain of leaves");
      leaf = node.next;
      return level;
    };
    check(this.root, 1);
    assert(items === this.items && leaf === null, `${this.items} items should be ${items}`);
  }
}

/** The walk from critical version `base` (-1: the graph's base) on, of all events in order, up to `walked`. */
export class Walk {
  /** @param {Graph} graph @param {OpLog} log @param {number} base @param {number} [length] Of the text there; unknown as yet: see `settle`. */
  constructor(graph, log, base, length = ENDLESS) {
    this.graph = graph;
    this.log = log;
    this.base = base;
    this.walked = base + 1;
    this.tree = new Tree(graph, length);
    /** @type {number[]} The prepare version's heads, beyond the base. */
    this.at = [];
    /** @type {Entry[]} By local version. */
    this.entries = [];
    /** @type {number[]} The first local version of each. */
    this.starts = [];
    /** @type {Map<number, Typist>} By their last events, whoever went on last at the end. */
    this.typists = new Map();
    /** How many rows of operations have been walked. */
    this.rows = 0;
  }

  /** The length of the effect version. */
  get length() {
    return this.tree.root.kept;
  }

  /** Say how long the effect version is, once what made it has been walked. @param {number} length */
  settle(length) {
    this.tree.shorten(this.length - length);
  }

  /**
   * Walk the events up to `end`. What they do to the effect version goes into `steps`. `PositionError`: then the walk
   * is of no more use.
   * @param {number} end @param {Step[] | null} steps
   */
  to(end, steps) {
    this.some(this.walked, end, steps);
    this.walked = end;
  }

  /** Walk some events, all of whose parents have been walked. @param {number} start @param {number} end @param {Step[] | null} steps */
  some(start, end, steps) {
    for (let row = start < end ? this.graph.find(start) : 0; start < end; row++) {
      const hi = Math.min(end, this.graph.end(row));
      let parents = this.graph.parentsOf(start);
      let typist = this.#leave(parents);
      for (const op of this.log.ops(start, hi)) {
        const content = this.log.content[op.row] + op.offset;
        this.rows++;
        if (typist && op.kind === TYPE && op.pos === typist.pos) this.#typeOn(typist, op.lv, op.length, content, steps);
        else {
          this.#move(parents);
          typist = this.#apply(op.lv, op.kind, op.pos, op.length, content, steps);
          this.at = [op.lv + op.length - 1];
        }
        parents = [op.lv + op.length - 1];
      }
      if (typist) this.#meet(typist, hi - 1);
      start = hi;
    }
  }

  /** Who goes on from these parents, if it is known, and the prepare version is not there anyway. @param {number[]} parents */
  #leave(parents) {
    if (parents.length !== 1) return undefined;
    const typist = this.typists.get(parents[0]);
    // There may be others who go on from there, and what is typed now may be one item with what was.
    this.typists.delete(parents[0]);
    return this.at.length === 1 && this.at[0] === parents[0] ? undefined : typist;
  }

  /** @param {Typist} typist @param {number} lv Of the last event. */
  #meet(typist, lv) {
    this.typists.set(lv, typist);
    if (this.typists.size > TYPISTS) this.typists.delete(/** @type {number} */ (this.typists.keys().next().value));
  }

  /** Apply what somebody typed on. @param {Typist} typist @param {number} lv @param {number} length @param {number} content @param {Step[] | null} steps */
  #typeOn(typist, lv, length, content, steps) {
    const [item, at] = this.tree.insertBetween(typist.left, typist.right, length, lv);
    this.#note(lv, length, item, false);
    steps?.push({ at, deleted: 0, content, length });
    typist.left = item.end;
    typist.pos += length;
  }

  /**
   * Where position `pos` of the text at some heads is in the effect version: behind the element that is before it, or
   * where that was; -1 if there is no such position. All events have been walked. `HistoryError` if that touches more than `most` runs.
   * @param {number} pos @param {number[]} heads @param {number} most
   */
  place(pos, heads, most) {
    this.#move(heads, most);
    if (pos > this.tree.root.shown) return -1;
    if (!pos) return 0;
    const [item, offset, kept] = this.tree.find(pos - 1);
    return kept + (item.deleted ? 0 : offset + 1);
  }

  /** Retreat and advance the prepare version to some heads. @param {number[]} heads @param {number} [most] */
  #move(heads, most = Infinity) {
    const { at } = this;
    const wanted = heads.length && heads[heads.length - 1] <= this.base ? [] : heads;
    if (at.length === wanted.length && at.every((lv, i) => lv === wanted[i])) return;
    const [back, forth] = this.graph.diff(at, wanted, this.base, most);
    if (most < Infinity) {
      const touched = [...back, ...forth].reduce((n, [start, end]) => n + lastUpTo(this.starts, end - 1) - lastUpTo(this.starts, start) + 1, 0);
      if (touched > most) throw new HistoryError(`these versions are ${touched} runs apart, more than ${most}`);
    }
    for (const [start, end] of back) this.#shift(start, end, -1);
    for (const [start, end] of forth) this.#shift(start, end, 1);
    this.at = wanted;
  }

  /** @param {number} start @param {number} end @param {number} by */
  #shift(start, end, by) {
    let i = lastUpTo(this.starts, start);
    if (this.starts[i] < start) this.#cutEntry(i++, start);
    for (; i < this.entries.length && this.starts[i] < end; i++) {
      const entry = this.entries[i];
      if (entry.lv + entry.length > end) this.#cutEntry(i, end);
      this.tree.shift(entry.item, entry.length, by);
    }
  }

  /** Cut an entry before event `lv`. @param {number} i @param {number} lv */
  #cutEntry(i, lv) {
    const entry = this.entries[i];
    const first = lv - entry.lv;
    // The first elements belong to the last events if it is backwards.
    let skip = entry.backwards ? entry.length - first : first;
    let item = entry.item;
    while (item.length < skip) {
      skip -= item.length;
      item = /** @type {Item} */ (item.next);
    }
    const rest = item.length > skip ? this.tree.cut(item, skip) : /** @type {Item} */ (item.next);
    const [one, other] = entry.backwards ? [rest, entry.item] : [entry.item, rest];
    this.entries.splice(i + 1, 0, new Entry(lv, entry.length - first, other, entry.backwards));
    this.starts.splice(i + 1, 0, lv);
    entry.item = one;
    entry.length = first;
  }

  /** @param {number} lv @param {number} length @param {Item} item @param {boolean} backwards */
  #note(lv, length, item, backwards) {
    this.entries.push(new Entry(lv, length, item, backwards));
    this.starts.push(lv);
  }

  /** Apply one operation at the prepare version; returns who typed, if it was typing. @param {number} lv @param {number} kind @param {number} pos @param {number} length @param {number} content @param {Step[] | null} steps @returns {Typist | undefined} */
  #apply(lv, kind, pos, length, content, steps) {
    const { tree } = this;
    if (kind === TYPE || kind === PREPEND) {
      if (pos > tree.root.shown) throw outside(this.graph, lv, pos, tree.root.shown);
      // What is prepended stands before the one before: each is an item of its own.
      const count = kind === TYPE ? 1 : length;
      const each = kind === TYPE ? length : 1;
      /** @type {Item | undefined} */
      let typed;
      for (let i = 0; i < count; i++) {
        const [item, at] = tree.insert(pos, each, lv + i);
        const last = this.entries[this.entries.length - 1];
        // Part of an item that was there already: then its last elements are the last entry's.
        if (item.lv !== lv + i && last.lv + last.length === lv + i) last.length += each;
        else this.#note(lv + i, each, item, false);
        steps?.push({ at, deleted: 0, content: content + i, length: each });
        typed = item;
      }
      return typed && kind === TYPE ? { pos: pos + length, left: typed.end, right: typed.right } : undefined;
    }
    const first = kind === ERASE ? pos - length + 1 : pos;
    if (first < 0 || first + length > tree.root.shown) throw outside(this.graph, lv, pos, tree.root.shown - 1);
    tree.delete(first, length, (at, deleted) => steps?.push({ at, deleted, content: 0, length: 0 }));
    if (kind === DELETE) {
      for (const item of tree.hit) {
        this.#note(lv, item.length, item, false);
        lv += item.length;
      }
    } else {
      for (let i = tree.hit.length - 1; i >= 0; i--) {
        this.#note(lv, tree.hit[i].length, tree.hit[i], true);
        lv += tree.hit[i].length;
      }
    }
    return undefined;
  }

  /** Assert every invariant: for tests. */
  _check() {
    this.tree._check();
    let lv = this.base + 1;
    this.entries.forEach((entry, i) => {
      if (entry.lv !== lv || this.starts[i] !== lv || entry.length < 1) throw new Error(`walk: entry ${i} is at ${entry.lv}, not ${lv}`);
      lv += entry.length;
    });
    if (lv !== this.walked) throw new Error(`walk: entries end at ${lv}, not ${this.walked}`);
  }
}

/** @param {Graph} graph @param {number} lv @param {number} pos @param {number} last */
export function outside(graph, lv, pos, last) {
  const [name, seq] = graph.id(lv);
  return new PositionError(`event ${name}:${seq} is at position ${pos}, which is not within 0..${Math.max(last, -1)}`);
}

/**
 * What events from `start` on do that mean the text as it stands, being critical.
 * @param {Graph} graph @param {OpLog} log @param {number} start @param {number} end @param {number} length Of the text.
 * @param {Step[]} steps @returns {number} The length of the text after them.
 */
export function plain(graph, log, start, end, length, steps) {
  for (const { lv, kind, pos, length: count, row, offset } of log.ops(start, end)) {
    const content = log.content[row] + offset;
    if (kind === TYPE || kind === PREPEND) {
      if (pos > length) throw outside(graph, lv, pos, length);
      if (kind === TYPE) steps.push({ at: pos, deleted: 0, content, length: count });
      else for (let i = 0; i < count; i++) steps.push({ at: pos, deleted: 0, content: content + i, length: 1 });
      length += count;
    } else {
      const first = kind === ERASE ? pos - count + 1 : pos;
      if (first < 0 || first + count > length) throw outside(graph, lv, pos, length - 1);
      steps.push({ at: first, deleted: count, content: 0, length: 0 });
      length -= count;
    }
  }
  return length;
}

/**
 * What brings the text at the graph's base, of this length, to a version.
 * @param {Graph} graph @param {OpLog} log @param {number[]} version Local versions. @param {number} length
 * @returns {Step[]}
 */
export function replay(graph, log, version, length) {
  /** @type {Step[]} */
  const steps = [];
  // The version has all events up to its last critical one, and some of those after it.
  const critical = graph.lastCritical(version.length ? version[version.length - 1] : -1);
  for (let at = 0; at <= critical; ) {
    const until = Math.min(graph.criticalUntil(at), critical + 1);
    if (until) {
      length = plain(graph, log, at, until, length, steps);
      at = until;
    } else {
      const walk = new Walk(graph, log, at - 1, length);
      at = graph.nextCritical(at);
      walk.to(at, steps);
      length = walk.length;
    }
  }
  const walk = new Walk(graph, log, critical, length);
  for (const [start, end] of graph.diff([], version, critical)[1].reverse()) walk.some(start, end, steps);
  return steps;
}
