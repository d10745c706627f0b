// The link graph: loads with its libraries when it is first seen, grows by a click, and says the same in a table.
const MOST = 150;
const SHAPES = { customer: "ellipse" };
const LABELLED = 60;  // beyond so many nodes only those that stand out keep their label while it is drawn small

// --- libraries, once for the page, in their order ---------------------------------------------------------------------
let loaded = null;
function libraries(urls) {
  const load = (url) => new Promise((resolve, reject) => {
    const script = Object.assign(document.createElement("script"), { src: url, onload: resolve, onerror: reject });
    document.head.append(script);
  });
  loaded ??= urls.reduce((before, url) => before.then(() => load(url)), Promise.resolve());
  return loaded;
}

// --- looks: the desk's tokens and icons as the canvas needs them ------------------------------------------------------
function colours(box) {
  const probe = document.createElement("span");
  box.append(probe);
  const read = (name) => { probe.style.color = `var(${name})`; return getComputedStyle(probe).color; };
  const names = ["--body-bg", "--body-fg", "--body-quiet-color", "--body-medium-color", "--darkened-bg", "--control-border",
    "--accent-soft", "--link-fg", "--critical", "--critical-soft", "--critical-fg", "--high"];
  const found = Object.fromEntries(names.map((name) => [name.slice(2), read(name)]));
  probe.remove();
  return found;
}

let sprite = null;
async function icons(colour) {
  sprite ??= fetch(document.body.dataset.sprite).then((answer) => answer.text()).then((text) => new DOMParser().parseFromString(text, "image/svg+xml"));
  const symbols = await sprite.catch(() => null);
  const drawn = {};
  for (const name of ["user-round", "wallet", "credit-card", "smartphone", "globe", "store", "landmark"]) {
    const symbol = symbols?.getElementById(name);
    if (!symbol) continue;
    const svg = `<svg xmlns="http://www.w3.org/2000/svg" width="24" height="24" viewBox="0 0 24 24" fill="none" stroke="${colour}" stroke-width="2" stroke-linecap="round" stroke-linejoin="round">${symbol.innerHTML}</svg>`;
    drawn[name] = `data:image/svg+xml;utf8,${encodeURIComponent(svg)}`;
  }
  return drawn;
}

function styles(hue, drawn) {
  const font = getComputedStyle(document.body).fontFamily;
  return [
    { selector: "node", style: {
      shape: (node) => SHAPES[node.data("kind")] ?? "round-rectangle", width: 30, height: 30,
      "background-color": hue["body-bg"], "border-color": hue["control-border"], "border-width": 1.5,
      "background-image": (node) => drawn[node.data("icon")] ?? "none", "background-width": 15, "background-height": 15,
      label: (node) => node.data("text"), "text-wrap": "wrap", "text-valign": "bottom", "text-margin-y": 5, "line-height": 1.2,
      "font-family": font, "font-size": 11, color: hue["body-fg"], "text-outline-color": hue["darkened-bg"], "text-outline-width": 2.5,
      "min-zoomed-font-size": 8,
    } },
    { selector: "edge", style: { width: 1.2, "line-color": hue["control-border"], "curve-style": "straight", opacity: 0.75 } },
    { selector: "node[?start]", style: { "background-color": hue["accent-soft"], "border-color": hue["link-fg"], "border-width": 2 } },
    { selector: "node[?listed], node[?fraud]", style: {
      shape: "diamond", width: 42, height: 42, "background-color": hue["critical-soft"], "border-color": hue.critical, "border-width": 2, "font-weight": 600, "z-index": 2,
    } },
    { selector: "edge.hot", style: { width: 2, "line-color": hue.critical, opacity: 1 } },
    { selector: "node.chosen", style: { "border-width": 3.5, "border-color": hue["link-fg"] } },
    { selector: "node.plain", style: { "min-zoomed-font-size": 11 } },
  ];
}

// --- the picture ------------------------------------------------------------------------------------------------------
export function layout(cy, fixed) {
  const known = [...fixed];
  return {
    name: "fcose", quality: "default", animate: false, randomize: !known.length, fit: true, padding: 28, nodeDimensionsIncludeLabels: cy.nodes().length <= LABELLED,
    nodeSeparation: 90, idealEdgeLength: () => 85, nodeRepulsion: () => 7500, numIter: cy.nodes().length > 80 ? 1200 : 2500,
    fixedNodeConstraint: known.map((node) => ({ nodeId: node.id(), position: { ...node.position() } })),
  };
}

export function elements(data) {
  const fraud = new Set(data.nodes.filter((node) => node.fraud || node.listed).map((node) => node.id));
  const text = (node) => [node.label, ...node.marks.slice(0, 2), ...(node.more ? [`${node.more} more`] : [])].join("\n");
  return [
    ...data.nodes.map((node) => ({ group: "nodes", data: { ...node, text: text(node) } })),
    ...data.edges.map((edge) => ({
      group: "edges", data: { id: `${edge.source}~${edge.target}`, ...edge }, classes: fraud.has(edge.source) && fraud.has(edge.target) ? "hot" : "",
    })),
  ];
}

// Draws the data into an element; the libraries are there. Gives the graph and how long the layout took.
export async function draw(box, data) {
  const hue = colours(box);
  const drawn = await icons(hue["body-medium-color"]);
  const cy = window.cytoscape({
    container: box, elements: elements(data), style: styles(hue, drawn), minZoom: 0.2, maxZoom: 2.5, boxSelectionEnabled: false,
    layout: { name: "circle" }, userZoomingEnabled: false,
  });
  const began = performance.now();
  await settle(cy, []);
  return { cy, took: performance.now() - began };
}

function settle(cy, fixed) {
  quiet(cy);
  return new Promise((resolve) => {
    const run = cy.layout(layout(cy, fixed));
    run.one("layoutstop", resolve);
    run.run();
  }).then(() => { if (cy.zoom() > 1.25) { cy.zoom(1.25); cy.center(); } });
}

function quiet(cy) {
  const many = cy.nodes().length > LABELLED;
  cy.nodes().forEach((node) => { node.toggleClass("plain", many && !node.data("fraud") && !node.data("listed") && !node.data("start")); });
}

// --- the box on the page: picture, table, and what adds to both --------------------------------------------------------
class Links {
  constructor(box) {
    this.box = box;
    this.data = { nodes: [], edges: [], more: 0, most: MOST };
    this.expanded = new Set();
    this.$ = (name) => box.querySelector(`[data-${name}]`);
    this.$("expand").addEventListener("click", () => this.expand(this.$("node").value));
    this.$("node").addEventListener("change", () => this.choose(this.$("node").value));
    for (const button of box.querySelectorAll("[data-as]")) button.addEventListener("click", () => this.show(button.dataset.as));
  }

  say(words) { this.$("say").textContent = words; }

  async start() {
    const began = performance.now();
    try {
      const [answer] = await Promise.all([this.ask(this.box.dataset.url), libraries(this.box.dataset.libs.split(" "))]);
      this.take(answer);
      const { cy, took } = await draw(this.$("picture"), this.data);
      this.cy = cy;
      this.box.dataset.laidOutMs = Math.round(took);
      this.box.dataset.shownMs = Math.round(performance.now() - began);
      this.listen();
      this.tell();
    } catch {
      this.say("The links could not be loaded.");
      this.box.dataset.failed = "yes";
    }
  }

  async ask(url) {
    const answer = await fetch(url, { headers: { "X-Requested-With": "desk" } });
    if (!answer.ok) throw new Error(String(answer.status));
    return answer.json();
  }

  // Take new nodes up to the cap, and the edges between nodes that are in. What did not fit is counted.
  take(answer) {
    const known = new Set(this.data.nodes.map((node) => node.id));
    let left = 0;
    for (const node of answer.nodes) {
      if (known.has(node.id)) continue;
      if (known.size >= MOST) { left += 1; continue; }
      known.add(node.id);
      this.data.nodes.push({ ...node, start: node.start && !this.cy });
    }
    const tied = new Set(this.data.edges.map((edge) => `${edge.source}~${edge.target}`));
    for (const edge of answer.edges) {
      if (!tied.has(`${edge.source}~${edge.target}`) && known.has(edge.source) && known.has(edge.target)) this.data.edges.push(edge);
    }
    this.data.more += (this.cy ? 0 : answer.more) + left;
  }

  async expand(id) {
    const node = this.data.nodes.find((each) => each.id === id);
    if (!node || this.expanded.has(id) || this.busy) return;
    this.busy = true;
    this.say(`${node.label} is expanded…`);
    try {
      const answer = await this.ask(node.expand);
      this.expanded.add(id);
      const before = this.data.nodes.length;
      this.take(answer);
      this.data.more -= Math.min(this.data.more, node.more);
      node.more = Math.max(0, answer.nodes.find((each) => each.id === id)?.more ?? 0);
      this.data.more += node.more;
      if (this.cy) await this.grow(id);
      this.tell(this.data.nodes.length - before);
      this.choose(id);
    } catch {
      this.say("It could not be expanded. Try again.");
    } finally { this.busy = false; }
  }

  // New nodes begin beside the one that was expanded; those that stood stay where they are.
  async grow(id) {
    const old = this.cy.nodes().toArray();
    const place = this.cy.getElementById(id).position();
    const fresh = elements(this.data).filter((each) => !this.cy.getElementById(each.data.id).length);
    fresh.filter((each) => each.group === "nodes").forEach((each, nth) => {
      each.position = { x: place.x + 60 * Math.cos(nth * 2.4), y: place.y + 60 * Math.sin(nth * 2.4) };
    });
    this.cy.getElementById(id).data("text", elements(this.data).find((each) => each.data.id === id).data.text);
    this.cy.add(fresh);
    if (fresh.length) await settle(this.cy, old);
    this.grownUnseen ||= this.$("picture").hidden;
  }

  listen() {
    this.cy.on("tap", "node", (event) => {
      const id = event.target.id();
      this.$("node").value = id;
      this.choose(id);
      this.expand(id);
    });
    // The wheel scrolls the page; with Ctrl it zooms the picture.
    this.$("picture").addEventListener("wheel", (event) => this.cy.userZoomingEnabled(event.ctrlKey), { capture: true, passive: true });
    const redraw = async () => this.cy.style(styles(colours(this.box), await icons(colours(this.box)["body-medium-color"])));
    new MutationObserver(redraw).observe(document.documentElement, { attributeFilter: ["data-theme"] });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
    new ResizeObserver(() => { this.cy.resize(); }).observe(this.$("picture"));
  }

  tell(added = null) {
    const { nodes, edges, more } = this.data;
    const cut = more ? `, ${more.toLocaleString("en")} more` : "";
    const news = added === null ? "" : added ? `${added} added. ` : "Nothing new. ";
    this.say(`${news}${nodes.length} entities, ${edges.length} links${cut}`);
    this.$("picture").setAttribute("aria-label", this.words());
    this.list();
    this.table();
    this.box.dataset.ready = "yes";
  }

  words() {
    const bad = this.data.nodes.filter((node) => node.fraud || node.listed);
    const marked = bad.slice(0, 3).map((node) => `${node.title} ${node.label}: ${node.marks.join(", ")}`).join("; ");
    return `${this.data.nodes.length} entities and ${this.data.edges.length} links. ${marked || "None is confirmed fraud"}. The button “Table” shows the same as a table.`;
  }

  list() {
    const select = this.$("node");
    const kept = select.value;
    const open = this.data.nodes.filter((node) => !this.expanded.has(node.id));
    select.replaceChildren(...open.map((node) => new Option(`${node.title} ${node.label}${node.more ? `, ${node.more} more` : ""}`, node.id)));
    if (open.some((node) => node.id === kept)) select.value = kept;
    this.$("expand").disabled = !open.length;
  }

  table() {
    const nodes = new Map(this.data.nodes.map((node) => [node.id, node]));
    const row = (edge) => {
      const line = document.createElement("tr");
      const cell = (tag, ...parts) => { const made = document.createElement(tag); made.append(...parts); line.append(made); return made; };
      cell("th", ...this.naming(nodes.get(edge.source))).scope = "row";
      cell("td", edge.relation);
      cell("td", ...this.naming(nodes.get(edge.target)));
      cell("td", edge.since);
      return line;
    };
    this.$("table").querySelector("tbody").replaceChildren(...this.data.edges.map(row));
  }

  naming(node) {
    const link = Object.assign(document.createElement("a"), { href: node.url, textContent: node.label });
    const kind = Object.assign(document.createElement("span"), { className: "d-quiet", textContent: ` ${node.title}` });
    if (!node.marks.length) return [link, kind];
    const marks = Object.assign(document.createElement("span"), { className: node.fraud || node.listed ? "c-mark" : "d-quiet", textContent: `, ${node.marks.join(", ")}` });
    return [link, kind, marks];
  }

  choose(id) {
    const node = this.data.nodes.find((each) => each.id === id);
    this.cy?.nodes().forEach((each) => { each.toggleClass("chosen", each.id() === id); });
    const line = this.$("chosen");
    line.hidden = !node;
    if (!node) return;
    const words = Object.assign(document.createElement("span"), { className: "d-quiet", textContent: node.hint });
    const open = Object.assign(document.createElement("a"), { className: "d-btn d-btn--s", href: node.url, textContent: "Open its page" });
    line.replaceChildren(...this.naming(node), words, open);
  }

  show(as) {
    for (const button of this.box.querySelectorAll("[data-as]")) button.setAttribute("aria-pressed", String(button.dataset.as === as));
    this.$("table").hidden = as !== "table";
    this.$("picture").hidden = this.$("legend").hidden = as === "table";
    if (as !== "picture" || !this.cy) return;
    this.cy.resize();
    if (this.grownUnseen) this.cy.fit(undefined, 28);  // what grew while the table was shown had no room to fit into
    this.grownUnseen = false;
  }
}

// --- lazily: the box starts when it is first seen ---------------------------------------------------------------------
const watch = new IntersectionObserver((seen) => {
  for (const { target, isIntersecting } of seen) {
    if (!isIntersecting || !target.checkVisibility()) continue;
    watch.unobserve(target);
    new Links(target).start();
  }
});
for (const box of document.querySelectorAll("[data-graph]")) watch.observe(box);
