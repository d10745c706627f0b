// A bar that offers to take the last act back, for as long as the server allows it.
//
// In a page, no script needed:
//   <div class="d-undo" role="status" data-undo="10" data-testid="undo-bar"><span>Closed as fraud.</span>
//     <form method="post" action="…">{% csrf_token %}<button class="d-btn" aria-keyshortcuts="Z">Undo <kbd class="d-key">Z</kbd></button></form></div>
// data-undo is what is left in seconds. From a script: offer({ words, seconds, undo: async () => …, end: () => … }).
// The countdown is drawn, not spoken: only the words are read out, once.
const SVG = "http://www.w3.org/2000/svg";

function ring() {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "d-undo-ring");
  svg.setAttribute("viewBox", "0 0 20 20");
  svg.setAttribute("aria-hidden", "true");
  for (const name of ["d-undo-track", "d-undo-run"]) {
    const circle = document.createElementNS(SVG, "circle");
    circle.setAttribute("class", name);
    for (const [key, value] of [["cx", 10], ["cy", 10], ["r", 8], ["fill", "none"], ["stroke-width", 2.5]]) circle.setAttribute(key, value);
    svg.append(circle);
  }
  return svg;
}

// Runs the countdown of a bar that stands in the page; the bar goes when the time is over.
export function count(bar, end = () => {}) {
  const whole = Number(bar.dataset.undo);
  const ends = performance.now() + whole * 1000;
  const glyph = ring();
  const left = Object.assign(document.createElement("span"), { className: "d-undo-left" });
  left.setAttribute("aria-hidden", "true");
  bar.prepend(glyph, left);
  const tick = () => {
    const seconds = Math.max(0, (ends - performance.now()) / 1000);
    left.textContent = Math.ceil(seconds);
    glyph.lastChild.setAttribute("stroke-dasharray", `${(50.3 * seconds) / whole} 50.3`);
    if (seconds > 0 && bar.isConnected) return;
    clearInterval(ticking);
    bar.remove();
    end();
  };
  const ticking = setInterval(tick, 250);
  tick();
}

// A bar made by a script. `undo` is asked once; what it answers is awaited before the bar goes.
export function offer({ words, seconds = 10, undo, end }) {
  document.querySelectorAll("[data-undo-made]").forEach((old) => old.remove());
  const bar = Object.assign(document.createElement("div"), { className: "d-undo" });
  bar.setAttribute("role", "status");
  Object.assign(bar.dataset, { undo: seconds, undoMade: "", testid: "undo-bar" });
  const button = Object.assign(document.createElement("button"), { type: "button", className: "d-btn" });
  button.setAttribute("aria-keyshortcuts", "Z");
  button.append("Undo ", Object.assign(document.createElement("kbd"), { className: "d-key", textContent: "Z" }));
  button.addEventListener("click", async () => { button.disabled = true; await undo(); bar.remove(); }, { once: true });
  bar.append(Object.assign(document.createElement("span"), { textContent: words }), button);
  document.body.append(bar);
  count(bar, end);
  return bar;
}

// A short word about something that needs no reading later, e.g. that a link was copied. What must be read is a notice.
export function toast(words, seconds = 4) {
  const place = document.querySelector("[data-toasts]") ?? document.body;
  const note = Object.assign(document.createElement("div"), { className: "d-toast", textContent: words });
  note.setAttribute("role", "status");
  place.append(note);
  setTimeout(() => note.remove(), seconds * 1000);
}

document.querySelectorAll("[data-undo]").forEach((bar) => count(bar));
