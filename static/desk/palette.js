// The command palette (Ctrl+K): pages, what can be done on this page, and, found by the server, cases and customers.
// A combobox: the focus stays in the field, aria-activedescendant names the option under the cursor.
import { open } from "./dialog.js";
import { list } from "./keys.js";
import { nextTheme } from "./theme-switch.js";

const dialog = document.getElementById("commands");
const WAIT = 120;        // milli-seconds after the last letter before the server is asked
const SHORTEST = 2;

function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  svg.setAttribute("class", "d-icon");
  svg.setAttribute("aria-hidden", "true");
  use.setAttribute("href", `${document.body.dataset.sprite}#${name}`);
  svg.append(use);
  return svg;
}

function start() {
  const input = dialog.querySelector("input");
  const box = dialog.querySelector("[role=listbox]");
  const none = dialog.querySelector("[data-none]");
  const pages = JSON.parse(document.getElementById("desk-commands").textContent);
  let shown = [];
  let at = 0;
  let found = [];
  let acts = [];
  let timer = 0;
  let asked = null;

  const matches = (words, command) => words.every((word) => `${command.label} ${command.hint ?? ""}`.toLowerCase().includes(word));

  function option(command, index) {
    const item = document.createElement("li");
    item.setAttribute("role", "option");
    item.id = `command-${index}`;
    item.setAttribute("aria-selected", index === at);
    item.append(icon(command.icon ?? "arrow-right"), Object.assign(document.createElement("span"), { className: "d-grow d-cut", textContent: command.label }));
    if (command.hint) item.append(Object.assign(document.createElement("span"), { className: "d-hint", textContent: command.hint }));
    for (const key of command.keys ?? []) item.append(Object.assign(document.createElement("kbd"), { className: "d-key", textContent: key }));
    item.addEventListener("click", () => run(command));
    item.addEventListener("mousemove", () => { if (at !== index) select(index); });
    return item;
  }
  function heading(title) {
    const item = Object.assign(document.createElement("li"), { className: "d-palette-title", textContent: title });
    item.setAttribute("role", "presentation");
    return item;
  }
  function draw() {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    const groups = [["Found", found], ["On this page", acts], ["Pages", pages.filter((page) => !page.record)],
      ["Desk", [{ label: "Theme: light, dark, system", icon: "moon", run: nextTheme }, { label: "Keyboard help", icon: "keyboard", run: () => open("help") }]],
      ["Records", words.length ? pages.filter((page) => page.record) : []]];
    shown = [];
    const parts = [];
    for (const [title, commands] of groups) {
      const fitting = title === "Found" ? commands : commands.filter((command) => matches(words, command));
      if (!fitting.length) continue;
      parts.push(heading(title), ...fitting.map((command) => option(command, shown.push(command) - 1)));
    }
    box.replaceChildren(...parts);
    none.hidden = shown.length > 0;
    select(Math.min(at, Math.max(0, shown.length - 1)));
  }
  function select(index) {
    at = index;
    const options = [...box.querySelectorAll("[role=option]")];
    options.forEach((each, place) => each.setAttribute("aria-selected", place === at));
    if (options[at]) { input.setAttribute("aria-activedescendant", options[at].id); options[at].scrollIntoView({ block: "nearest" }); } else input.removeAttribute("aria-activedescendant");
  }
  function run(command) {
    if (!command) return;
    dialog.close();
    if (command.url) location.assign(command.url); else command.run();
  }
  async function ask(text) {
    asked?.abort();
    asked = new AbortController();
    dialog.dataset.state = "asking";
    try {
      const answer = await fetch(`${dialog.dataset.find}?q=${encodeURIComponent(text)}`, { signal: asked.signal, headers: { Accept: "application/json" } });
      const results = answer.ok ? (await answer.json()).found : [];
      if (input.value.trim() !== text) return;
      found = results;
      dialog.dataset.state = answer.ok ? "" : "failed";
    } catch (error) {
      if (error.name === "AbortError") return;
      dialog.dataset.state = "failed";
    }
    draw();
  }
  input.addEventListener("input", () => {
    clearTimeout(timer);
    const text = input.value.trim();
    at = 0;
    if (text.length < SHORTEST) { asked?.abort(); found = []; dialog.dataset.state = ""; } else timer = setTimeout(() => ask(text), WAIT);
    draw();
  });
  dialog.addEventListener("keydown", (event) => {
    const last = shown.length - 1;
    const next = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: last, PageDown: Math.min(last, at + 8), PageUp: Math.max(0, at - 8) }[event.key];
    if (event.key === "Enter") { event.preventDefault(); run(shown[at]); }
    if (next === undefined || !shown.length || (event.key === "Home" || event.key === "End") && input.value) return;
    event.preventDefault();
    select((next + shown.length) % shown.length);
  });
  dialog.addEventListener("desk:opened", () => {
    acts = list().filter(({ scope, label }) => scope !== "Go to" && label !== "Keyboard help").map((act) => ({ ...act, icon: "zap" }));
    input.value = "";
    found = [];
    at = 0;
    draw();
    input.focus();
  });
  document.addEventListener("keydown", (event) => {
    if (!(event.ctrlKey || event.metaKey) || event.altKey || event.shiftKey || event.key.toLowerCase() !== "k") return;
    event.preventDefault();
    // What is open already keeps the screen: a decision half made is not covered.
    if (dialog.open) dialog.close(); else if (!document.querySelector("dialog[open]")) open(dialog);
  });
}
if (dialog) start();
