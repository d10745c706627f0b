// The theme button: system, light, dark. Before sign-in the choice stays in the browser, afterwards it is the person's.
import { save } from "./preferences.js";

const THEMES = { system: ["monitor", "follows the system"], light: ["sun", "light"], dark: ["moon", "dark"] };
const root = document.documentElement;
export const theme = () => (root.dataset.theme in THEMES ? root.dataset.theme : "system");

function keep(value) {
  try { if (value === "system") localStorage.removeItem("theme"); else localStorage.setItem("theme", value); } catch { /* barred */ }
}
function show() {
  const [icon, words] = THEMES[theme()];
  for (const button of document.querySelectorAll("[data-theme-toggle]")) {
    button.querySelector("use").setAttribute("href", `${document.body.dataset.sprite}#${icon}`);
    button.setAttribute("aria-label", `Theme: ${words}`);
    button.title = `Theme: ${words}`;
  }
}
export function setTheme(next) {
  if (next === "system") delete root.dataset.theme; else root.dataset.theme = next;
  keep(next);
  show();
}
export function nextTheme() {
  const order = Object.keys(THEMES);
  const next = order[(order.indexOf(theme()) + 1) % order.length];
  setTheme(next);
  save({ theme: next });
}
document.addEventListener("click", (event) => { if (event.target.closest("[data-theme-toggle]")) nextTheme(); });
show();
