// Warns before the session ends and lets the reader stay (WCAG 2.2.1); says so when it has ended.
import { open } from "./dialog.js";
import { signInNotice } from "./live.js";
import { token } from "./preferences.js";

const WARN = 120;        // seconds before the end
const dialog = document.getElementById("session-warning");
const kept = "desk-session-ends";
const shared = { get: () => { try { return Number(localStorage.getItem(kept)); } catch { return 0; } }, set: (at) => { try { localStorage.setItem(kept, at); } catch { /* barred */ } } };
let ends = 0;

function start() {
  ends = Date.now() + Number(document.body.dataset.sessionLeft) * 1000;
  shared.set(ends);
  const ticking = setInterval(() => {
    ends = Math.max(ends, shared.get());   // another page of the same browser may have stayed
    const left = Math.ceil((ends - Date.now()) / 1000);
    if (left <= 0) { clearInterval(ticking); over(); return; }
    if (left > WARN) { if (dialog.open) dialog.close(); return; }
    dialog.querySelector("[data-session-left]").textContent = `${Math.floor(left / 60)}:${String(left % 60).padStart(2, "0")}`;
    if (!dialog.open && !dialog.dataset.later) open(dialog);
  }, 1000);
  dialog.querySelector("[data-stay]").addEventListener("click", stay);
  dialog.addEventListener("close", () => { dialog.dataset.later = ends; setTimeout(() => delete dialog.dataset.later, 60000); });
}
function over() {
  dialog.close();
  document.dispatchEvent(new CustomEvent("desk:signed-out"));
  signInNotice();
}
async function stay() {
  try {
    const answer = await fetch(document.body.dataset.stay, { method: "POST", headers: { "X-CSRFToken": token() }, redirect: "error" });
    if (!answer.ok) { over(); return; }
    ends = Date.now() + (await answer.json()).seconds * 1000;
    shared.set(ends);
    dialog.close();
  } catch { dialog.querySelector("[data-stay-failed]").hidden = false; }
}
if (dialog && document.body.dataset.sessionLeft) start();
