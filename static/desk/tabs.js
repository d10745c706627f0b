// Tabs: [role=tablist] with [role=tab aria-controls]; arrows, Home and End move. #id of a panel in the address opens it.
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];

export function showTab(tab) {
  const list = tab.closest("[role=tablist]");
  $$("[role=tab]", list).forEach((other) => {
    other.setAttribute("aria-selected", other === tab);
    other.tabIndex = other === tab ? 0 : -1;
    document.getElementById(other.getAttribute("aria-controls")).hidden = other !== tab;
  });
  const panel = document.getElementById(tab.getAttribute("aria-controls"));
  panel.dispatchEvent(new CustomEvent("desk:tab", { bubbles: true, detail: { panel: panel.id } }));
}

// A place in the address, such as #graph, opens its tab.
function fromAddress() {
  const wanted = location.hash.slice(1);
  const tab = wanted && $$("[role=tab]").find((each) => each.getAttribute("aria-controls") === wanted);
  if (tab) showTab(tab);
}

$$("[role=tablist]").forEach((list) => {
  $$("[role=tab]", list).forEach((tab) => {
    const panel = document.getElementById(tab.getAttribute("aria-controls"));
    tab.id ||= `tab-${panel.id}`;
    if (!panel.hasAttribute("aria-label")) panel.setAttribute("aria-labelledby", tab.id);
  });
  list.addEventListener("click", (event) => { const tab = event.target.closest("[role=tab]"); if (tab) showTab(tab); });
  list.addEventListener("keydown", (event) => {
    const tabs = $$("[role=tab]", list);
    const at = tabs.indexOf(document.activeElement);
    const next = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: tabs.length - 1 }[event.key];
    if (next === undefined || at < 0) return;
    event.preventDefault();
    const tab = tabs[(next + tabs.length) % tabs.length];
    showTab(tab);
    tab.focus();
  });
});
addEventListener("hashchange", fromAddress);
fromAddress();
