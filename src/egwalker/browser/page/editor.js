// The editor of one document: its text, who is here, what is saved and what is not, and its history.

import { bindCodeMirror } from "../codemirror.js";
import { placeOf } from "../presence.js";
import { agentNamed, discardKept, openKept } from "../store.js";
import { Compartment, EditorState, EditorView, defaultKeymap, drawSelection, highlightSpecialChars, history,
  historyKeymap, keymap, placeholder, search, searchKeymap } from "../vendor/codemirror.js";
import { COLORS, counted, element, face, isColor, keepPages, myself, settings, shownName } from "./common.js";
import { Past } from "./past.js";

const FACES = 4; // shown in the header
const SETTLED = 2000; // milliseconds until those who come are new, and not those who were there

const url = location.origin + location.pathname; // one, whatever is behind it
const name = decodeURIComponent(location.pathname.slice(location.pathname.lastIndexOf("/") + 1));
const byId = (id) => document.getElementById(id);
const [title, status, notice, news, here, historyButton, names, colors, myName, text] = ["title", "status", "notice",
  "news", "here", "history", "names", "colors", "my-name", "text"].map(byId);

title.textContent = name;
document.title = name;

const me = myself();
const darkness = matchMedia("(prefers-color-scheme: dark)");
const keeper = await openKept(url, { agent: agentNamed(me.name) });
const doc = keeper.document;
const link = keeper.connect();

// --- the editor

const [mayWrite, dark] = [new Compartment(), new Compartment()];
let rights = { read: true, write: true };
let ready = keeper.found; // there is a text to be edited: the server's, or the one kept here
let stopped = false; // for good

/**
 * A text that may not be changed can have a caret nevertheless; one that is not there yet, or not to be seen, has none:
 * not all browsers take it away, and what is typed goes to where it is.
 */
function access(readOnly, editable) {
  return [EditorState.readOnly.of(readOnly), EditorView.editable.of(editable)];
}

/** Enter is a line break, and no spaces that nobody typed. */
function breakLine({ state, dispatch }) {
  if (state.readOnly) return false;
  dispatch(state.update(state.replaceSelection("\n"), { scrollIntoView: true, userEvent: "input" }));
  return true;
}

const view = new EditorView({
  parent: text,
  state: EditorState.create({
    extensions: [
      EditorState.lineSeparator.of("\n"),
      mayWrite.of(access(!ready, ready)),
      dark.of(EditorView.darkTheme.of(darkness.matches)),
      history(),
      drawSelection(),
      highlightSpecialChars(),
      EditorView.lineWrapping,
      search({ top: true }),
      placeholder("Write here. Whoever opens this address writes with you."),
      EditorView.contentAttributes.of({
        "aria-label": `Text of ${name}`, tabindex: "0", autocapitalize: "sentences", spellcheck: "true", autocorrect: "on",
      }),
      keymap.of([{ key: "Enter", run: breakLine, shift: breakLine }, ...defaultKeymap, ...historyKeymap, ...searchKeymap]),
    ],
  }),
});
bindCodeMirror(view, link, me);
darkness.addEventListener("change", () =>
  view.dispatch({ effects: dark.reconfigure(EditorView.darkTheme.of(darkness.matches)) }));

/** Let the text be edited, or not. */
function permit() {
  const readOnly = !ready || !rights.write || stopped;
  const editable = ready && !text.hidden;
  if (view.state.readOnly === readOnly && view.state.facet(EditorView.editable) === editable) return;
  view.dispatch({ effects: mayWrite.reconfigure(access(readOnly, editable)) });
}

// --- what is saved

/** In words, and truthfully, where what was typed here is. */
function saying() {
  const { connected, synced } = link.status;
  const { unsaved } = keeper;
  if (link.status.error) return ["stopped", unsaved ? "Stopped – not everything is saved" : "Stopped"];
  if (!connected) {
    if (!ready) return ["offline", "Offline – this document is not kept in this browser yet"];
    if (!unsaved) return ["offline", "Offline – all changes saved"];
    if (keeper.error) return ["offline", "Offline – changes are in this tab only: keep it open"];
    return ["offline", keeper.safe ? "Offline – changes are kept in this browser" : "Offline – keeping changes…"];
  }
  if (!ready) return ["busy", "Opening…"];
  if (!synced) return ["busy", "Catching up…"];
  if (!rights.write) return ["saved", "You can read this, not change it"];
  return unsaved ? ["busy", "Saving…"] : ["saved", "All changes saved"];
}

let first = true;
let told = "saved"; // the last state that was read aloud
let telling = 0;

function showStatus() {
  const [state, said] = first && !link.status.connected && !keeper.found && !link.status.error
    ? ["busy", "Opening…"] : saying();
  for (const one of ["saved", "busy", "offline", "stopped"]) document.body.classList.toggle(one, one === state);
  if (status.textContent !== said) {
    status.textContent = said;
    tell(state);
  }
  historyButton.disabled = !link.status.connected;
}

/** Have it read aloud if it has come to stay: not each word that is saved, but that nothing is any more. */
function tell(state) {
  clearTimeout(telling);
  if (state === "busy" || (state === "saved" && told === "saved")) return;
  telling = setTimeout(() => {
    told = state;
    news.textContent = status.textContent;
  }, 1000);
}

link.on("status", () => {
  if (link.status.connected) first = false;
  if (link.status.synced && !ready) {
    ready = true;
    permit();
    if (!view.state.doc.length) view.focus();
  }
  if (link.status.error) fail(link.status.error);
  if (!link.status.connected) void ask();
  showStatus();
});
keeper.onchange = showStatus;
doc.subscribe(showStatus);
setTimeout(() => { first = false; showStatus(); }, 1500);

addEventListener("beforeunload", (event) => {
  if (keeper.unsaved && !keeper.safe) event.preventDefault();
});

/** What the server says that one may do. A browser does not tell why it could not connect. */
async function ask() {
  try {
    const answer = await fetch(`${url}/rights`, { cache: "no-store" });
    if (answer.ok) rights = await answer.json();
    else if (answer.status < 500) {
      rights = { read: false, write: false };
      const why = answer.status === 403 || answer.status === 401
        ? "You may not open this document. Open the address that has the token, or log in, and come again."
        : (await answer.text()).trim();
      fail(new Error(why));
    }
  } catch { /* no connection: the link tries again */ }
  if (rights.read && !rights.write && !ready && !link.status.connected) {
    const answer = await fetch(url, { headers: { Accept: "text/plain" }, cache: "no-store" }).catch(() => null);
    if (answer?.status === 404) fail(new Error("There is no document of this name, and you may not make one."));
  }
  permit();
  showStatus();
}
void ask();

/** It cannot go on: say why, and leave nothing that was typed behind. */
function fail(error) {
  if (stopped) return;
  stopped = true;
  link.close();
  permit();
  notice.replaceChildren(error.message.replace(/\.?$/, ". "));
  if (keeper.unsaved) {
    const save = element("button", { type: "button" }, "Save my text as a file");
    save.addEventListener("click", () => {
      const file = URL.createObjectURL(new Blob([doc.text], { type: "text/plain" }));
      element("a", { href: file, download: `${name}.txt` }).click();
      setTimeout(() => URL.revokeObjectURL(file), 10_000);
    });
    const drop = element("button", { type: "button" }, "Forget what is kept in this browser");
    let sure = false;
    drop.addEventListener("click", async () => {
      if (!sure) {
        sure = true;
        drop.textContent = "Forget it: what is not on the server will be gone";
        return;
      }
      await discardKept(url);
      location.reload();
    });
    notice.append("What was typed here is kept in this browser. ", save, " ", drop);
  }
  notice.hidden = false;
  showStatus();
}

// --- who is here

const began = performance.now();
/** Those who are here, by the key of their presence: what they show of themselves. */
let people = new Map();

function showPeople() {
  const found = new Map();
  for (const [key, state] of link.presences) {
    if (state && typeof state === "object" && typeof state.name === "string") {
      found.set(key, { name: shownName(state.name), color: isColor(state.color) ? state.color : "#5a6068", state });
    }
  }
  if (performance.now() - began > SETTLED) {
    const came = [...found].filter(([key]) => !people.has(key)).map(([, { name }]) => name);
    const left = [...people].filter(([key]) => !found.has(key)).map(([, { name }]) => name);
    const said = [came.length && `${came.join(", ")} came`, left.length && `${left.join(", ")} left`].filter(Boolean);
    if (said.length) news.textContent = said.join("; ");
  }
  people = found;
  const others = [...found.values()];
  const all = [me, ...others];
  here.replaceChildren(
    ...all.slice(0, FACES).map(({ name, color }) => face(name, color)),
    element("span", { class: "count", "aria-hidden": "true" }, all.length > 1 ? `${all.length} here` : ""),
  );
  here.setAttribute("aria-label", all.length > 1 ? `${all.length} people are here` : "Only you are here");
  names.replaceChildren(
    element("li", {}, face(me.name, me.color), element("bdi", {}, shownName(me.name)), " (you)"),
    ...others.map(({ name, color, state }) => {
      const go = element("button", { type: "button", "aria-label": `Show where ${name} is` }, "Show");
      go.addEventListener("click", () => {
        byId("people").hidePopover();
        const at = Math.min(placeOf(doc, state.head, state.version), view.state.doc.length);
        view.dispatch({ effects: EditorView.scrollIntoView(at, { y: "center" }) });
      });
      return element("li", {}, face(name, color), element("bdi", {}, name), Number.isSafeInteger(state.head) ? go : "");
    }),
  );
}

let showing = 0;
link.on("presence", () => { showing ||= requestAnimationFrame(() => { showing = 0; showPeople(); }); });

myName.value = me.name;
for (const [color, called] of Object.entries(COLORS)) {
  const choice = element("input", {
    type: "radio", name: "color", value: color, "aria-label": called, title: called, checked: color === me.color,
  });
  choice.style.setProperty("--who", color);
  colors.append(choice);
}
// Once it has been written: what is typed from then on is theirs in the history, too.
let writer = me.name;
myName.addEventListener("change", () => {
  if (writer === me.name) return;
  writer = me.name;
  doc.agent = agentNamed(writer);
});
byId("me").addEventListener("submit", (event) => {
  event.preventDefault();
  byId("people").hidePopover();
});
byId("me").addEventListener("input", () => {
  me.name = shownName(myName.value) === "Somebody" ? me.name : shownName(myName.value);
  me.color = colors.querySelector(":checked")?.value ?? me.color;
  settings.set("name", me.name);
  settings.set("color", me.color);
  view.dispatch({}); // others are told
  showPeople();
});

// --- the history

const past = new Past(url, darkness.matches, () => {
  text.hidden = false;
  permit();
  historyButton.setAttribute("aria-expanded", "false");
  historyButton.focus();
});
historyButton.addEventListener("click", async () => {
  if (text.hidden) {
    past.close();
    return;
  }
  try {
    if (!await past.open()) return;
    text.hidden = true;
    permit();
    historyButton.setAttribute("aria-expanded", "true");
  } catch (error) {
    news.textContent = `The history cannot be shown: ${error.message}`;
    status.textContent = news.textContent;
  }
});

permit();
showStatus();
showPeople();
if (ready) view.focus();
keepPages();
