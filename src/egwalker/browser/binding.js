/**
 * CodeMirror 6 editors that are bound to documents, for any copy of CodeMirror: `codemirror.js` has them for the one
 * that comes with egwalker.
 */

import { Teller, hasAll, isColor, placeOf, shownName } from "./presence.js";

/** Milliseconds for which a caret that has moved shows its name. */
const NAMED = 2500;
/** How many others' carets are drawn. */
const DRAWN = 200;
/** Black or white, whichever is easier to read on a colour. @param {string} color */
function inkOn(color) {
  const [r, g, b] = [1, 3, 5].map((at) => {
    const part = parseInt(color.slice(at, at + 2), 16) / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.179 ? "#000000" : "#ffffff";
}

/**
 * The change that edits make, each in the text after the ones before, all at once: two by two, so that thousands of
 * them take no time.
 * @param {any} ChangeSet @param {{at: number, deleted: number, inserted: string}[]} edits @param {number} length
 * @param {any} Text
 */
function changeOf(ChangeSet, edits, length, Text) {
  let sets = edits.map(({ at, deleted, inserted }) => {
    const set = ChangeSet.of({ from: at, to: at + deleted, insert: Text.of(inserted.split("\n")) }, length);
    length = set.newLength;
    return set;
  });
  while (sets.length > 1) {
    const joined = [];
    for (let i = 0; i < sets.length; i += 2) joined.push(i + 1 < sets.length ? sets[i].compose(sets[i + 1]) : sets[i]);
    sets = joined;
  }
  return sets[0];
}

/**
 * `collaboration` and `bindCodeMirror` for a copy of CodeMirror: all that `@codemirror/state` and `@codemirror/view`
 * export, in one object.
 * @param {any} codemirror
 */
export function binding({
  Annotation, ChangeSet, Compartment, Decoration, EditorState, EditorView, StateEffect, Text, Transaction, ViewPlugin, WidgetType,
}) {
  const elsewhere = Annotation.define(); // made by others: the document has it already
  const redraw = StateEffect.define();

  class Caret extends WidgetType {
    constructor(key, name, color, named) {
      super();
      Object.assign(this, { key, name, color, named });
    }

    eq(other) {
      return this.key === other.key && this.name === other.name && this.color === other.color && this.named === other.named;
    }

    toDOM() {
      const caret = document.createElement("span");
      caret.className = `cm-remote-caret${this.named ? " cm-remote-named" : ""}`;
      caret.style.setProperty("--who", this.color);
      caret.style.setProperty("--ink", inkOn(this.color));
      // Not as text, which would be read and copied with what is around it.
      caret.dataset.name = this.name;
      caret.setAttribute("aria-hidden", "true");
      return caret;
    }

    ignoreEvent() { return true; }
  }

  class Bound {
    constructor(view, link, me) {
      this.view = view;
      this.link = link;
      this.doc = link.document;
      this.mine = false; // this editor's edits are entering the document
      this.hiding = 0; // timer
      this.seeing = 0; // animation frame
      this.news = new Set(); // keys of carets to look for
      this.carets = new Map(); // by key: who it is, and where that is now
      this.decorations = Decoration.none;
      const text = view.state.doc.toString();
      if (text !== this.doc.text) throw new Error("the editor's text is not the document's: begin with the document's");
      this.teller = new Teller(link, me, () => {
        const { anchor, head } = view.state.selection.main;
        return [anchor, head];
      });
      this.unsubscribe = [
        this.doc.subscribe((change) => this.mine || this.take(change)),
        link.on("presence", (key) => this.see(key)),
      ];
      for (const key of link.presences.keys()) this.note(key);
      this.draw();
      this.teller.changed();
    }

    /** Others' edits enter the editor. */
    take({ edits }) {
      const { state } = this.view;
      const changes = changeOf(ChangeSet, edits, state.doc.length, Text);
      this.view.dispatch({
        changes, annotations: [elsewhere.of(true), Transaction.addToHistory.of(false), Transaction.remote.of(true)],
      });
    }

    update(update) {
      // Moved by key or mouse: what is typed now follows all that one sees.
      if (update.transactions.some((one) => one.isUserEvent("select") && !one.docChanged && one.selection)) this.doc.adopt();
      if (update.docChanged) {
        this.mine = true;
        try {
          for (const transaction of update.transactions) this.give(transaction);
        } finally {
          this.mine = false;
        }
        // What was waiting for edits may be drawn now; all else moves with the text.
        for (const caret of this.carets.values()) {
          if (caret.head === null) continue;
          caret.anchor = update.changes.mapPos(caret.anchor);
          caret.head = update.changes.mapPos(caret.head);
        }
        for (const [key, caret] of this.carets) if (caret.waits) this.see(key);
      }
      const asked = update.transactions.some((one) => one.effects.some((effect) => effect.is(redraw)));
      if (update.docChanged || asked) this.draw();
      this.teller.changed();
    }

    /** This editor's edits enter the document. */
    give(transaction) {
      if (!transaction.docChanged || transaction.annotation(elsewhere)) return;
      try {
        this.doc.transact(() => {
          transaction.changes.iterChanges((from, to, fromNow, _, inserted) => {
            this.doc.replace(fromNow, to - from, inserted.sliceString(0, inserted.length, "\n"));
          });
        });
      } catch (error) {
        // What the document has is what there is. Thrown on, the error would end the binding.
        console.error("an edit could not enter the document", error);
        setTimeout(() => this.reset());
      }
    }

    /** Show what the document has, whatever the editor has. */
    reset() {
      const now = this.view.state.doc.toString();
      const { text } = this.doc;
      if (now === text) return;
      this.take({ edits: [{ at: 0, deleted: now.length, inserted: text }] });
    }

    /** Somebody's presence has changed, or what it stands in. */
    see(key) {
      this.news.add(key);
      // Not within an update, when the document may be further than the editor; and what came together is drawn together.
      this.seeing ||= requestAnimationFrame(() => {
        this.seeing = 0;
        for (const one of this.news) this.note(one);
        this.news.clear();
        this.view.dispatch({ effects: redraw.of(null) });
      });
    }

    /** Where somebody's caret is, if what it stands in is here. */
    note(key) {
      const state = this.link.presences.get(key);
      const old = this.carets.get(key);
      if (!state || typeof state !== "object" || !Number.isSafeInteger(state.head)) {
        this.carets.delete(key);
        return;
      }
      const waits = !hasAll(this.doc, state.version);
      const caret = { name: shownName(state.name), color: isColor(state.color) ? state.color : "#5a6068", waits };
      if (waits) this.carets.set(key, { ...caret, anchor: old?.anchor ?? null, head: old?.head ?? null, moved: old?.moved ?? 0 });
      else {
        const head = placeOf(this.doc, state.head, state.version);
        const anchor = Number.isSafeInteger(state.anchor) ? placeOf(this.doc, state.anchor, state.version) : head;
        const moved = old && old.head === head && old.anchor === anchor ? old.moved : performance.now();
        this.carets.set(key, { ...caret, anchor, head, moved });
      }
    }

    draw() {
      const { length } = this.view.state.doc;
      const now = performance.now();
      const found = [];
      let hide = Infinity;
      for (const [key, { name, color, anchor, head, moved }] of this.carets) {
        if (head === null || head > length || anchor > length || found.length > 2 * DRAWN) continue;
        const left = moved + NAMED - now;
        if (left > 0) hide = Math.min(hide, left);
        if (anchor !== head) {
          const attributes = { style: `--who: ${color}` };
          found.push(Decoration.mark({ class: "cm-remote-selection", attributes }).range(Math.min(anchor, head), Math.max(anchor, head)));
        }
        found.push(Decoration.widget({ widget: new Caret(key, name, color, left > 0), side: 1 }).range(head));
      }
      this.decorations = Decoration.set(found, true);
      clearTimeout(this.hiding);
      if (hide < Infinity) this.hiding = setTimeout(() => this.view.dispatch({ effects: redraw.of(null) }), hide + 20);
    }

    destroy() {
      for (const stop of this.unsubscribe) stop();
      this.teller.stop();
      clearTimeout(this.hiding);
      cancelAnimationFrame(this.seeing);
    }
  }

  const looks = EditorView.baseTheme({
    ".cm-remote-selection": { backgroundColor: "color-mix(in srgb, var(--who) 25%, transparent)" },
    ".cm-remote-caret": {
      borderLeft: "2px solid var(--who)", marginLeft: "-1px", marginRight: "-1px", wordBreak: "keep-all",
    },
    "&dark .cm-remote-caret": { borderLeftColor: "color-mix(in srgb, var(--who) 55%, white)" },
    // Where it would be in its line, moved from there: what has its place relative to a piece of a line WebKit leaves
    // behind when something is typed before that.
    ".cm-remote-caret::after": {
      content: "attr(data-name)",
      position: "absolute", marginLeft: "-2px", transform: "translateY(-85%)", padding: "1px 6px", borderRadius: "4px 4px 4px 0", zIndex: "4",
      backgroundColor: "var(--who)", color: "var(--ink)", font: "600 12px/1.35 system-ui, sans-serif", whiteSpace: "nowrap",
      unicodeBidi: "isolate", pointerEvents: "none", opacity: "0", maxWidth: "16em", overflow: "hidden", textOverflow: "ellipsis",
    },
    ".cm-remote-named::after, .cm-remote-caret:hover::after": { opacity: "1" },
    // The first line has no room above it.
    ".cm-line:first-child .cm-remote-caret::after": { transform: "translateY(120%)", borderRadius: "0 4px 4px 4px" },
  });

  /**
   * An extension that binds an editor to a link's document: both have the same text when the editor is made, and keep
   * it; the carets of others are shown, and this one's is told. Undoing undoes what was done in this editor only.
   * @param {import("./link.js").Link} link @param {{name?: string, color?: string}} [me] Read each time it is told.
   */
  function collaboration(link, me = {}) {
    return [
      // A text is what it is: no other line break is taken for one, or changed into one.
      EditorState.lineSeparator.of("\n"),
      EditorView.clipboardInputFilter.of((text) => text.replace(/\r\n?/g, "\n").toWellFormed()),
      // Half a character is nothing that a text can have.
      EditorState.transactionFilter.of((transaction) => {
        if (!transaction.docChanged || transaction.annotation(elsewhere)) return transaction;
        const { doc } = transaction.startState;
        const cuts = (at) => /^[\ud800-\udbff][\udc00-\udfff]$/.test(doc.sliceString(at - 1, at + 1));
        let whole = true;
        transaction.changes.iterChanges((from, to, _from, _to, inserted) => {
          whole &&= inserted.toString().isWellFormed() && !cuts(from) && !cuts(to);
        });
        return whole ? transaction : [];
      }),
      ViewPlugin.define((view) => new Bound(view, link, me), {
        decorations: (bound) => bound.decorations,
        // A click moves the caret, even to where it is, which is no transaction.
        eventObservers: { pointerdown() { this.doc.adopt(); } },
      }),
      looks,
    ];
  }

  /**
   * Bind an editor that is there already: it gets the document's text, and is bound until the returned function is
   * called, after which it is an ordinary editor with that text.
   */
  function bindCodeMirror(view, link, me = {}) {
    const bound = new Compartment();
    // Measured while it is empty, it knows how much of a very long line can be seen, and draws no more of it.
    view.elementAtHeight(0);
    view.dispatch({
      changes: { from: 0, to: view.state.doc.length, insert: Text.of(link.document.text.split("\n")) },
      annotations: Transaction.addToHistory.of(false),
    });
    view.dispatch({ effects: StateEffect.appendConfig.of(bound.of(collaboration(link, me))) });
    return () => view.dispatch({ effects: bound.reconfigure([]) });
  }

  return { collaboration, bindCodeMirror };
}
