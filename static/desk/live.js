// One socket a page: it keeps the connection badge, and hands alerts to the page that follows them.
//
// A page asks:   document.dispatchEvent(new CustomEvent("desk:follow", { detail: { after: {"1": 1207}, samples: true } }))
// and hears:     "desk:message" (detail: the message), "desk:state" (detail: { state, since }).
// `after` holds for each lane the last alert the page shows; the socket resumes there, so nothing is lost or doubled.
// A page that does not follow hears only that there are new alerts: a message "alerts" with an empty list.

const SILENCE = 8000;         // heartbeats come every 3 s; after this the line is dead even if nobody closed it
const BACKOFF = [500, 1000, 2000, 4000, 8000];
const WORDS = { connecting: "Connecting", on: "Live", off: "Reconnecting", end: "Signed out", barred: "No access" };
const CLASSES = { on: "d-live--on", off: "d-live--off", end: "d-live--end", barred: "d-live--end" };

let socket = null;
let tries = 0;
let lastHeard = 0;
let retry = 0;
let state = "connecting";
let following = null;
let cursor = {};

function show(next) {
  const changed = next !== state;
  state = next;
  document.querySelectorAll("[data-testid=live-state]").forEach((badge) => {
    badge.classList.remove(...Object.values(CLASSES));
    if (CLASSES[next]) badge.classList.add(CLASSES[next]);
    const words = badge.querySelector("[data-live-words]");
    if (words.textContent !== WORDS[next]) words.textContent = WORDS[next];
  });
  if (changed) document.dispatchEvent(new CustomEvent("desk:state", { detail: { state, since: Date.now() } }));
}

export function signInNotice() {
  if (document.querySelector("[data-testid=sign-in-notice]")) return;
  const notice = Object.assign(document.createElement("div"), { className: "d-notices" });
  const box = Object.assign(document.createElement("div"), { className: "d-notice d-notice--critical" });
  box.dataset.testid = "sign-in-notice";
  box.setAttribute("role", "alert");
  const words = document.createElement("div");
  words.append(Object.assign(document.createElement("b"), { textContent: "You are signed out." }), " What you see here is no longer kept up to date.");
  const link = Object.assign(document.createElement("a"), { className: "d-btn", textContent: "Sign in" });
  link.href = `${document.body.dataset.login}?next=${encodeURIComponent(location.pathname + location.search)}`;
  box.append(words, link);
  notice.append(box);
  document.getElementById("content-start").prepend(notice);
}

const address = () => {
  const url = new URL(document.body.dataset.socket, location.href);
  url.protocol = url.protocol.replace("http", "ws");
  if (following) {
    url.searchParams.set("after", Object.entries(cursor).map(([lane, seq]) => `${lane}:${seq}`).join(","));
    if (following.samples) url.searchParams.set("samples", "1");
  }
  return url;
};

// Alerts up to the cursor are known already: a message never reaches the page twice.
function fresh(message) {
  const known = cursor[message.lane] ?? -1;
  const alerts = message.alerts.filter((alert) => alert.seq > known);
  if (alerts.length) cursor[message.lane] = Math.max(...alerts.map((alert) => alert.seq));
  if (message.to > known) cursor[message.lane] = message.to;   // some are not for this person
  return alerts;
}

function hear(message) {
  if (message.type === "alerts") {
    const alerts = fresh(message);
    if (!alerts.length) return;
    message = { ...message, alerts };
  }
  // Alerts of a re-screening stand outside the order: they come once and move no cursor.
  if (message.type === "late") message = { ...message, type: "alerts", late: true };
  if (message.type === "heartbeat" && following) {
    const behind = Object.entries(message.latest).some(([lane, seq]) => seq > (cursor[lane] ?? -1));
    if (behind) socket.send(JSON.stringify({ type: "resume", after: cursor }));
  }
  document.dispatchEvent(new CustomEvent("desk:message", { detail: message }));
  if (message.type === "heartbeat" && !following) announce(message.latest);
}

function announce(latest) {
  for (const [lane, seq] of Object.entries(latest)) {
    const raised = lane in cursor && seq > cursor[lane];
    cursor[lane] = seq;
    if (raised) document.dispatchEvent(new CustomEvent("desk:message", { detail: { type: "alerts", lane: Number(lane), alerts: [] } }));
  }
}

function connect() {
  clearTimeout(retry);
  const mine = socket = new WebSocket(address());
  lastHeard = Date.now();
  mine.addEventListener("message", (event) => {
    if (mine !== socket) return;
    lastHeard = Date.now();
    tries = 0;
    show("on");
    hear(JSON.parse(event.data));
  });
  mine.addEventListener("close", (event) => { if (mine === socket) lost(event.code); });
}

function lost(code) {
  socket = null;
  if (code === 4401) { show("end"); signInNotice(); return; }
  if (code === 4403) { show("barred"); return; }
  show("off");
  const wait = BACKOFF[Math.min(tries, BACKOFF.length - 1)] * (0.75 + Math.random() / 2);
  tries += 1;
  retry = setTimeout(connect, wait);
}

function watch() {
  if (!socket || Date.now() - lastHeard < SILENCE) return;
  const dead = socket;
  lost(1006);
  dead.close();
}

export function startLive() {
  if (!document.body.dataset.socket) return;
  document.addEventListener("desk:follow", (event) => {
    following = event.detail;
    cursor = { ...following.after };
    const dead = socket;
    connect();
    dead?.close();
  });
  addEventListener("online", () => { if (!socket && (state === "off" || state === "connecting")) connect(); });
  addEventListener("pagehide", () => { const dead = socket; socket = null; dead?.close(); });
  addEventListener("pageshow", (event) => { if (event.persisted && !socket && state !== "end") connect(); });
  document.addEventListener("desk:signed-out", () => {
    clearTimeout(retry);
    const dead = socket;
    socket = null;
    dead?.close();
    show("end");
  });
  setInterval(watch, 1000);
  // A page that follows alerts says so in its own script. Module scripts run before this event, so its turn comes first.
  document.addEventListener("DOMContentLoaded", () => { if (!socket) connect(); });
}
