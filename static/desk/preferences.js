// How the reader wants the desk; kept on the server, told to every page in one element.
const DEFAULTS = { theme: "system", density: "normal", motion: "system", zone: "UTC", shortcuts: true, keys: {}, sound: false, auto_next: true };
const told = document.getElementById("desk-preferences");

export const preferences = { ...DEFAULTS, ...(told ? JSON.parse(told.textContent) : {}) };

// The token of the page's forms; every signed-in page has one.
export const token = () => document.querySelector("input[name=csrfmiddlewaretoken]")?.value ?? "";

// Keeps some preferences, e.g. save({ theme: "dark" }), and tells the page: "desk:preferences".
export async function save(changes) {
  Object.assign(preferences, changes);
  document.dispatchEvent(new CustomEvent("desk:preferences", { detail: changes }));
  const address = document.body.dataset.preferences;
  if (!address) return false;
  try {
    const answer = await fetch(address, {
      method: "POST",
      headers: { "X-CSRFToken": token(), "Content-Type": "application/json", Accept: "application/json" },
      body: JSON.stringify(changes),
      redirect: "error",
    });
    return answer.ok;
  } catch { return false; }
}

// True where movement should be spared: by the reader's choice here or in the system.
export const still = () => preferences.motion === "reduced" || matchMedia("(prefers-reduced-motion: reduce)").matches;
