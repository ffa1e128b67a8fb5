// What tests/webkit.py does within a page: it is the body of a function of (steps, what, argument). What is given back
// is in an array, and null means: not yet.

const ROLES = {
  alert: "[role=alert]", button: "button", link: "a[href]", slider: "input[type=range]", status: "[role=status]",
  textbox: "input:not([type]), input[type=text], textarea, [role=textbox]",
};
const [steps, what, argument] = arguments;

function seen(one) {
  return one.checkVisibility() && one.getClientRects().length > 0;
}

function named(one) {
  return (one.ariaLabel ?? one.labels?.[0]?.textContent ?? one.textContent).replace(/\s+/g, " ").trim();
}

/** All that a locator of these steps means. */
function find() {
  let found = [document];
  for (const { css, role, name = "", label, text, nth } of steps) {
    if (css !== undefined) {
      found = found.flatMap((one) => [...one.querySelectorAll(css.replaceAll(":visible", ""))]);
      if (css.includes(":visible")) found = found.filter(seen);
    } else if (role !== undefined) {
      found = found.flatMap((one) => [...one.querySelectorAll(ROLES[role])])
        .filter((one) => seen(one) && named(one).toLowerCase().includes(name.toLowerCase()));
    } else if (label !== undefined) {
      found = [...document.querySelectorAll("input, textarea")].filter((one) => named(one) === label);
    } else if (text !== undefined) {
      found = found.filter((one) => new RegExp(text).test(one.textContent));
    } else {
      found = found.slice(nth, nth + 1);
    }
  }
  return found;
}

/** Note all that a page should never do, also what its policy forbade before. */
function watch() {
  if (window.problems) return;
  const problems = window.problems = [];
  const note = (problem) => problems.push(problem);
  const { error } = console;
  console.error = (...all) => {
    error(...all);
    note(`console: ${all.join(" ")}`);
  };
  addEventListener("error", (event) => note(`not caught: ${event.message} ${event.error?.stack}`));
  addEventListener("unhandledrejection", ({ reason }) => note(`not caught: ${reason} ${reason?.stack}`));
  new ReportingObserver((reports) => {
    for (const { body } of reports) note(`Content Security Policy: ${body.effectiveDirective} ${body.blockedURL}`);
  }, { types: ["csp-violation"], buffered: true }).observe();
  for (const dialog of ["alert", "confirm", "prompt"]) window[dialog] = (said) => note(`a dialog: ${said}`);
}

/** Write into a field as by hand, or move a slider. */
function fill(field) {
  if (!field || field.disabled) return null;
  field.focus();
  if (field.type === "range") {
    field.value = argument;
    for (const name of ["input", "change"]) field.dispatchEvent(new Event(name, { bubbles: true }));
  } else {
    field.select();
    document.execCommand(argument ? "insertText" : "delete", false, argument);
  }
  return [true];
}

/** Where something is; if that is to be clicked, as soon as it can be. */
function box(one) {
  if (!one || (argument && one.disabled)) return null;
  if (argument) one.scrollIntoView({ block: "nearest" });
  const { x, y, width, height } = one.getBoundingClientRect();
  return [{ x, y, width, height }];
}

const DOING = {
  watch,
  problems: () => window.problems ?? [],
  size: () => [innerWidth, innerHeight],
  all: (found) => found,
  texts: (found) => found.map((one) => one.innerText),
  text: ([first]) => first && [first.innerText],
  value: ([first]) => first && [first.value],
  attribute: ([first]) => first && [first.getAttribute(argument)],
  focus: ([first]) => first && [first.focus()],
  shown: (found) => (found.some(seen) ? [true] : null),
  fill: (found) => fill(found.find(seen)),
  box: (found) => box(found.find(seen)),
};
return DOING[what](find());
