// The history: a slider through all events that the server has, the text at each, and who wrote what of it.

import { Compartment, Decoration, EditorState, EditorView, RangeSetBuilder, drawSelection, highlightSpecialChars, keymap,
  defaultKeymap, searchKeymap, search } from "../vendor/codemirror.js";
import { counted, element, shownName } from "./common.js";

const HUES = 24; // as many classes as page.css has
const LISTED = 12; // authors
const KEPT = 30; // moments that are shown again without asking

/** The person that an agent is of: agents of the page are called by a name and something random. */
function person(agent) {
  return shownName(agent.replace(/\.[0-9a-z]{8}$/, ""));
}

export class Past {
  /** @param {string} url @param {boolean} dark @param {() => void} closed */
  constructor(url, dark, closed) {
    this.url = url;
    this.dark = dark;
    this.closed = closed;
    for (const id of ["past", "past-text", "strip", "moment", "earlier", "later", "when", "wrote", "now", "authors"]) {
      this[id.replace("-t", "T")] = document.getElementById(id);
    }
    this.view = null;
    this.varying = new Compartment(); // what is another one at each moment
    this.asking = false;
    this.moments = new Map();
    this.shown = null;
    this.moment.addEventListener("input", () => this.go(this.moment.valueAsNumber));
    this.earlier.addEventListener("click", () => this.jump(-1));
    this.later.addEventListener("click", () => this.jump(1));
    this.now.addEventListener("click", () => this.close());
    this.past.addEventListener("keydown", (event) => event.key === "Escape" && !event.defaultPrevented && this.close());
    addEventListener("resize", () => this.past.hidden || this.paint());
  }

  /** Show it; whether it is still to be seen when there is something to see. */
  async open() {
    const answer = await this.fetch("timeline");
    const { events, agents, parts } = await answer.json();
    this.events = events;
    this.moments.clear();
    // People by how much they did, so that neighbours in the list differ in colour.
    const done = new Map();
    this.parts = parts.map(([number, length]) => ({ who: person(agents[number]), length }));
    for (const { who, length } of this.parts) done.set(who, (done.get(who) ?? 0) + length);
    this.hues = new Map([...done].sort((a, b) => b[1] - a[1]).map(([who], i) => [who, i % HUES]));
    this.past.hidden = false;
    this.moment.max = String(events);
    this.moment.value = String(events);
    this.paint();
    await this.go(events);
    this.moment.focus();
    return !this.past.hidden;
  }

  /** What the server has to say, when it has the time. */
  async fetch(what) {
    for (;;) {
      const answer = await fetch(`${this.url}/${what}`, { cache: "no-store" });
      if (answer.ok) return answer;
      if (answer.status !== 429) throw new Error((await answer.text()).trim());
      const seconds = Math.min(Number(answer.headers.get("Retry-After")) || 1, 60);
      await new Promise((done) => setTimeout(done, 1000 * seconds));
    }
  }

  close() {
    this.past.hidden = true;
    this.view?.destroy();
    this.view = null;
    this.closed();
  }

  /** Draw who wrote when. */
  paint() {
    const { strip } = this;
    const scale = devicePixelRatio || 1;
    strip.width = Math.max(1, Math.round(strip.clientWidth * scale));
    strip.height = Math.round(12 * scale);
    const context = strip.getContext("2d");
    let at = 0;
    for (const { who, length } of this.parts) {
      const left = (at / this.events) * strip.width;
      at += length;
      context.fillStyle = `hsl(${(this.hues.get(who) * 137) % 360} 55% ${this.dark ? 55 : 60}%)`;
      context.fillRect(left, 0, Math.max((at / this.events) * strip.width - left, 0.5), strip.height);
    }
  }

  /** To where the author changed before this moment, or does after it. */
  jump(way) {
    const bounds = [0];
    for (const { length } of this.parts) bounds.push(bounds.at(-1) + length);
    const here = this.moment.valueAsNumber;
    const found = way < 0 ? bounds.findLast((at) => at < here) : bounds.find((at) => at > here);
    if (found === undefined) return;
    this.moment.value = String(found);
    void this.go(found);
  }

  /** Show the text after so many events. While one is on its way only the last other one that was asked for is next. */
  async go(event) {
    this.wanted = event;
    this.tell();
    if (this.asking) return;
    this.asking = true;
    try {
      while (this.shown !== this.wanted || !this.view) {
        const wanted = this.wanted;
        const moment = this.moments.get(wanted) ?? await this.ask(wanted);
        if (this.past.hidden) return;
        this.moments.set(wanted, moment);
        if (this.moments.size > KEPT) this.moments.delete(this.moments.keys().next().value);
        this.show(moment);
        this.shown = wanted;
      }
    } catch (error) {
      this.when.textContent = `This moment cannot be shown: ${error.message}`;
    } finally {
      this.asking = false;
    }
  }

  async ask(event) {
    const answer = await this.fetch(`past?event=${event}`);
    const { content, agents, spans } = await answer.json();
    const people = agents.map(person);
    // Lengths are code points; a string without pairs has as many units.
    let at = 0;
    const written = [];
    const pairs = /[\ud800-\udbff]/.test(content);
    for (const [number, length] of spans) {
      let end = at + length;
      if (pairs) {
        end = at;
        for (let i = 0; i < length; i++) end += content.codePointAt(end) > 0xffff ? 2 : 1;
      }
      const last = written.at(-1);
      if (last?.who === people[number]) last.end = end;
      else written.push({ who: people[number], start: at, end });
      at = end;
    }
    return { event, content, written };
  }

  show({ event, content, written }) {
    const marks = new RangeSetBuilder();
    const shares = new Map();
    for (const { who, start, end } of written) {
      const hue = this.hues.get(who) ?? 0;
      marks.add(start, end, Decoration.mark({ class: `by by-${hue}` }));
      shares.set(who, (shares.get(who) ?? 0) + end - start);
    }
    this.written = written;
    this.view ??= this.editor();
    const top = this.view.scrollDOM.scrollTop;
    this.view.dispatch({
      changes: { from: 0, to: this.view.state.doc.length, insert: content },
      selection: { anchor: 0 },
      effects: this.varying.reconfigure([
        EditorView.contentAttributes.of({ "aria-label": `The text after event ${event}`, tabindex: "0" }),
        EditorView.decorations.of(marks.finish()),
      ]),
    });
    this.view.scrollDOM.scrollTop = top;
    this.wrote.textContent = "";
    this.list(shares, content.length);
  }

  editor() {
    const view = new EditorView({
      parent: this.pastText,
      state: EditorState.create({
        extensions: [
          EditorState.lineSeparator.of("\n"), EditorState.readOnly.of(true), EditorView.lineWrapping, drawSelection(),
          highlightSpecialChars(), search({ top: true }), keymap.of([...defaultKeymap, ...searchKeymap]),
          EditorView.darkTheme.of(this.dark), this.varying.of([]),
          EditorView.updateListener.of((update) => {
            if (update.selectionSet && !update.docChanged) this.author(update.state.selection.main.head);
          }),
          EditorView.domEventHandlers({
            mousemove: (move, view) => { this.author(view.posAtCoords({ x: move.clientX, y: move.clientY })); },
          }),
        ],
      }),
    });
    view.elementAtHeight(0); // measured while it is empty, see binding.js
    return view;
  }

  /** Say who wrote what is at a place. */
  author(at) {
    let [low, high] = [0, this.written.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.written[middle].end <= at) low = middle + 1;
      else high = middle;
    }
    const said = at === null || low === this.written.length ? "" : `written by ${this.written[low].who}`;
    if (this.wrote.textContent !== said) this.wrote.textContent = said;
  }

  /** Say at which moment this is. */
  tell() {
    const said = this.wanted === this.events ? `now: ${counted(this.events, "event")}`
      : `event ${this.wanted.toLocaleString("en")} of ${this.events.toLocaleString("en")}`;
    this.when.textContent = said;
    this.moment.setAttribute("aria-valuetext", said);
  }

  /** List who wrote how much of what is shown. */
  list(shares, length) {
    const sorted = [...shares].sort((a, b) => b[1] - a[1]);
    const rows = sorted.slice(0, LISTED).map(([who, share]) => {
      const percent = (100 * share) / length;
      return element("li", {},
        element("span", { class: `mark by by-${this.hues.get(who) ?? 0}`, "aria-hidden": "true" }),
        element("bdi", {}, who), ` ${percent < 1 ? "<1" : Math.round(percent)} %`);
    });
    if (sorted.length > LISTED) rows.push(element("li", {}, counted(sorted.length - LISTED, "other")));
    this.authors.replaceChildren(...rows);
  }
}
