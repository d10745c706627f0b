// What a figure means: a .d-tip shows its words on hover, on focus and on a press. Escape hides them, the pointer may move
// onto them, and they stay until it leaves (WCAG 1.4.13). Without this file the browser shows the title.
const GAP = 6;
const LINGER = 120;      // milli-seconds for the way from the sign to its words
const SIGN = ".d-tip";
const box = Object.assign(document.createElement("div"), { className: "d-tipbox", popover: "manual" });
box.setAttribute("aria-hidden", "true");   // the sign's own name says the same
let shown = null;
let leaving = 0;

function words(sign) {
  if (sign.title) { sign.dataset.tip = sign.title; sign.removeAttribute("title"); }
  return sign.dataset.tip ?? "";
}
function place(sign) {
  const at = sign.getBoundingClientRect();
  const room = document.documentElement.clientWidth - box.offsetWidth - GAP;
  const below = at.bottom + GAP + box.offsetHeight < innerHeight;
  box.style.left = `${Math.max(GAP, Math.min(at.left + at.width / 2 - box.offsetWidth / 2, room))}px`;
  box.style.top = `${below ? at.bottom + GAP : at.top - box.offsetHeight - GAP}px`;
}
function show(sign) {
  clearTimeout(leaving);
  if (sign === shown) return;
  shown = sign;
  box.textContent = words(sign);
  if (!box.isConnected) document.body.append(box);
  if (!box.matches(":popover-open")) box.showPopover();
  place(sign);
}
function hide() {
  clearTimeout(leaving);
  shown = null;
  if (box.matches(":popover-open")) box.hidePopover();
}
const signOf = (event) => event.target.closest?.(SIGN);

document.addEventListener("pointerover", (event) => {
  const sign = signOf(event);
  if (sign) show(sign);
  else if (event.target === box) clearTimeout(leaving);
  else if (shown && shown !== document.activeElement) { clearTimeout(leaving); leaving = setTimeout(hide, LINGER); }
});
document.addEventListener("focusin", (event) => { if (signOf(event)) show(signOf(event)); else if (shown) hide(); });
document.addEventListener("focusout", (event) => { if (signOf(event)) hide(); });
document.addEventListener("click", (event) => { if (signOf(event)) show(signOf(event)); });
document.addEventListener("keydown", (event) => { if (event.key === "Escape" && shown) { hide(); event.stopPropagation(); } }, true);
addEventListener("scroll", hide, { passive: true, capture: true });
