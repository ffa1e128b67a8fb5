// What both pages use: the address of things, who one is, words, and text from others as nothing but text.

import { isColor, shownName } from "../presence.js";

export { isColor, shownName };

/** Where the list is, below which all documents are. */
export const base = new URL("./", location.href);

/** Colours that white text can be read on, and that differ from each other for most people. */
export const COLORS = {
  "#0b63a5": "Blue", "#b3261e": "Red", "#2e6b1f": "Green", "#7b3fb0": "Purple", "#98480a": "Orange",
  "#00696b": "Teal", "#a62c78": "Pink", "#6b5d00": "Olive", "#4b5bb5": "Indigo", "#5a6068": "Grey",
};

/** The address of a document. */
export function addressOf(name) {
  return new URL(encodeURIComponent(name.toWellFormed()), base).href;
}

/** An element with attributes and children; strings become text, never markup. */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null) made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

/** What stands for a name where there is little room: the first letters of two words, or whatever it begins with. */
function initials(name) {
  const words = shownName(name).split(/\s+/);
  const [first, last] = [words[0], words.at(-1)].map((word) => [...new Intl.Segmenter().segment(word)][0]?.segment ?? "?");
  return words.length > 1 && /^\p{L}/u.test(first) && /^\p{L}/u.test(last) ? first + last : first;
}

/** A small disc with the initials of a name. */
export function face(name, color) {
  const made = element("span", { class: "face", "aria-hidden": "true" }, initials(name));
  if (isColor(color)) made.style.setProperty("--who", color);
  return made;
}

/** Settings of this browser, which may not be allowed to keep any. */
export const settings = {
  get(key) {
    try { return localStorage.getItem(`egwalker.${key}`); } catch { return null; }
  },
  set(key, value) {
    try { localStorage.setItem(`egwalker.${key}`, value); } catch { /* then for this tab only */ }
  },
};

/** Names of guests, two words, so that few of them have the same, or the same initials. */
const GUESTS = [
  "Amber Brave Calm Daring Eager Fair Gentle Happy Jolly Kind Lively Merry Noble Patient Quiet Swift".split(" "),
  "Badger Crane Dolphin Eagle Fox Gull Heron Ibis Jay Koala Lynx Marten Newt Otter Puffin Robin Seal Tern Wren Yak".split(" "),
];

/** Who one is: chosen, or a guest of some colour. */
export function myself() {
  let name = settings.get("name"), color = settings.get("color");
  if (!name || !isColor(color)) {
    const [hue, ...chosen] = crypto.getRandomValues(new Uint16Array(3));
    name ||= GUESTS.map((words, i) => words[chosen[i] % words.length]).join(" ");
    if (!isColor(color)) color = Object.keys(COLORS)[hue % Object.keys(COLORS).length];
    settings.set("name", name);
    settings.set("color", color);
  }
  return { name, color };
}

/** `1 change`, `2,000 changes`. */
export function counted(number, what) {
  return `${number.toLocaleString("en")} ${what}${number === 1 ? "" : "s"}`;
}

/** Let the pages open where there is no connection, if the browser can. */
export function keepPages() {
  navigator.serviceWorker?.register(new URL("-/page/worker.js", base), { scope: base.pathname })
    .catch(() => { /* it works without, as long as there is a connection */ });
}
