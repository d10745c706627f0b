// Comfort on the case page: the lease renews while the page is used, others are seen, reasons light the facts they read,
// the timeline is filtered and grows in place. Without this file every part is a link or a form.
const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
const page = $("[data-case-page]");
const token = () => $("input[name=csrfmiddlewaretoken]")?.value ?? "";
const post = (url, fields, more = {}) => fetch(url, {
  method: "POST", headers: { "X-CSRFToken": token() }, body: new URLSearchParams(fields), redirect: "error", ...more,
});

// A piece of the page, as the server writes it for scripts.
async function piece(url) {
  const answer = await fetch(url, { headers: { "X-Requested-With": "desk" } });
  if (!answer.ok) throw new Error(String(answer.status));
  return answer.text();
}

// --- lease: a ring that runs down, renewed each minute if the person did something since --------------------------------
const lease = $("[data-lease]");
let used = false;
for (const kind of ["pointerdown", "keydown", "wheel", "input"]) addEventListener(kind, () => { used = true; }, { passive: true });

function clock(seconds) {
  return `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;
}

function startLease() {
  const whole = Number(lease.dataset.leaseWhole);
  let ends = performance.now() + Number(lease.dataset.lease) * 1000;
  const left = $("[data-lease-left]");
  const ring = $("[data-lease-ring]");

  function lapse() {
    clearInterval(ticking);
    clearInterval(renewing);
    $("[data-when-lapsed]").hidden = false;
    lease.hidden = true;
    for (const part of $$(".d-decide [data-open], [data-submit], [data-testid=release]")) {
      part.disabled = true;
      part.setAttribute("aria-disabled", "true");
    }
  }
  function tick() {
    const seconds = Math.max(0, (ends - performance.now()) / 1000);
    left.textContent = clock(seconds);
    ring.setAttribute("stroke-dasharray", `${(56.5 * seconds) / whole} 56.5`);
    lease.classList.toggle("d-lease--short", seconds < 120);
    if (!seconds) lapse();
  }
  async function renew() {
    used = false;
    let answer;
    try { answer = await post(page.dataset.leaseUrl, {}); } catch { return; }  // the line is down; the next try renews
    if (answer.status === 409) { lapse(); return; }
    if (!answer.ok) return;
    ends = performance.now() + (await answer.json()).seconds * 1000;
    tick();
  }
  const ticking = setInterval(tick, 1000);
  const renewing = setInterval(() => { if (used && !document.hidden) renew(); }, 60000);
  $("[data-lease-extend]")?.addEventListener("click", renew);
  tick();
}
if (lease && page.dataset.leaseUrl) startLease();

// --- presence: who else looks, and what changed meanwhile. Looking is not using: it renews nothing. ----------------------
const watchers = $("[data-presence]");
const EACH = 15000;
let asking = 0;

function avatar(person) {
  const ring = Object.assign(document.createElement("span"), { className: "d-avatar", title: `${person.name} is looking` });
  const short = Object.assign(document.createElement("span"), { textContent: person.initials });
  short.setAttribute("aria-hidden", "true");
  ring.append(short, Object.assign(document.createElement("span"), { className: "d-sr", textContent: `${person.name} is looking` }));
  return ring;
}
function showPeople(people) {
  const now = people.map((person) => person.id).join();
  if (watchers.dataset.now === now) return;   // said once, not every few seconds
  watchers.dataset.now = now;
  watchers.replaceChildren(...people.map(avatar));
}
function words(change) {
  const values = change.yours || change.theirs ? `yours ${change.yours || "nothing"}, theirs ${change.theirs || "nothing"}` : change.act;
  return `${change.field === change.act ? "" : `${change.field}: `}${values}, by ${change.by}.`;
}
function compare(told) {
  if (String(told.version) === page.dataset.version) return;
  const notice = $("[data-when-more]");
  if (told.changes.length) $("[data-changes]", notice).textContent = told.changes.map(words).join(" ");
  notice.hidden = false;
}
async function look() {
  if (document.hidden) return;
  try {
    const answer = await post(watchers.dataset.presenceUrl, { version: page.dataset.version });
    if (!answer.ok) return;
    const told = await answer.json();
    showPeople(told.people);
    compare(told);
  } catch { /* the line is down; the next look tells */ }
}
if (watchers && token()) {
  setInterval(look, EACH);
  document.addEventListener("visibilitychange", look);
  addEventListener("pagehide", () => { post(watchers.dataset.presenceUrl, { leave: 1 }, { keepalive: true }).catch(() => {}); });
  look();
  // An alert somewhere may be one of this case, once it has joined: look soon, but not for each of many.
  document.addEventListener("desk:message", (event) => {
    if (event.detail.type !== "alerts" || asking) return;
    asking = setTimeout(() => { asking = 0; look(); }, 5000);
  });
}

// --- reasons light the facts they read ----------------------------------------------------------------------------------
const facts = $$("[data-fact]");
let lit = null;
function light(reason) {
  if (reason === lit) return;
  lit?.classList.remove("is-lit");
  lit = reason;
  lit?.classList.add("is-lit");
  const read = new Set(reason?.dataset.lights.split(" "));
  for (const fact of facts) fact.classList.toggle("is-lit", read.has(fact.dataset.fact));
}
const why = $("[data-testid=reason-list]");
if (why) {
  const at = (event) => event.target.closest("[data-lights]");
  const back = () => { const focused = document.activeElement?.closest("[data-lights]"); light(focused ?? null); };
  why.addEventListener("pointerover", (event) => light(at(event) ?? document.activeElement?.closest("[data-lights]") ?? null));
  why.addEventListener("pointerleave", back);
  why.addEventListener("focusin", (event) => light(at(event)));
  why.addEventListener("focusout", () => light(null));
}

// --- hits only, or all rules evaluated: these are fetched when first asked for --------------------------------------------
for (const button of $$("[data-rules]")) {
  button.addEventListener("click", async () => {
    const all = button.dataset.rules === "all";
    const panel = $("[data-rules-all]");
    if (all && !panel.childElementCount) {
      button.setAttribute("aria-busy", "true");
      try {
        panel.replaceChildren(...new DOMParser().parseFromString(await piece(button.dataset.url), "text/html").body.children);
      } catch {
        panel.replaceChildren(Object.assign(document.createElement("p"), { className: "c-none", textContent: "The rules could not be read. Try again." }));
        setTimeout(() => panel.replaceChildren(), 5000);
      }
      button.removeAttribute("aria-busy");
    }
    panel.hidden = !all;
    $("[data-rules-hits]").hidden = all;
    for (const other of $$("[data-rules]")) other.setAttribute("aria-pressed", other === button);
  });
}

// --- lists that grow: older lines of the timeline, older alerts -----------------------------------------------------------
document.addEventListener("click", async (event) => {
  const link = event.target.closest("[data-older] a");
  if (!link || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  const holder = link.closest("[data-older]");
  const kind = holder.parentElement.tagName;
  let text;
  try { text = await piece(link.href); } catch { location.assign(link.href); return; }
  const wrapped = kind === "TBODY" ? `<table><tbody>${text}</tbody></table>` : `<ol>${text}</ol>`;
  holder.replaceWith(...$(kind, new DOMParser().parseFromString(wrapped, "text/html")).children);
});

// --- the timeline by kind -------------------------------------------------------------------------------------------------
const timeline = $("[data-testid=timeline]");
timeline?.addEventListener("click", async (event) => {
  const link = event.target.closest("[data-show]");
  if (!link || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  const list = $(".d-timeline", timeline);
  list.setAttribute("aria-busy", "true");
  try {
    const read = new DOMParser().parseFromString(`<ol>${await piece(link.dataset.url)}</ol>`, "text/html");
    list.replaceChildren(...$("ol", read).children);
  } catch { location.assign(link.href); return; }
  list.removeAttribute("aria-busy");
  for (const other of $$("[data-show]", timeline)) {
    other.classList.toggle("d-btn--bare", other !== link);
    if (other === link) other.setAttribute("aria-current", "true"); else other.removeAttribute("aria-current");
  }
  history.replaceState(history.state, "", link.href);
});

// --- back to the list as it was left, filters and place ---------------------------------------------------------------------
const back = $("[data-case-page] [aria-keyshortcuts~=U], [data-case-page] [data-key~=U]");
if (back) {
  const from = document.referrer ? new URL(document.referrer) : null;
  const list = new URL(back.href);
  if (from && from.origin === list.origin && from.pathname === list.pathname) sessionStorage.setItem("desk-list", from.search);
  const kept = sessionStorage.getItem("desk-list");
  if (kept && !kept.includes("none=")) back.href = list.pathname + kept;
}
