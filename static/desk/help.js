// The help page of the keys: made from what is registered when it opens, so it never tells of a key that does nothing here.
import { open } from "./dialog.js";
import { described, keysOn, list, register } from "./keys.js";
import { preferences, save } from "./preferences.js";

const dialog = document.getElementById("help");
const ORDER = ["This page", "Case", "List", "Go to", "Everywhere"];

function line({ keys, label }) {
  const row = document.createElement("div");
  const [term, words] = [document.createElement("dt"), document.createElement("dd")];
  for (const key of keys) {
    term.append(Object.assign(document.createElement("kbd"), { className: "d-key", textContent: key }), " ");
  }
  words.textContent = label;
  row.append(term, words);
  return row;
}
function group(title, lines) {
  const part = document.createElement("section");
  const facts = Object.assign(document.createElement("dl"), { className: "d-facts" });
  facts.append(...lines.map(line));
  part.append(Object.assign(document.createElement("h3"), { textContent: title }), facts);
  return part;
}
function fill() {
  const groups = new Map();
  for (const each of [...list(), ...described()]) {
    if (!each.keys.length) continue;
    groups.set(each.scope, [...(groups.get(each.scope) ?? []), each]);
  }
  const rank = (title) => (ORDER.includes(title) ? ORDER.indexOf(title) : 1.5);
  const sorted = [...groups].sort(([a], [b]) => rank(a) - rank(b));
  dialog.querySelector("[data-help-list]").replaceChildren(...sorted.map(([title, lines]) => group(title, lines)));
  dialog.querySelector("[data-help-off]").hidden = keysOn();
  dialog.querySelector("[data-keys-switch]").checked = keysOn();
}

if (dialog) {
  register({ key: "?", label: "Keyboard help", scope: "Everywhere", act: () => open("help") });
  dialog.addEventListener("desk:opened", fill);
  dialog.querySelector("[data-keys-switch]").addEventListener("change", (event) => {
    preferences.shortcuts = event.target.checked;
    save({ shortcuts: event.target.checked });
    fill();
  });
}
