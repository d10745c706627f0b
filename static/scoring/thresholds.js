// The effect of thresholds on the stored decisions, counted in the browser while a slider is dragged: the same sums as
// scoring/whatif.py, over the histogram in the page (channel → least outcome by rules → [score, payments, fraud, …]).
const { now, histogram, currency_exponent: exponent } = JSON.parse(document.getElementById("thresholds-data").textContent);
const STEPS = ["challenge", "review", "decline"];
const BIN = 20;
const HEIGHT = { top: 34, bottom: 204 };
const ROWS = [9, 21, 33];  // where the thresholds' names may stand: the first row in which one touches no other
const LETTER = 7.5;  // pixels, at most
const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
const form = document.getElementById("thresholds");
const plot = document.getElementById("plot");
const groups = new Map($$("[data-group]").map((group) => [group.dataset.group, group]));
const owns = (name) => name === "default" || $(`[data-own="${name}"]`).checked;

// What the form says now: {segment: {challenge, review, decline}} of the default and of channels with their own.
function proposed() {
  const found = {};
  for (const [name, group] of groups) {
    if (owns(name)) found[name] = Object.fromEntries(STEPS.map((step) => [step, Number($(`[data-number="${step}"]`, group).value)]));
  }
  return found;
}

function measure(thresholds, channels = Object.keys(histogram.bars)) {
  const sum = { payments: 0, challenged: 0, reviewed: 0, declined: 0, fraud: 0, fraud_value: 0, caught: 0, caught_value: 0, false_positives: 0, wrongly_declined: 0 };
  const names = ["", "", "challenged", "reviewed", "declined"];
  for (const channel of channels) {
    const { challenge, review, decline } = thresholds[channel] ?? thresholds.default;
    for (const [floor, bars] of Object.entries(histogram.bars[channel])) {
      for (const [score, payments, fraud, fraudValue, legitimate] of bars) {
        const outcome = Math.max(Number(floor), 1 + (score >= challenge) + (score >= review) + (score >= decline));
        sum.payments += payments; sum.fraud += fraud; sum.fraud_value += fraudValue;
        if (outcome === 1) continue;
        sum[names[outcome]] += payments;
        sum.caught += fraud; sum.caught_value += fraudValue; sum.false_positives += legitimate;
        if (outcome === 4) sum.wrongly_declined += legitimate;
      }
    }
  }
  const alerts = sum.challenged + sum.reviewed + sum.declined, decided = sum.caught + sum.false_positives;
  return {
    ...sum, alerts, alerts_a_day: alerts / histogram.days, missed_value: sum.fraud_value - sum.caught_value,
    precision: decided ? sum.caught / decided : null, recall: sum.fraud ? sum.caught / sum.fraud : null,
    value_recall: sum.fraud_value ? sum.caught_value / sum.fraud_value : null,
  };
}

const fixed = (value, digits) => value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
const show = {
  rate: (n) => fixed(n, 1), count: (n) => fixed(n, 0), share: (n) => `${fixed(n * 100, 1)} %`, money: (n) => fixed(n / 10 ** exponent, 0),
};
const say = (value, shape) => (value === null ? "–" : show[shape](value));
function change(before, after, shape) {
  if (before === null || after === null) return "";
  const text = show[shape](Math.abs(after - before));
  return text === show[shape](0) ? "same" : `${after > before ? "+" : "−"}${text}`;
}

function drawEffect(was, will) {
  for (const row of $$("[data-row]")) {
    const { row: name, form: shape, better } = row.dataset;
    const text = change(was[name], will[name], shape), cell = $("[data-change]", row);
    const good = text === "" || text === "same" ? 0 : (will[name] > was[name] ? 1 : -1) * Number(better);
    $("[data-now]", row).textContent = say(was[name], shape);
    $("[data-new]", row).textContent = say(will[name], shape);
    cell.className = `d-num ${good > 0 ? "d-up-good" : good < 0 ? "d-up-bad" : "d-quiet"}`;
    cell.textContent = text;
    if (good) cell.append(Object.assign(document.createElement("span"), { className: "d-hint d-block", textContent: good > 0 ? "better" : "worse" }));
  }
  const more = will.false_positives - was.false_positives, caught = will.caught_value - was.caught_value;
  $("[data-summary]").textContent = more > 0 && caught > 0
    ? `Each further false positive stops ${show.money(caught / more)} ${histogram.currency} of labelled fraud.`
    : `${show.count(will.fraud)} labelled frauds of ${show.money(will.fraud_value)} ${histogram.currency} among these payments.`;
}

function drawChannels(thresholds) {
  for (const row of $$("[data-channel]")) {
    const was = measure(now, [row.dataset.channel]), will = measure(thresholds, [row.dataset.channel]);
    $("[data-now]", row).textContent = say(was.alerts_a_day, "rate");
    $("[data-new]", row).textContent = say(will.alerts_a_day, "rate");
    $("[data-change]", row).textContent = change(was.alerts_a_day, will.alerts_a_day, "rate");
    $("[data-caught]", row).textContent = say(was.value_recall, "share");
    $("[data-caught-new]", row).textContent = say(will.value_recall, "share");
  }
}

// Chart: payments and labelled fraud in bins of BIN points, square root of the count; geometry is SVG attributes.
function svg(name, attributes, text = "") {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.textContent = text;
  return node;
}
function bins(segment) {
  const found = Array.from({ length: 1000 / BIN }, () => [0, 0]);
  for (const [channel, floors] of Object.entries(histogram.bars)) {
    if (segment !== "default" ? channel !== segment : owns(channel)) continue;
    for (const [score, payments, fraud] of Object.values(floors).flat()) {
      if (score < 0) continue;
      const bin = found[Math.min(Math.floor(score / BIN), found.length - 1)];
      bin[0] += payments - fraud; bin[1] += fraud;
    }
  }
  return found;
}
function drawPlot(segment, thresholds) {
  const found = bins(segment), most = Math.sqrt(Math.max(1, ...found.flat())), width = 100 / found.length;
  const tall = (n) => (Math.sqrt(n) / most) * (HEIGHT.bottom - HEIGHT.top - 10);
  const parts = found.flatMap((bin, index) => bin.map((n, side) => svg("rect", {
    class: side ? "d-hist-fraud" : "d-hist-legit", x: `${index * width + (side ? 0.5 : 0.08) * width}%`, width: `${width * 0.4}%`,
    y: (HEIGHT.bottom - tall(n)).toFixed(1), height: tall(n).toFixed(1),
  })));
  parts.push(svg("line", { class: "d-zero-line", x1: 0, x2: "100%", y1: HEIGHT.bottom, y2: HEIGHT.bottom }));
  const was = now[segment] ?? now.default, will = thresholds[segment] ?? thresholds.default;
  const unit = 1000 / (plot.clientWidth || 600), ends = ROWS.map(() => -Infinity);  // points of score in a pixel
  for (const step of STEPS) {
    const at = (score) => `${score / 10}%`;
    parts.push(svg("line", { class: "d-mark-now", x1: at(was[step]), x2: at(was[step]), y1: 40, y2: HEIGHT.bottom }));
    parts.push(svg("line", { class: "d-mark-new", x1: at(will[step]), x2: at(will[step]), y1: 37, y2: HEIGHT.bottom }));
    const text = `${step} ${will[step]}`, length = text.length * LETTER * unit, anchor = will[step] > 900 ? "end" : "middle";
    const left = will[step] - (anchor === "end" ? length : length / 2), free = ends.findIndex((end) => end < left);
    ends[Math.max(free, 0)] = left + length;
    parts.push(svg("text", { class: "d-mark-text", x: at(will[step]), y: ROWS[Math.max(free, 0)], "text-anchor": anchor }, text));
  }
  for (let score = 0; score <= 1000; score += 100) {
    const anchor = score === 0 ? "start" : score === 1000 ? "end" : "middle";
    parts.push(svg("text", { class: "d-axis", x: `${score / 10}%`, y: 222, "text-anchor": anchor }, String(score)));
  }
  plot.replaceChildren(...parts);
}

function guard(name, holds, icon = holds ? "circle-check" : "circle-alert") {
  const use = $(`[data-guard="${name}"] use`);
  use.setAttribute("href", `${document.body.dataset.sprite}#${icon}`);
  use.parentElement.classList.toggle("d-good", holds);
  use.parentElement.classList.toggle("d-bad", !holds && icon === "circle-alert");
}
const sorted = (value) => JSON.stringify(value, (_, inner) => (inner && typeof inner === "object" ? Object.fromEntries(Object.entries(inner).sort()) : inner));

// How long payments are held and what becomes of them then: `data-hold` says what is in force.
const held = $$("[data-hold]");
const holdsOtherwise = () => held.some((each) => (each.type !== "radio" || each.checked) && each.value !== each.dataset.hold);

function draw() {
  const thresholds = proposed(), segment = $("[data-segment]").value;
  for (const [name, group] of groups) follow(name, group, thresholds);
  const valid = Object.values(thresholds).every(({ challenge, review, decline }) => challenge >= 1 && challenge <= review && review <= decline && decline <= 1000);
  const differs = sorted(thresholds) !== sorted(now) || holdsOtherwise();
  guard("order", valid);
  guard("change", differs, differs ? "circle-check" : "info");
  const button = $("[data-propose]");
  if (button) button.disabled = !valid || !differs;
  $("[data-reset]").hidden = !differs;
  if (!histogram) return;
  const was = measure(now), will = measure(thresholds);
  drawEffect(was, will);
  drawChannels(thresholds);
  drawPlot(segment, thresholds);
}

// A channel without thresholds of its own shows the default ones, greyed.
function follow(name, group, thresholds) {
  const own = owns(name), was = now[name] ?? now.default;
  group.classList.toggle("is-following", !own);
  for (const step of STEPS) {
    const number = $(`[data-number="${step}"]`, group), range = $(`[data-threshold="${step}"]`, group);
    if (!own) number.value = thresholds.default[step];
    number.disabled = range.disabled = !own;
    range.value = number.value;
    const moved = Number(number.value) - was[step];
    $("[data-delta]", number.parentElement).textContent = moved ? `now ${was[step]}, ${moved > 0 ? "+" : "−"}${Math.abs(moved)}` : `now ${was[step]}, same`;
  }
}

// Thresholds rise in their order: one that is moved past another takes it along, and lets go of it on the way back
// (`rest`: where they all stood when it was picked up).
let rest = null;
const values = (group) => Object.fromEntries(STEPS.map((step) => [step, Number($(`[data-number="${step}"]`, group).value)]));
function push(group, moved, value) {
  rest ??= values(group);
  const place = STEPS.indexOf(moved);
  STEPS.forEach((step, index) => {
    const pushed = index < place ? Math.min(rest[step], value) : index > place ? Math.max(rest[step], value) : value;
    $(`[data-number="${step}"]`, group).value = pushed;
  });
}

let due = 0;
const soon = () => { due ||= requestAnimationFrame(() => { due = 0; draw(); }); };
form.addEventListener("input", ({ target }) => {
  if (target.dataset.threshold) push(target.closest("[data-group]"), target.dataset.threshold, Number(target.value));
  soon();
});
form.addEventListener("change", ({ target }) => {
  const { number } = target.dataset;
  if (number && target.validity.valid && target.value) {
    const group = target.closest("[data-group]"), value = Number(target.value);
    rest = { ...values(group), [number]: value };
    push(group, number, value);
    soon();
  }
  rest = null;
});
$("[data-segment]").addEventListener("change", (event) => {
  for (const [name, group] of groups) group.hidden = name !== event.target.value;
  draw();
});
$("[data-reset]").addEventListener("click", () => {
  for (const [name, group] of groups) {
    if (name !== "default") $(`[data-own="${name}"]`).checked = name in now;
    for (const step of STEPS) $(`[data-number="${step}"]`, group).value = (now[name] ?? now.default)[step];
  }
  for (const each of held) {
    if (each.type === "radio") each.checked = each.value === each.dataset.hold;
    else each.value = each.dataset.hold;
  }
  draw();
});
draw();
