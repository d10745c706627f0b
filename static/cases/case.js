// Comfort on the case page: the lease renews while the page is used, older lines of the timeline come in place.
const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
const page = $("[data-case-page]");

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
  const token = $("input[name=csrfmiddlewaretoken]").value;

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
    if (!used || document.hidden) return;
    used = false;
    let answer;
    try {
      answer = await fetch(page.dataset.leaseUrl, { method: "POST", headers: { "X-CSRFToken": token }, redirect: "error" });
    } catch { return; }  // the line is down; the next try renews
    if (answer.status === 409) { lapse(); return; }
    if (!answer.ok) return;
    const told = await answer.json();
    ends = performance.now() + told.seconds * 1000;
    compare(told.version);
  }
  function compare(version) {
    if (String(version) !== page.dataset.version) $("[data-when-more]").hidden = false;
  }
  // Looking is not using: it never renews the lease.
  async function look() {
    try {
      const answer = await fetch(page.dataset.leaseUrl, { redirect: "error" });
      if (answer.ok) compare((await answer.json()).version);
    } catch { /* the line is down; the next alert asks again */ }
  }
  const ticking = setInterval(tick, 1000);
  const renewing = setInterval(renew, 60000);
  // An alert somewhere may be one of this case, once it has joined: look soon, but not for each of many.
  let asking = 0;
  document.addEventListener("desk:message", (event) => {
    if (event.detail.type !== "alerts" || asking) return;
    asking = setTimeout(() => { asking = 0; look(); }, 5000);
  });
  tick();
}
if (lease && page.dataset.leaseUrl) startLease();

// --- the timeline: older lines come in place --------------------------------------------------------------------------
$("[data-testid=timeline]")?.addEventListener("click", async (event) => {
  const link = event.target.closest("[data-older] a");
  if (!link || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  const answer = await fetch(link.href, { headers: { "X-Requested-With": "desk" } });
  if (!answer.ok) { location.assign(link.href); return; }
  const holder = link.closest("[data-older]");
  const piece = new DOMParser().parseFromString(`<ol>${await answer.text()}</ol>`, "text/html");
  holder.replaceWith(...$("ol", piece).children);
});
