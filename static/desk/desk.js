// What every page of the desk can do. Each part is a module of its own; a page imports what it wants to steer.
import "./copy.js";
import "./dialog.js";
import { describe, press, register } from "./keys.js";
import { startLive } from "./live.js";
import "./help.js";
import "./menus.js";
import "./palette.js";
import { preferences } from "./preferences.js";
import "./session.js";
import "./tabs.js";
import "./theme-switch.js";
import "./times.js";
import "./tips.js";
import "./undo.js";

const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];

// The browser's time zone, for the next page of somebody who chose none.
const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
if (zone) document.cookie = `desk_zone=${zone}; path=/; max-age=31536000; samesite=lax`;

document.addEventListener("click", (event) => {
  const hide = event.target.closest("[data-dismiss]");
  if (hide) hide.closest(".d-notice").remove();
});

// J and K walk the rows of a table, or the lines of a list, with data-rows; Enter and O open the row's first link.
const visible = (part) => part.checkVisibility?.() ?? part.offsetParent !== null;
const rows = () => $$("[data-rows] tbody tr, [data-rows] [data-row]").filter(visible);
function walk(step) {
  const list = rows();
  if (!list.length) return false;
  const now = list.findIndex((row) => row.classList.contains("is-current"));
  const next = list[Math.max(0, Math.min(list.length - 1, now + step))];
  list[now]?.classList.remove("is-current");
  next.classList.add("is-current");
  next.scrollIntoView({ block: "nearest" });
  next.dispatchEvent(new CustomEvent("desk:row", { bubbles: true }));
  return true;
}
function openRow() {
  const link = $("[data-rows] .is-current a[href]");
  link?.click();
  return Boolean(link);
}
const any = () => rows().length > 0;
const open = () => Boolean($("[data-rows] .is-current a[href]"));
register({ key: "j", label: "Next row or event", scope: "List", act: () => walk(1), when: any });
register({ key: "k", label: "Previous row or event", scope: "List", act: () => walk(-1), when: any });
register({ key: "Enter", label: "Open the row", scope: "List", act: openRow, when: open });
register({ key: "o", label: "Open the row", scope: "List", act: openRow, when: open });

// G and then a letter: the pages of the rail.
for (const link of $$("[data-go]")) {
  register({ key: `g ${link.dataset.go}`, label: link.title, scope: "Go to", act: () => link.click() });
}
describe({ keys: ["Ctrl", "K"], label: "Commands: pages, cases, customers, acts" });
describe({ keys: ["Ctrl", "Enter"], label: "Submit a dialog" });
describe({ keys: ["Esc"], label: "Close a dialog or menu" });

document.documentElement.classList.add("js");
if (preferences.motion === "reduced") document.documentElement.dataset.motion = "reduced";
document.addEventListener("desk:press", (event) => press(event.detail));
startLive();
