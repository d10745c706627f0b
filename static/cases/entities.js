// The panels of the case page's entities come when their tab is opened, once each.
async function fill(panel) {
  const url = panel.dataset.panel;
  delete panel.dataset.panel;
  try {
    const answer = await fetch(url, { headers: { "X-Requested-With": "desk" } });
    if (!answer.ok) throw new Error(String(answer.status));
    panel.innerHTML = await answer.text();  // our own page's markup, which escapes what it shows
  } catch {
    panel.dataset.panel = url;
    const words = Object.assign(document.createElement("p"), { className: "d-quiet", textContent: "It could not be loaded. Open the tab again." });
    words.setAttribute("role", "alert");
    panel.querySelector(".d-bone, [role=alert]")?.replaceWith(words);
  }
}

const seen = new MutationObserver((changes) => {
  for (const { target } of changes) if (!target.hidden && target.dataset.panel) fill(target);
});
for (const panel of document.querySelectorAll("[data-panel]")) seen.observe(panel, { attributeFilter: ["hidden"] });

// A case about a merchant or a device begins with that one, not with one of its many customers.
document.addEventListener("DOMContentLoaded", () => document.querySelector("[data-first]")?.click());
