// Menus: a button with data-menu opens the part it controls. Escape and a click elsewhere close it; arrows walk its items.
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
const part = (button) => document.getElementById(button.getAttribute("aria-controls"));
const items = (button) => $$("a[href], button", part(button)).filter((item) => item.checkVisibility?.() ?? item.offsetParent !== null);

function toggle(button, on = button.getAttribute("aria-expanded") !== "true") {
  button.setAttribute("aria-expanded", on);
  part(button).hidden = !on;
}
const opened = () => $$("[data-menu][aria-expanded=true]");

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-menu]");
  opened().filter((other) => other !== button && !part(other).contains(event.target)).forEach((other) => toggle(other, false));
  if (button) toggle(button);
});
document.addEventListener("keydown", (event) => {
  const button = opened()[0];
  if (event.key === "Escape" && button) { toggle(button, false); button.focus(); return; }
  const asked = event.target.closest?.("[data-menu]");
  if (asked && event.key === "ArrowDown" && asked !== button) { event.preventDefault(); toggle(asked, true); items(asked)[0]?.focus(); return; }
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!button || !step || !(part(button).contains(event.target) || event.target === button)) return;
  event.preventDefault();
  const all = items(button);
  all[(all.indexOf(document.activeElement) + step + all.length) % all.length]?.focus();
});
// Focus that leaves a menu closes it.
document.addEventListener("focusin", (event) => {
  opened().filter((button) => event.target !== button && !part(button).contains(event.target)).forEach((button) => toggle(button, false));
});
