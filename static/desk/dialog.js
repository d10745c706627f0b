// Dialogs: data-open="id" on a button opens one, data-close or a click beside it closes, Ctrl+Enter submits its main button,
// and without a dialog the form of the page whose button says so.
// The browser keeps the focus inside and gives it back on closing.
export function open(id) {
  const dialog = typeof id === "string" ? document.getElementById(id) : id;
  if (dialog && !dialog.open) {
    dialog.showModal();
    dialog.dispatchEvent(new CustomEvent("desk:opened", { bubbles: true }));
  }
  return dialog;
}

export function close(part) { part.closest("dialog")?.close(); }

document.addEventListener("click", (event) => {
  const opener = event.target.closest("[data-open]");
  if (opener && opener.getAttribute("aria-disabled") !== "true") { close(opener); open(opener.dataset.open); }
  const closer = event.target.closest("[data-close]");
  if (closer) close(closer);
  if (event.target.matches("dialog.d-dialog")) event.target.close();
});

document.addEventListener("keydown", (event) => {
  if (!(event.ctrlKey || event.metaKey) || event.key !== "Enter") return;
  const top = [...document.querySelectorAll("dialog[open]")].at(-1);
  const main = top ? top.querySelector("[data-submit], .d-btn--main, .d-btn--fraud")
    : (event.target.closest?.("form") ?? document).querySelector("main [data-submit]");
  if (main) { event.preventDefault(); main.click(); }
});
