// The preferences page: the theme is shown as it is chosen, and keys can be set back to what they were delivered as.
import { setTheme } from "./theme-switch.js";

const form = document.querySelector("[data-preferences-form]");
form.addEventListener("change", (event) => { if (event.target.name === "theme") setTheme(event.target.value); });
form.querySelector("[data-keys-reset]").addEventListener("click", () => {
  for (const field of form.querySelectorAll("[data-default]")) field.value = field.dataset.default;
});
for (const field of form.querySelectorAll("[data-default]")) field.addEventListener("focus", () => field.select());
