// The list of documents: those of the server, with who is in; without a connection those kept in this browser.

import { keptDocuments } from "../store.js";
import { addressOf, base, counted, element, face, keepPages, shownName } from "./common.js";

const PERIOD = 5000; // milliseconds between two looks at the server
const [form, field, go, hint, list, none, more, status] = ["open", "name", "go", "hint", "documents", "none", "more",
  "status"].map((id) => document.getElementById(id));

let shown = { documents: [], more: false };
let turn = 0; // of the latest question: an earlier answer may come later

/** The words for how long ago a moment, in seconds since 1970, is. */
function ago(seconds) {
  const past = Date.now() / 1000 - seconds;
  if (past < 60) return "just now";
  const words = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
  for (const [unit, size, next] of [["minute", 60, 3600], ["hour", 3600, 86400], ["day", 86400, 30 * 86400]]) {
    if (past < next) return words.format(-Math.round(past / size), unit);
  }
  return new Date(seconds * 1000).toLocaleDateString(undefined, { dateStyle: "medium" });
}

/** One document of the list. */
function row({ name, changed, people = [], links = 0, unsaved = false }) {
  const link = element("a", { href: addressOf(name) }, element("bdi", {}, name));
  const facts = element("span", { class: "facts" });
  if (links) {
    const names = people.map((person) => shownName(person.name));
    const others = links - people.length;
    if (others > 0) names.push(`${others} more`);
    facts.append(
      element("span", { class: "faces" }, ...people.slice(0, 5).map(({ name, color }) => face(name, color))),
      element("span", { class: "in" }, ...names.flatMap((name, i) => [i ? ", " : "", element("bdi", {}, name)]),
        element("span", { class: "heard" }, " in there")),
    );
  }
  if (unsaved) facts.append(element("span", { class: "unsaved" }, "changes not sent yet"));
  if (changed) {
    facts.append(element("time", { datetime: new Date(changed * 1000).toISOString() }, ago(changed)));
  }
  return element("li", {}, link, facts);
}

function show() {
  const { documents, offline } = shown;
  const focused = list.contains(document.activeElement) ? document.activeElement.href : null;
  const rows = documents.map(row);
  list.replaceChildren(...rows);
  if (focused) rows.map((row) => row.firstChild).find((link) => link.href === focused)?.focus();
  none.hidden = documents.length > 0 || field.value !== "" || Boolean(shown.refused);
  more.hidden = !shown.more;
  const said = shown.refused ?? (offline
    ? `Offline – ${counted(documents.length, "document")} kept in this browser`
    : counted(documents.length, "document") + (shown.more ? " and more" : ""));
  if (status.textContent !== said) status.textContent = said;
  document.body.classList.toggle("offline", Boolean(offline));
  suggest();
}

/** What the button does with what has been typed. */
function suggest() {
  const name = field.value.trim().normalize("NFC");
  go.disabled = !name;
  const known = shown.documents.some((one) => one.name === name);
  go.textContent = known || !name ? "Open" : "Make";
}

/** Ask the server, or if it does not answer this browser. */
async function look() {
  const mine = ++turn;
  const wanted = field.value.trim();
  const here = await keptDocuments(base).catch(() => []);
  const unsaved = new Set(here.filter((one) => one.unsaved).map((one) => one.name));
  let found;
  try {
    const url = new URL(base);
    if (wanted) url.searchParams.set("find", wanted);
    const answer = await fetch(url, { headers: { Accept: "application/json" }, cache: "no-store" });
    if (answer.ok) {
      found = await answer.json();
      const names = new Set(found.documents.map((one) => one.name));
      // What only this browser has is to be seen, too.
      found.documents.unshift(...here.filter((one) =>
        one.unsaved && !names.has(one.name) && one.name.toLowerCase().includes(wanted.toLowerCase())));
      for (const one of found.documents) one.unsaved = unsaved.has(one.name);
    } else if (answer.status === 403 || answer.status === 401) {
      found = { documents: [], refused: "You may not see this yet: open the address that has the token, or log in." };
    } else {
      throw new Error(`${answer.status}`);
    }
  } catch {
    const matching = here.filter((one) => one.name.toLowerCase().includes(wanted.toLowerCase()));
    found = { documents: matching, offline: true };
  }
  if (mine === turn) {
    shown = found;
    show();
  }
}

let typing;
field.addEventListener("input", () => {
  hint.textContent = "";
  suggest();
  clearTimeout(typing);
  typing = setTimeout(look, 150);
});

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const name = field.value.trim().normalize("NFC");
  if (!name) return;
  const address = addressOf(name);
  if (!address.endsWith(`/${encodeURIComponent(name)}`) || name === "-") {
    hint.textContent = "A document's name is more than dots or a dash.";
    return;
  }
  // The server knows which other names may be; if it does not answer, the editor says what can be done.
  try {
    const answer = await fetch(`${address}/rights`, { cache: "no-store" });
    if (!answer.ok) {
      hint.textContent = await answer.text();
      return;
    }
  } catch { /* no connection */ }
  location.href = address;
});

document.addEventListener("visibilitychange", () => document.hidden || look());
setInterval(() => document.hidden || look(), PERIOD);
addEventListener("online", look);
addEventListener("offline", look);
look();
keepPages();
