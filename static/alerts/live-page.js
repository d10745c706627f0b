// The live page: alerts wait behind a banner, the sample of all decisions flows by, nothing moves under the hand.
const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];

const KEEP = 200;          // rows on the page
const FEED = 10;           // payments in the sampled stream
const POINTS = 60;         // points of a spark line
const BADGE = { decline: "d-badge--critical", review: "d-badge--accent", challenge: "d-badge--line" };
const STOPPED = ["decline", "review", "challenge"];

const body = $("[data-alerts]");
const banner = $("[data-banner]");
const pause = $("[data-pause]");
const say = (name) => (name[0].toUpperCase() + name.slice(1)).replaceAll("_", " ");
const clock = (text) => new Date(text).toLocaleTimeString("en-GB", { timeZone: body.dataset.zone || undefined });
const number = (value, digits = 0) => value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
const badge = (part, outcome) => { part.textContent = say(outcome); part.className = `d-badge ${BADGE[outcome] ?? ""}`; };

// Alerts.
let waiting = [];
let paused = false;
let only = "";

function row(alert) {
  const tr = $("#alert-row").content.cloneNode(true).firstElementChild;
  const [at, outcome, score, reason, customer, amount, channel, open] = tr.children;
  tr.dataset.outcome = alert.outcome;
  tr.dataset.alert = alert.id;
  const time = $("time", at);
  time.textContent = clock(alert.raised_at);
  time.dateTime = alert.raised_at;
  time.title = `${alert.raised_at.slice(0, 19).replace("T", " ")} UTC`;
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
  return tr;
}

const filter = () => $$("tr", body).forEach((tr) => { tr.hidden = Boolean(only) && tr.dataset.outcome !== only; });

function showWaiting() {
  if (!waiting.length) return;
  const rows = waiting.slice(-KEEP).reverse().map(row);
  body.prepend(...rows);
  $$("tr", body).slice(KEEP).forEach((tr) => tr.remove());
  waiting = [];
  filter();
  $("[data-none]").hidden = true;
  $("[data-as-of]").textContent = clock(new Date().toISOString());
  showBanner();
}

// The banner is read out, so it changes at most once a second.
let bannerAt = 0;
let bannerTimer = 0;
function showBanner() {
  clearTimeout(bannerTimer);
  const early = waiting.length ? 1000 - (performance.now() - bannerAt) : 0;
  if (early > 0) { bannerTimer = setTimeout(showBanner, early); return; }
  bannerAt = performance.now();
  banner.classList.toggle("d-fresh--none", !waiting.length);
  $("[data-banner-words]", banner).textContent = waiting.length ? `${number(waiting.length)} new` : "";
}

banner.addEventListener("click", showWaiting);
$("[data-outcomes]").addEventListener("click", (event) => {
  const button = event.target.closest("[data-outcome]");
  if (!button) return;
  only = button.dataset.outcome;
  $$("[data-outcome]", event.currentTarget).forEach((other) => other.setAttribute("aria-pressed", other === button));
  filter();
});
pause.addEventListener("click", () => {
  paused = !paused;
  pause.setAttribute("aria-pressed", paused);
  $("use", pause).setAttribute("href", `${document.body.dataset.sprite}#${paused ? "play" : "pause"}`);
  $("span", pause).textContent = paused ? "Resume" : "Pause";
  if (!paused) showBanner();
});

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
  if (paused) return;
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
  $("[data-socket-state]").textContent = state === "on" ? `Live since ${new Date(since).toLocaleTimeString("en-GB")}` : words[state];
}
document.addEventListener("desk:state", (event) => showState(event.detail));
document.addEventListener("desk:message", (event) => {
  const message = event.detail;
  heardAt = Date.now();
  if (message.type === "sample") takeSample(message);
  if (message.type === "skipped") location.reload();
  if (message.type === "alerts") {
    waiting.push(...message.alerts);
    if (!paused) showBanner();
    const hour = $("[data-hour]");
    hour.dataset.hour = Number(hour.dataset.hour) + message.alerts.length;
    hour.textContent = number(Number(hour.dataset.hour));
  }
});
setInterval(() => {
  second();
  if (heardAt) $("[data-last-heard]").textContent = `last event ${number((Date.now() - heardAt) / 1000, 1)} s ago`;
}, 1000);

const after = JSON.parse($("#live-cursor").textContent);
document.dispatchEvent(new CustomEvent("desk:follow", { detail: { after, samples: true } }));
