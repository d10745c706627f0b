// The queue: rows wait behind a banner until they are asked for, a preview beside the list, a selection with its acts.
// Nothing moves under the hand: the list keeps its place and the focus whatever else changes.
import { open } from "../desk/dialog.js";
import { register } from "../desk/keys.js";
import { pace } from "../desk/pace.js";
import { toast } from "../desk/undo.js";

const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
const queue = $("[data-queue]");
const PIECE = { "X-Requested-With": "desk" };
const rows = () => $$("[data-rows] tbody tr");
const current = () => $("[data-rows] tr.is-current");
const say = (words) => { $("[data-said]").textContent = words; };
const token = () => $("[name=csrfmiddlewaretoken]").value;

// The way back: a case page's "Back to the list" leads to this address.
const remember = () => { try { sessionStorage.setItem("desk-list", location.search); } catch { /* barred */ } };
remember();

async function piece(url, options = {}) {
  const answer = await fetch(url, { ...options, headers: { ...PIECE, ...options.headers }, credentials: "same-origin" });
  return { answer, text: await answer.text() };
}
const parsed = (html) => Object.assign(document.createElement("template"), { innerHTML: html }).content;

// --- the row under the keyboard -----------------------------------------------------------------------------------------
function mark(row) {
  current()?.classList.remove("is-current");
  row?.classList.add("is-current");
}
// The first row is the keyboard's, so that Enter opens the most urgent case at once.
mark(rows()[0]);
document.addEventListener("desk:row", () => { if (queue.dataset.preview === "on") soonPreview(); });

// --- preview ------------------------------------------------------------------------------------------------------------
const panel = $("[data-preview-part]");
const toggle = $("[data-preview-toggle]");
let previewed = "";
let asking = null;
let previewTimer = 0;

function setPreview(on) {
  queue.dataset.preview = on ? "on" : "off";
  toggle.setAttribute("aria-pressed", on);
  try { sessionStorage.setItem("desk-preview", on ? "on" : "off"); } catch { /* barred */ }
  if (on) preview(); else previewed = "";
}
function soonPreview() {
  clearTimeout(previewTimer);
  previewTimer = setTimeout(preview, 120);
}
async function preview() {
  const row = current();
  if (!row || row.dataset.case === previewed) return;
  previewed = row.dataset.case;
  asking?.abort();
  asking = new AbortController();
  try {
    const { answer, text } = await piece(`${queue.dataset.list}preview/${row.dataset.id}/`, { signal: asking.signal });
    if (previewed !== row.dataset.case) return;
    panel.setAttribute("aria-label", `Preview of ${row.dataset.case}`);
    if (answer.ok) panel.replaceChildren(parsed(text));
    else panel.textContent = "This case cannot be shown here.";
    panel.scrollTop = 0;
    say(`Preview of ${row.dataset.case}`);
  } catch (error) {
    if (error.name !== "AbortError") { previewed = ""; panel.textContent = "The preview did not load. Try again."; }
  }
}
const togglePreview = () => { if (rows().length) setPreview(queue.dataset.preview !== "on"); };
toggle.addEventListener("click", togglePreview);
register({ key: "Space", label: "Preview the row", scope: "List", act: togglePreview, when: () => rows().length > 0 });
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && queue.dataset.preview === "on" && !$("dialog[open], [data-menu][aria-expanded=true]")) setPreview(false);
});
try { if (sessionStorage.getItem("desk-preview") === "on" && matchMedia("(min-width: 68.01rem)").matches) setPreview(true); } catch { /* barred */ }

// --- selection ----------------------------------------------------------------------------------------------------------
const picked = new Map();   // case id → { base, ccy }
let everything = null;      // { count, amount, more } when all that match are meant

const box = (row) => $(".c-sel input", row);
function pick(row, on) {
  if (on) picked.set(row.dataset.id, { base: Number(row.dataset.base), ccy: row.dataset.ccy });
  else { picked.delete(row.dataset.id); everything = null; }
}
function money(parts) {
  const sums = {};
  for (const { base, ccy } of parts) sums[ccy] = (sums[ccy] ?? 0) + base;
  return Object.entries(sums).map(([currency, minor]) => {
    const digits = new Intl.NumberFormat("en", { style: "currency", currency }).resolvedOptions().maximumFractionDigits;
    const text = new Intl.NumberFormat("en", { minimumFractionDigits: digits, maximumFractionDigits: digits }).format(minor / 10 ** digits);
    return `${text} ${currency}`;
  }).join(" and ");
}
function showPicked() {
  const bar = $("[data-bulk]");
  for (const row of rows()) {
    const on = Boolean(everything) || picked.has(row.dataset.id);
    row.setAttribute("aria-selected", on);
    if (box(row)) box(row).checked = on;
  }
  const page = $("[data-pick-page]");
  const here = rows().filter((row) => row.getAttribute("aria-selected") === "true").length;
  if (page) { page.checked = here > 0 && here === rows().length; page.indeterminate = here > 0 && !page.checked; }
  if (!bar) return;
  const count = everything?.count ?? picked.size;
  bar.hidden = !count;
  $("[data-bulk-count]", bar).textContent = everything?.more ? `the ${count.toLocaleString("en")} most urgent` : `${count.toLocaleString("en")} selected`;
  $("[data-bulk-amount]", bar).textContent = everything?.amount ?? money(picked.values());
  const all = $("[data-pick-all]", bar);
  if (all) all.hidden = Boolean(everything);
}
async function pickEverything() {
  const answer = await fetch(`${queue.dataset.matching}${location.search}`, { headers: PIECE });
  if (!answer.ok) { toast("The cases could not be counted. Try again."); return; }
  everything = await answer.json();
  showPicked();
  say(`${everything.count} cases selected`);
}
function pickNone() { picked.clear(); everything = null; showPicked(); }
function pickCurrent() {
  const row = current();
  if (!row || !box(row)) return false;
  pick(row, row.getAttribute("aria-selected") !== "true");
  showPicked();
  return true;
}
register({ key: "x", label: "Select the row", scope: "List", act: pickCurrent, when: () => Boolean(current() && box(current())) });
document.addEventListener("change", (event) => {
  if (event.target.matches("[data-pick-page]")) { rows().forEach((row) => pick(row, event.target.checked)); showPicked(); }
  const row = event.target.closest("[data-rows] tbody tr");
  if (row && event.target.closest(".c-sel")) { pick(row, event.target.checked); mark(row); showPicked(); }
});

// --- acts ---------------------------------------------------------------------------------------------------------------
const sheet = $("#sheet");
function fill(html) {
  sheet.replaceChildren(parsed(html));
  open(sheet);
  $("[autofocus], select, textarea, input:not([type=hidden])", sheet)?.focus();
}
async function openSheet(url) {
  const { answer, text } = await piece(url);
  if (answer.ok || answer.status === 409) fill(text); else toast("This did not load. Try again.");
}
function bulk(act) {
  const more = $("[data-bulk] [data-menu][aria-expanded=true]");
  more?.click();
  const asked = new URLSearchParams(location.search);
  asked.set("act", act);
  if (everything) asked.set("all", "1"); else for (const id of picked.keys()) asked.append("case", id);
  openSheet(`${queue.dataset.bulkUrl}?${asked}`);
}
// Acts of the dialog answer into the dialog while something is missing, else lead on.
sheet.addEventListener("submit", async (event) => {
  const form = event.target;
  if (form.matches("[data-filters]")) { leaveOutEmpty(form); return; }
  if (!form.matches("[data-sheet-form]")) return;
  event.preventDefault();
  const button = $("[data-submit]", form);
  button.disabled = true;
  const { answer, text } = await piece(form.action, { method: "POST", body: new URLSearchParams(new FormData(form)) });
  if (answer.redirected) { location.assign(answer.url); return; }
  button.disabled = false;
  fill(text);
});
function leaveOutEmpty(form) {
  for (const field of form.elements) if (field.name && !field.value) field.disabled = true;
  setTimeout(() => { for (const field of form.elements) field.disabled = false; });
}

async function assignToMe() {
  const row = current();
  if (!row || !queue.dataset.bulkUrl) return false;
  const { answer, text } = await piece(`${queue.dataset.list}assign/${row.dataset.id}/`, { method: "POST", headers: { "X-CSRFToken": token() } });
  if (!answer.ok) { toast(text.length < 200 ? text : "This did not work. Try again."); return true; }
  const fresh = $("tr", parsed(`<table>${text}</table>`));
  row.replaceWith(fresh);
  mark(fresh);
  showPicked();
  toast(`${fresh.dataset.case} is yours.`);
  if (queue.dataset.preview === "on") { previewed = ""; preview(); }
  return true;
}
register({ key: "a", label: "Assign to me", scope: "List", when: () => Boolean(current()) && Boolean(queue.dataset.bulkUrl), act: () => {
  if (picked.size || everything) bulk("assign"); else assignToMe();
} });

document.addEventListener("click", (event) => {
  const at = (selector) => event.target.closest(selector);
  const sheeted = at("[data-sheet]");
  if (sheeted && !event.ctrlKey && !event.metaKey) { event.preventDefault(); openSheet(sheeted.href ?? sheeted.dataset.sheet); return; }
  if (at("dialog a[data-close]")) event.preventDefault();
  if (at("[data-act]")) bulk(at("[data-act]").dataset.act);
  if (at("[data-pick-all]")) pickEverything();
  if (at("[data-pick-none]")) pickNone();
  if (at("[data-assign-me]")) assignToMe();
  if (at("[data-preview-close]")) { setPreview(false); toggle.focus(); }
  const row = at("[data-rows] tbody tr");
  if (row && !at("a, button, input, label") && !getSelection().toString()) { mark(row); if (queue.dataset.preview === "on") preview(); else setPreview(true); }
});

// --- new rows -----------------------------------------------------------------------------------------------------------
const banner = $("[data-testid=live-banner]");
const words = $("[data-fresh-words]");
let waiting = [];    // alerts since the rows were made: { lane, seq, severity }

function show() {
  const urgent = waiting.filter((alert) => alert.severity === 1).length;
  const told = `${waiting.length} new${urgent ? `, ${urgent} of them P1` : ""}`;
  if (words.textContent !== told) words.textContent = told;
  banner.hidden = waiting.length === 0;
}
const soon = pace(show, 1000);   // a banner that is read aloud speaks at most once a second
document.addEventListener("desk:message", (event) => {
  const message = event.detail;
  if (message.type === "skipped") { waiting.push({}); soon(); return; }
  if (message.type !== "alerts" || !message.alerts.length) return;
  waiting.push(...message.alerts.map(({ seq, severity }) => ({ lane: message.lane, seq, severity })));
  soon(message.alerts.length);
});

// R: the rows as they are now. What arrives while they come stays announced; the current row and the selection stay.
async function refresh() {
  const url = new URL(location.href);
  url.searchParams.delete("after");
  if (![...url.searchParams].length) url.searchParams.set("sort", "priority");
  banner.disabled = true;
  try {
    const { answer, text } = await piece(url);
    if (!answer.ok) throw new TypeError(answer.statusText);
    swap(parsed(text));
    history.replaceState(null, "", url);
    remember();
  } catch {
    toast("The rows did not load. Try again.");
  }
  banner.disabled = false;
}
function swap(fresh) {
  const before = new Set(rows().map((row) => row.dataset.case));
  const here = current()?.dataset.case;
  const focused = document.activeElement === banner;
  for (const part of $$("[data-part]", fresh)) $(`[data-part=${part.dataset.part}]`).replaceWith(part);
  rows().forEach((row) => row.classList.toggle("is-fresh", !before.has(row.dataset.case)));
  mark(rows().find((row) => row.dataset.case === here) ?? rows()[0]);
  const seen = JSON.parse($("#queue-follow").textContent).after;
  waiting = waiting.filter(({ lane, seq }) => seq > (seen[lane] ?? -1));
  show();
  showPicked();
  if (focused) $(".d-list-body")?.focus();
  say(`${rows().length} cases shown`);
}
banner.addEventListener("click", refresh);

document.addEventListener("desk:state", (event) => {
  const off = event.detail.state === "off";
  $("[data-offline]").hidden = !off;
  if (off) $("[data-offline-since]").textContent = new Date(event.detail.since).toLocaleTimeString([], { hour12: false });
});

// How many cases each view shows, once the page stands.
async function count() {
  const answer = await fetch(queue.dataset.counts, { headers: PIECE });
  if (!answer.ok) return;
  const counts = await answer.json();
  for (const place of $$("[data-count]")) {
    place.textContent = counts[place.dataset.count] ?? "";
    place.classList.toggle("d-count--late", place.dataset.count === "Late" && place.textContent !== "0");
  }
}
count().catch(() => {});

document.dispatchEvent(new CustomEvent("desk:follow", { detail: JSON.parse($("#queue-follow").textContent) }));
