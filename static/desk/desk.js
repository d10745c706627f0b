// What every page of the desk can do: theme, menus, dialogs, command palette, keys, copy buttons, messages.
// Pages need no script for a key: any button, link or field with aria-keyshortcuts is pressed by its key.
import { startLive } from "./live.js";

const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
const keep = (name, value) => {
  try { value === null ? localStorage.removeItem(name) : localStorage.setItem(name, value); } catch { /* barred */ }
};
const kept = (name) => { try { return localStorage.getItem(name); } catch { return null; } };

// The reader's time zone, for the next page.
const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
if (zone) document.cookie = `desk_zone=${zone}; path=/; max-age=31536000; samesite=lax`;

// Theme: system, light, dark.
const themes = { system: ["monitor", "follows the system"], light: ["sun", "light"], dark: ["moon", "dark"] };
const theme = () => document.documentElement.dataset.theme in themes ? document.documentElement.dataset.theme : "system";
function showTheme() {
  const [icon, words] = themes[theme()];
  $$("[data-theme-toggle]").forEach((button) => {
    $("use", button).setAttribute("href", `${document.body.dataset.sprite}#${icon}`);
    button.setAttribute("aria-label", `Theme: ${words}`);
    button.title = `Theme: ${words}`;
  });
}
function nextTheme() {
  const order = Object.keys(themes);
  const next = order[(order.indexOf(theme()) + 1) % order.length];
  if (next === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = next;
  keep("theme", next === "system" ? null : next);
  showTheme();
}
showTheme();

// Dialogs: data-open="id"; a click on the backdrop closes; Ctrl+Enter submits the dialog's main button.
const open = (id) => { const dialog = document.getElementById(id); if (dialog && !dialog.open) dialog.showModal(); };

// Menus.
function toggleMenu(button, on = button.getAttribute("aria-expanded") !== "true") {
  button.setAttribute("aria-expanded", on);
  document.getElementById(button.getAttribute("aria-controls")).hidden = !on;
}
const closeMenus = (except) => $$("[data-menu][aria-expanded=true]").filter((b) => b !== except).forEach((b) => toggleMenu(b, false));

// Copy buttons: data-copy="text".
async function copy(button) {
  try { await navigator.clipboard.writeText(button.dataset.copy); } catch { return; }
  const use = $("use", button);
  const before = use?.getAttribute("href");
  use?.setAttribute("href", `${document.body.dataset.sprite}#check`);
  setTimeout(() => use?.setAttribute("href", before), 1500);
}

document.addEventListener("click", (event) => {
  const at = (selector) => event.target.closest(selector);
  const menu = at("[data-menu]");
  if (menu) toggleMenu(menu);
  closeMenus(menu);
  if (at("[data-theme-toggle], [data-theme-next]")) nextTheme();
  if (at("[data-copy]")) copy(at("[data-copy]"));
  if (at("[data-dismiss]")) at("[data-dismiss]").closest(".d-notice").remove();
  if (at("[data-open]")) { at("dialog")?.close(); open(at("[data-open]").dataset.open); }
  if (at("[data-close]")) at("dialog")?.close();
  if (event.target.matches("dialog.d-dialog")) event.target.close();
});

// Tabs.
function showTab(tab) {
  $$("[role=tab]", tab.closest("[role=tablist]")).forEach((other) => {
    other.setAttribute("aria-selected", other === tab);
    other.tabIndex = other === tab ? 0 : -1;
    document.getElementById(other.getAttribute("aria-controls")).hidden = other !== tab;
  });
}
$$("[role=tablist]").forEach((list) => {
  list.addEventListener("click", (event) => { const tab = event.target.closest("[role=tab]"); if (tab) showTab(tab); });
  list.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const tabs = $$("[role=tab]", list);
    const next = tabs[(tabs.indexOf(document.activeElement) + step + tabs.length) % tabs.length];
    showTab(next);
    next.focus();
  });
});

// Command palette.
const palette = document.getElementById("commands");
if (palette) {
  const input = $("input", palette);
  const options = $$("[role=option]", palette);
  const shown = () => options.filter((option) => !option.hidden);
  const select = (option) => {
    options.forEach((other) => other.setAttribute("aria-selected", other === option));
    if (option) { input.setAttribute("aria-activedescendant", option.id); option.scrollIntoView({ block: "nearest" }); }
    else input.removeAttribute("aria-activedescendant");
  };
  const filter = () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    options.forEach((option) => { option.hidden = !words.every((word) => option.textContent.toLowerCase().includes(word)); });
    $("[data-none]", palette).hidden = shown().length > 0;
    select(shown()[0]);
  };
  const run = (option) => {
    if (!option) return;
    palette.close();
    if (option.dataset.href) location.assign(option.dataset.href);
    else if (option.dataset.press) press(option.dataset.press);
    else if (option.dataset.open) open(option.dataset.open);
    else if ("themeNext" in option.dataset) nextTheme();
  };
  input.addEventListener("input", filter);
  palette.addEventListener("close", () => { input.value = ""; filter(); });
  palette.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const now = shown();
    const at = now.findIndex((option) => option.getAttribute("aria-selected") === "true");
    if (step) { event.preventDefault(); select(now[(at + step + now.length) % now.length]); }
    if (event.key === "Enter") { event.preventDefault(); run(now[at]); }
  });
  options.forEach((option) => option.addEventListener("click", (event) => { event.stopPropagation(); run(option); }));
  filter();
}

// Keys rest in fields, in dialogs, while a modifier is held, and when switched off.
const keysOn = () => kept("desk-keys") !== "off";
$$("[data-keys-switch]").forEach((box) => {
  box.checked = keysOn();
  box.addEventListener("change", () => keep("desk-keys", box.checked ? null : "off"));
});
const visible = (part) => part.checkVisibility?.() ?? part.offsetParent !== null;
function press(key) {
  const part = $$("[aria-keyshortcuts]").find((candidate) =>
    candidate.getAttribute("aria-keyshortcuts").split(" ").some((name) => name.toLowerCase() === key.toLowerCase())
    && !candidate.disabled && candidate.getAttribute("aria-disabled") !== "true" && !candidate.closest("dialog:not([open])") && visible(candidate));
  if (!part) return false;
  if (part.matches("input:not([type=checkbox], [type=radio]), textarea, select")) { part.focus(); part.select?.(); } else part.click();
  return true;
}

// J and K walk the rows of a table with data-rows; Enter and O open the row's first link.
const rows = () => $$("[data-rows] tbody tr").filter(visible);
function walk(step) {
  const list = rows();
  if (!list.length) return false;
  const now = list.findIndex((row) => row.classList.contains("is-current"));
  const next = list[Math.max(0, Math.min(list.length - 1, now + step))];
  list[now]?.classList.remove("is-current");
  next.classList.add("is-current");
  next.scrollIntoView({ block: "nearest" });
  next.dispatchEvent(new CustomEvent("desk:row", { bubbles: true }));
  return true;
}
function openRow() {
  const link = $("[data-rows] tr.is-current a[href]");
  link?.click();
  return Boolean(link);
}

let leader = -Infinity;  // when G was pressed
function single(event) {
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (performance.now() - leader < 1200) {
    leader = -Infinity;
    const link = $(`[data-go="${CSS.escape(key)}"]`);
    if (link) { link.click(); return true; }
  }
  if (key === "g") { leader = performance.now(); return true; }
  if (press(event.key)) return true;
  if (key === "j") return walk(1);
  if (key === "k") return walk(-1);
  if ((key === "o" || key === "Enter") && !event.target.closest("a, button, summary")) return openRow();
  return false;
}
document.addEventListener("keydown", (event) => {
  const chord = event.ctrlKey || event.metaKey;
  if (event.key === "Escape") closeMenus();
  if (chord && event.key.toLowerCase() === "k" && palette) { event.preventDefault(); open("commands"); return; }
  if (chord && event.key === "Enter") {
    const main = $("dialog[open] [data-submit], dialog[open] .d-btn--main, dialog[open] .d-btn--fraud");
    if (main) { event.preventDefault(); main.click(); }
    return;
  }
  if (chord || event.altKey || event.repeat && !"jkJK".includes(event.key) || !keysOn()) return;
  if (event.target.closest("input:not([type=checkbox], [type=radio]), textarea, select, dialog, [contenteditable]")) return;
  if (single(event)) event.preventDefault();
});

startLive();
