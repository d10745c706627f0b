// The customers page keeps itself fresh: every 15 seconds the server draws it anew, unless somebody is reading with the
// keyboard inside it or the tab is out of sight. Nothing moves under a hand or a cursor.
const EVERY = 15000;
const page = document.querySelector("[data-dashboard]");
let asked = false;

async function refresh() {
  if (asked) return;
  asked = true;
  try {
    const answer = await fetch(location.href, { headers: { "X-Requested-With": "desk" } });
    if (answer.ok && !answer.redirected) {
      const focused = document.activeElement?.matches("[data-refresh]");
      page.replaceChildren(...new DOMParser().parseFromString(await answer.text(), "text/html").body.childNodes);
      if (focused) page.querySelector("[data-refresh]")?.focus();
    }
  } catch {
    // the network is away: what is shown says how old it is
  } finally {
    asked = false;
  }
}

const isBusy = () => document.hidden || page.matches(":hover") || page.contains(document.activeElement);
page.addEventListener("click", (event) => {
  if (event.target.closest("[data-refresh]")) refresh();
});
setInterval(() => {
  if (!isBusy()) refresh();
}, EVERY);
