// The lead board: choose rows, all at once, and drag a row onto a person. Without script the form works as it is.
const form = document.querySelector("[data-rebalance]");
if (form) {
  const boxes = () => [...form.querySelectorAll("input[name=case]")];
  const all = form.querySelector("[data-all]");
  const words = form.querySelector("[data-chosen]");
  const target = form.querySelector("select[name=to]");

  const show = () => {
    const chosen = boxes().filter((box) => box.checked).length;
    boxes().forEach((box) => box.closest("tr").setAttribute("aria-selected", box.checked));
    words.textContent = chosen ? `${chosen} case${chosen > 1 ? "s" : ""} chosen` : "Choose cases";
    if (all) { all.checked = chosen > 0 && chosen === boxes().length; all.indeterminate = chosen > 0 && !all.checked; }
  };
  form.addEventListener("change", (event) => {
    if (event.target === all) boxes().forEach((box) => { box.checked = all.checked; });
    show();
  });
  form.addEventListener("submit", (event) => {
    if (boxes().some((box) => box.checked)) return;
    event.preventDefault();
    words.textContent = "Choose at least one case";
    boxes()[0]?.focus();
  });

  // A dropped row only fills in the form: nothing moves before the button is pressed.
  form.addEventListener("dragstart", (event) => {
    const box = event.target.closest?.("tr")?.querySelector("input[name=case]");
    if (!box) return;
    box.checked = true;
    show();
    event.dataTransfer.setData("text/plain", box.value);
    event.dataTransfer.effectAllowed = "move";
  });
  document.querySelectorAll("[data-target]").forEach((row) => {
    const option = [...target.options].find((each) => each.value === row.dataset.target);
    if (!option || option.disabled) return;
    row.addEventListener("dragover", (event) => { event.preventDefault(); row.classList.add("is-target"); });
    row.addEventListener("dragleave", () => row.classList.remove("is-target"));
    row.addEventListener("drop", (event) => {
      event.preventDefault();
      row.classList.remove("is-target");
      target.value = row.dataset.target;
      form.querySelector("button[type=submit]").focus();
    });
  });
  show();
}
