// The live page: alerts wait behind a banner or stream by themselves, the sample of all decisions flows by.
// However many come, the page changes at most four times a second, in a storm once; nothing is left out or shown twice.
import { clock, fill } from "../desk/times.js";
import { pace } from "../desk/pace.js";
import { preferences, save } from "../desk/preferences.js";

const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];

const KEEP = 200;          // rows on the page; older ones are behind "Older alerts"
const MOST = 5000;         // alerts kept in waiting
const FLOW = 12;           // rows that stream in at a time; of a storm the newest, the rest is counted
const FEED = 10;           // payments in the sampled stream
const POINTS = 60;         // points of a spark line
const BADGE = { decline: "d-badge--critical", review: "d-badge--accent", challenge: "d-badge--line" };
const STOPPED = ["decline", "review", "challenge"];

const body = $("[data-alerts]");
const banner = $("[data-banner]");
const pause = $("[data-pause]");
const streaming = $("[data-stream]");
const wanted = JSON.parse($("#live-filters").textContent);
const say = (name) => (name[0].toUpperCase() + name.slice(1)).replaceAll("_", " ");
const number = (value, digits = 0) => value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
const badge = (part, outcome) => { part.textContent = say(outcome); part.className = `d-badge ${BADGE[outcome] ?? ""}`; };
const glyph = (use, name) => use.setAttribute("href", `${document.body.dataset.sprite}#${name}`);

// Alerts: what was pushed and is not in the table waits, oldest first.
let waiting = [];
let behind = [];           // streamed past: newer ones are in the table already
let paused = false;
let arrived = 0;           // since the page last changed, for the count of the hour
let beyond = 0;            // waited so long that only their number is kept; they are behind "Older alerts"
let known = new Set($$("tr", body).map((tr) => tr.dataset.alert));

function fits(alert) {
  return (!wanted.severity || alert.severity <= wanted.severity) && (!wanted.outcome || alert.outcome === wanted.outcome)
    && (!wanted.channel || alert.channel === wanted.channel) && (!wanted.amount || alert.amount_base >= wanted.amount);
}

function row(alert) {
  const tr = $("#alert-row").content.cloneNode(true).firstElementChild;
  const [at, level, outcome, score, reason, customer, amount, channel, open] = tr.children;
  tr.dataset.alert = alert.id;
  tr.dataset.at = alert.raised_at.replace("Z", "999Z");   // told to the milli-second: "older" must begin at its end
  fill($("time", at), alert.raised_at);
  $(".d-prio", level).classList.add(`d-prio--${alert.severity}`);
  glyph($("use", level), `prio-${alert.severity}`);
  $("b", level).textContent = `P${alert.severity}`;
  badge($("span", outcome), alert.outcome);
  $("b", score).textContent = alert.score < 0 ? "–" : alert.score;
  $("svg", score).setAttribute("aria-label", `${alert.band} score`);
  const bar = $("rect + rect", score);
  bar.setAttribute("class", `d-fill-${alert.band}`);
  bar.setAttribute("width", (Math.min(1000, Math.max(0, alert.score)) * 0.036).toFixed(1));
  reason.textContent = reason.title = alert.reason;
  customer.textContent = alert.customer;
  $("data", amount).textContent = alert.amount.replace("-", "−");
  $("data", amount).value = alert.amount.replaceAll(",", "");
  $(".d-ccy", amount).textContent = alert.currency;
  channel.textContent = say(alert.channel);
  $("a", open).href = `../cases/by-alert/${alert.id}/`;
  $(".d-sr", open).textContent = ` case of ${alert.customer}`;
  return tr;
}

// Rows go in by their time, newest on top; what no longer fits leaves at the foot, where "Older alerts" goes on.
const newestFirst = (a, b) => Date.parse(b.dataset.at) - Date.parse(a.dataset.at) || Number(b.dataset.alert) - Number(a.dataset.alert);
function put(alerts) {
  if (!alerts.length) return;
  const all = [...alerts.slice(-KEEP).map(row), ...$$("tr", body)].sort(newestFirst);
  const more = alerts.length - Math.min(alerts.length, KEEP) + beyond;
  body.replaceChildren(...all.slice(0, KEEP));
  if (all.length > KEEP || more) pointOn(body.lastElementChild.dataset);
  $("[data-more]").hidden = !more;
  $("[data-more]").textContent = `+${number(more)} more than fit here: they are behind “Older alerts”.`;
  $("[data-none]").hidden = true;
  $("[data-as-of]").textContent = clock(Date.now());
}
function pointOn(last) {
  const link = $("[data-older]");
  const url = new URL(location.href);
  url.searchParams.set("before", `${last.at}~${last.alert}`);
  link.href = url.search;
  link.hidden = false;
}

function showAll() {
  if (wanted.older) { location.assign($("[data-newest]").href); return; }
  put([...behind, ...waiting]);
  behind = [];
  waiting = [];
  beyond = 0;
  known = new Set($$("tr", body).map((tr) => tr.dataset.alert));
  draw();
}

// Rows that stream stand still while the reader points at them or works in the table. Of a storm the newest come in,
// the rest stays behind "+n more".
const held = () => body.matches(":hover") || body.contains(document.activeElement);
const flows = () => streaming.getAttribute("aria-pressed") === "true" && !paused && !wanted.older;

function draw() {
  if (paused) return;
  const hour = $("[data-hour]");
  hour.dataset.hour = Number(hour.dataset.hour) + arrived;
  hour.textContent = number(Number(hour.dataset.hour));
  arrived = 0;
  if (flows() && !held() && waiting.length) {
    put(waiting.slice(-FLOW));
    behind.push(...waiting.slice(0, -FLOW));
    waiting = [];
  }
  const left = behind.length + waiting.length + beyond;
  const urgent = [...behind, ...waiting].filter((alert) => alert.severity === 1).length;
  showBanner(!left ? "" : flows() ? `+${number(left)} more` : `${number(left)} new${urgent ? `, ${number(urgent)} of them P1` : ""}`);
}
function showBanner(words) {
  banner.classList.toggle("d-fresh--none", !words);
  if ($("[data-banner-words]", banner).textContent !== words) $("[data-banner-words]", banner).textContent = words;
}
const soon = pace(draw);

function take(message) {
  const fresh = message.alerts.filter((alert) => !known.has(String(alert.id)));
  fresh.forEach((alert) => known.add(String(alert.id)));
  arrived += fresh.length;
  const fitting = fresh.filter(fits);
  waiting.push(...fitting);
  for (const list of [behind, waiting]) if (list.length > MOST) beyond += list.splice(0, list.length - MOST).length;
  if (fitting.some((alert) => alert.severity === 1)) ring();
  if (fresh.length) soon(fresh.length);
}

banner.addEventListener("click", showAll);
pause.addEventListener("click", () => {
  paused = !paused;
  pause.setAttribute("aria-pressed", paused);
  glyph($("use", pause), paused ? "play" : "pause");
  $("span", pause).textContent = paused ? "Resume" : "Pause";
  if (!paused) draw();
});
streaming.addEventListener("click", () => {
  streaming.setAttribute("aria-pressed", !(streaming.getAttribute("aria-pressed") === "true"));
  draw();
});
setInterval(() => { if (flows() && waiting.length && !held()) soon(0); }, 1000);

// Filters: a change loads the page with its address; empty ones stay out of it.
const filters = $("[data-filters]");
filters.addEventListener("change", () => filters.requestSubmit());
filters.addEventListener("submit", () => { for (const field of filters.elements) if (field.name && !field.value) field.disabled = true; });
addEventListener("pageshow", () => { for (const field of filters.elements) field.disabled = false; });

// Sound: off until the reader switches it on; one short tone for urgent alerts, at most every five seconds.
const sound = $("[data-sound]");
let audio = null;
let rangAt = -Infinity;
function ring() {
  if (!preferences.sound || paused || performance.now() - rangAt < 5000) return;
  rangAt = performance.now();
  audio ??= new AudioContext();
  const tone = new OscillatorNode(audio, { frequency: 660, type: "sine" });
  const volume = new GainNode(audio, { gain: 0.08 });
  volume.gain.exponentialRampToValueAtTime(0.0001, audio.currentTime + 0.35);
  tone.connect(volume).connect(audio.destination);
  tone.start();
  tone.stop(audio.currentTime + 0.35);
}
function showSound() {
  sound.setAttribute("aria-pressed", preferences.sound);
  $("span", sound).textContent = preferences.sound ? "Sound on" : "Sound off";
}
sound.addEventListener("click", () => {
  save({ sound: !preferences.sound });
  showSound();
  rangAt = -Infinity;
  ring();
});
showSound();

// The stream of all decisions, and the figures it carries, per lane; the page shows their sum.
const series = { rate: [], p95: [], share: [] };
const lanes = new Map();
let minute = [];
let peak = 0;

function takeSample(sample) {
  const now = performance.now();
  lanes.set(sample.lane, { ...sample, now });
  const stopped = STOPPED.reduce((sum, name) => sum + (sample.outcomes[name] ?? 0), 0);
  minute.push({ now, stopped, decisions: sample.decisions });
  if (!paused) latest = sample;
}

// The stream of payments is drawn with the figures, once a second.
let latest = null;
function showSample() {
  if (!latest || paused) return;
  const sample = latest;
  latest = null;
  const feed = $("[data-feed]");
  $("[data-feed-none]").hidden = true;
  for (const shown of sample.shown) {
    const li = $("#feed-row").content.cloneNode(true).firstElementChild;
    const [customer, amount, outcome] = li.children;
    customer.textContent = shown.customer;
    amount.textContent = `${shown.amount} ${shown.currency}`;
    badge(outcome, shown.outcome);
    feed.prepend(li);
  }
  $$("li", feed).slice(FEED).forEach((li) => li.remove());
  $("[data-sample-note]").textContent = `1 in ${number(Math.max(1, Math.round(sample.decisions / Math.max(1, sample.shown.length))))} shown`;
}

function spark(name) {
  const points = series[name];
  const top = Math.max(...points, 1e-9);
  const line = points.map((value, i) => `${(i / (POINTS - 1) * 100).toFixed(2)} ${(26 - value / top * 24).toFixed(1)}`).join(" L");
  const svg = $(`[data-spark=${name}]`);
  $(".d-line", svg).setAttribute("d", `M${line}`);
  $(".d-area", svg).setAttribute("d", `M${line} L${((points.length - 1) / (POINTS - 1) * 100).toFixed(2)} 28 L0 28 Z`);
}

function second() {
  const now = performance.now();
  const heard = [...lanes.values()].filter((sample) => now - sample.now < 3000);
  minute = minute.filter((entry) => now - entry.now < 60000);
  if (paused || !connected || !lanes.size) return;
  const rate = heard.reduce((sum, sample) => sum + sample.rate, 0);
  const decisions = minute.reduce((sum, entry) => sum + entry.decisions, 0);
  const stopped = minute.reduce((sum, entry) => sum + entry.stopped, 0);
  const share = decisions ? stopped / decisions * 100 : 0;
  peak = Math.max(peak, rate);
  $("[data-rate]").textContent = number(rate, rate < 10 ? 1 : 0);
  $("[data-rate-note]").textContent = `peak ${number(peak, peak < 10 ? 1 : 0)} since the page was opened`;
  $("[data-share]").textContent = number(share, 1);
  $("[data-share-note]").textContent = `${number(stopped)} of ${number(decisions)} in the last minute`;
  const slowest = heard.length ? heard.reduce((a, b) => (a.p95 > b.p95 ? a : b)) : null;
  if (slowest) {
    $("[data-p95]").textContent = number(slowest.p95, slowest.p95 < 10 ? 1 : 0);
    $("[data-p50]").textContent = number(slowest.p50, slowest.p50 < 10 ? 1 : 0);
  }
  for (const [name, value] of [["rate", rate], ["p95", slowest?.p95 ?? 0], ["share", share]]) {
    series[name].push(value);
    if (series[name].length > POINTS) series[name].shift();
    if (series[name].length > 1) spark(name);
  }
}

// Connection.
let heardAt = 0;
let since = null;
let connected = true;      // while the line is down the figures stand still: "last event" says how old they are
function showState({ state, since: at }) {
  connected = state === "on";
  if (!connected) lanes.clear();
  const words = { connecting: "Connecting", on: "Live", off: "Reconnecting", end: "Signed out", barred: "No access" };
  if (state === "on") since = at;
  $("[data-socket-state]").textContent = state === "on" ? `Live since ${clock(since)}` : words[state];
}
document.addEventListener("desk:state", (event) => showState(event.detail));
document.addEventListener("desk:message", (event) => {
  const message = event.detail;
  heardAt = Date.now();
  if (message.type === "sample") takeSample(message);
  if (message.type === "skipped") location.reload();
  if (message.type === "alerts") take(message);
});
setInterval(() => {
  second();
  showSample();
  if (heardAt) $("[data-last-heard]").textContent = `last event ${number((Date.now() - heardAt) / 1000, 1)} s ago`;
}, 1000);

const after = JSON.parse($("#live-cursor").textContent);
document.dispatchEvent(new CustomEvent("desk:follow", { detail: { after, samples: true } }));
