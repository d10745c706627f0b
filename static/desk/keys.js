// Single-key shortcuts, in one place.
//
//   register({ key: "x", label: "Select row", scope: "List", act: () => …, when: () => … })   → a function that takes it back
//
// `key` is the default: a lower-case letter, a sign, "Enter", "Space", an arrow, or "g q" (G, then Q). `act` gets the
// event; if it returns false, the next one with this key is asked. Later registrations come first. A visible button, link
// or field needs no script: with aria-keyshortcuts="X" it is pressed (a field is focused) by its key.
//
// Keys rest in fields, under an open dialog, while a modifier is held, and when the reader switched them off. Readers
// may give a shortcut another key; aria-keyshortcuts and the printed keys follow.
import { preferences } from "./preferences.js";

const LEADER = "g";
const PATIENCE = 1200;   // milli-seconds between G and its second key
const TYPING = "input:not([type=checkbox], [type=radio]), textarea, select, [contenteditable=true], [role=combobox], [role=textbox], [data-keys-off]";
const PRESSED = "a[href], button, summary, input, [role=tab], [role=option], [role=button]";
const entries = [];
const fixed = [];
let led = -Infinity;     // when the leader was pressed

const lower = (key) => (key.length === 1 ? key.toLowerCase() : key);
export const shown = (key) => key.split(" ").map((part) => (part.length === 1 ? part.toUpperCase() : part));
export const effective = (key) => preferences.keys[lower(key)] ?? lower(key);
export const keysOn = () => preferences.shortcuts;

export function register({ key, label, act, when = () => true, scope = "This page" }) {
  const entry = { key: key.split(" ").map(lower).join(" "), label, act, when, scope };
  entries.push(entry);
  return () => { const at = entries.indexOf(entry); if (at >= 0) entries.splice(at, 1); };
}

// For the help page only: a key that something else handles, e.g. describe({ keys: ["Ctrl", "K"], label: "Commands" }).
export function describe({ keys, label, scope = "Everywhere" }) { fixed.push({ keys, label, scope }); }

const visible = (part) => part.checkVisibility?.({ visibilityProperty: true }) ?? part.offsetParent !== null;
const single = (name) => name.length === 1 || name === "Enter" || name === "Space" || name.startsWith("Arrow");

// --- parts that declare their key ---------------------------------------------------------------------------------------
const written = new WeakMap();   // what this module wrote last into aria-keyshortcuts; anything else is a page's new default

function dress(part) {
  const now = part.getAttribute("aria-keyshortcuts");
  if (!written.has(part) || written.get(part) !== now) {
    if (now === null) { delete part.dataset.key; written.delete(part); return; }
    part.dataset.key = now;
  }
  const names = part.dataset.key.split(" ");
  if (!names.some(single)) { written.set(part, now); return; }
  const kept = names.map((name) => (single(name) ? shown(effective(name))[0] : name)).filter((name) => keysOn() || !single(name));
  const after = kept.join(" ") || null;
  written.set(part, after);
  if (after !== now) { if (after) part.setAttribute("aria-keyshortcuts", after); else part.removeAttribute("aria-keyshortcuts"); }
  printed(part).forEach((hint) => {
    hint.hidden = !keysOn();
    const words = shown(effective(names[0]))[0];
    if (hint.textContent !== words) hint.textContent = words;
  });
}
// A key printed on the part itself; one beside a field is printed next to it.
const printed = (part) => [...(part.matches("input, textarea, select") ? part.parentElement.querySelectorAll(":scope > kbd.d-key") : part.querySelectorAll("kbd.d-key"))];
export const dressAll = (root = document) => root.querySelectorAll("[aria-keyshortcuts], [data-key]").forEach(dress);

const declared = () => [...document.querySelectorAll("[data-key]")].filter((part) => part.dataset.key.split(" ").some(single));
const ready = (part) => !part.disabled && part.getAttribute("aria-disabled") !== "true" && !part.closest("dialog:not([open])") && visible(part);
const nameOf = (part) => {
  if (part.dataset.keyLabel) return part.dataset.keyLabel;
  if (part.getAttribute("aria-label")) return part.getAttribute("aria-label");
  if (part.labels?.length) return part.labels[0].textContent.trim();
  const copy = part.cloneNode(true);
  copy.querySelectorAll("kbd, svg").forEach((inner) => inner.remove());
  return copy.textContent.replace(/\s+/g, " ").trim() || part.title;
};
function use(part) {
  if (part.matches("input:not([type=checkbox], [type=radio], [type=submit]), textarea, select")) { part.focus(); part.select?.(); } else part.click();
}

// Presses whatever has this default key, as if the reader had; true if something did.
export function press(key, event = null) {
  const wanted = lower(key);
  for (const entry of [...entries].reverse()) {
    if (entry.key === wanted && entry.when() && entry.act(event) !== false) return true;
  }
  const part = declared().find((each) => each.dataset.key.split(" ").some((name) => lower(name) === wanted) && ready(each));
  if (part) use(part);
  return Boolean(part);
}

// Everything that can be done here and now: for the help page and the command palette.
export function list() {
  const acts = entries.filter((entry) => entry.when()).map((entry) => ({
    label: entry.label, scope: entry.scope, run: () => entry.act(null),
    keys: keysOn() ? shown(entry.key.split(" ").map((part, at) => (at ? part : effective(part))).join(" ")) : [],
  }));
  const parts = declared().filter(ready).map((part) => ({
    label: nameOf(part), scope: part.closest("[data-keys-scope]")?.dataset.keysScope ?? "This page", run: () => use(part),
    keys: keysOn() ? shown(effective(part.dataset.key.split(" ").find(single))) : [],
  }));
  const known = new Set();
  return [...parts, ...acts].filter(({ label, keys }) => {
    const sign = `${label}|${keys}`;
    return label && !known.has(sign) && known.add(sign);
  });
}
export const described = () => fixed;

// --- the one listener ---------------------------------------------------------------------------------------------------
const defaultsOf = (key) => {
  const moved = Object.entries(preferences.keys).filter(([, now]) => now === key).map(([was]) => was);
  return moved.length || key in preferences.keys ? moved : [key];
};
function resting(event) {
  if (!keysOn() || event.defaultPrevented || event.isComposing || event.ctrlKey || event.metaKey || event.altKey) return true;
  if (event.shiftKey && /^[a-z]$/i.test(event.key)) return true;
  if (event.repeat && !["j", "k", "ArrowDown", "ArrowUp"].includes(defaultsOf(lower(event.key))[0])) return true;
  return Boolean(document.querySelector("dialog[open]")) || Boolean(event.target.closest?.(TYPING));
}
document.addEventListener("keydown", (event) => {
  if (resting(event)) return;
  const key = event.key === " " ? "Space" : lower(event.key);
  if ((key === "Enter" || key === "Space") && event.target.closest(PRESSED)) return;
  if (performance.now() - led < PATIENCE && key !== "Shift") {
    led = -Infinity;
    press(`${LEADER} ${key}`, event);   // a second key that leads nowhere does nothing at all
    event.preventDefault();
    return;
  }
  for (const name of defaultsOf(key)) {
    if (name === LEADER) { led = performance.now(); event.preventDefault(); return; }
    if (press(name, event)) { event.preventDefault(); return; }
  }
});

dressAll();
new MutationObserver((changes) => {
  for (const { type, target, addedNodes } of changes) {
    if (type === "attributes") dress(target);
    for (const node of addedNodes) {
      if (node.nodeType !== Node.ELEMENT_NODE) continue;
      if (node.matches("[aria-keyshortcuts]")) dress(node);
      dressAll(node);
    }
  }
}).observe(document.body, { childList: true, subtree: true, attributeFilter: ["aria-keyshortcuts"] });
document.addEventListener("desk:preferences", (event) => {
  if ("shortcuts" in event.detail || "keys" in event.detail) dressAll();
});
