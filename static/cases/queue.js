// The queue: filters apply as they are chosen, and new alerts wait behind a banner until the person asks for them.
const $ = (selector) => document.querySelector(selector);

document.documentElement.classList.add("js");
const filters = $("[data-filters]");
filters.addEventListener("change", () => filters.requestSubmit());
filters.addEventListener("submit", () => {
  for (const field of filters.elements) if (field.name && !field.value) field.disabled = true;
});
addEventListener("pageshow", () => { for (const field of filters.elements) field.disabled = false; });

// The first row is the keyboard's, so that Enter opens the most urgent case at once.
$("[data-rows] tbody tr")?.classList.add("is-current");

const banner = $("[data-testid=live-banner]");
const words = $("[data-fresh-words]");
let fresh = 0;
let urgent = 0;
let shownAt = 0;
let timer = 0;

function show() {
  timer = 0;
  shownAt = performance.now();
  words.textContent = `${fresh} new${urgent ? `, ${urgent} of them P1` : ""}`;
  banner.hidden = false;
}

// However fast alerts come, the banner speaks at most once a second.
function soon() {
  if (!timer) timer = setTimeout(show, Math.max(0, 1000 - (performance.now() - shownAt)));
}

document.addEventListener("desk:message", (event) => {
  const message = event.detail;
  if (message.type === "skipped") { fresh += 1; soon(); return; }
  if (message.type !== "alerts") return;
  fresh += message.alerts.length;
  urgent += message.alerts.filter((alert) => alert.severity === 1).length;
  soon();
});
banner.addEventListener("click", () => location.reload());

document.addEventListener("desk:state", (event) => {
  const off = event.detail.state === "off";
  $("[data-offline]").hidden = !off;
  if (off) $("[data-offline-since]").textContent = new Date(event.detail.since).toLocaleTimeString([], { hour12: false });
});

document.dispatchEvent(new CustomEvent("desk:follow", { detail: JSON.parse($("#queue-follow").textContent) }));
