// Copy buttons: data-copy="text". The icon turns into a tick, and a listener hears "Copied".
async function copy(button) {
  try { await navigator.clipboard.writeText(button.dataset.copy); } catch { return; }
  const use = button.querySelector("use");
  const before = use?.getAttribute("href");
  use?.setAttribute("href", `${document.body.dataset.sprite}#check`);
  const said = Object.assign(document.createElement("span"), { className: "d-sr", textContent: "Copied" });
  said.setAttribute("role", "status");
  button.after(said);
  setTimeout(() => { if (before) use.setAttribute("href", before); said.remove(); }, 1500);
}
document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-copy]");
  if (button) copy(button);
});
