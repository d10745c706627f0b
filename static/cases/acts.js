// The acts on a case: one submit for each form, drafts survive, the close dialog says what follows.
const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];

// --- forms: one submit each; a draft goes once it was taken: the page that refuses it still has it ---------------------
const SENT = "desk-drafts-sent";
if (!$("[data-testid=refusal], [data-testid=conflict], .d-field--error")) {
  for (const name of JSON.parse(sessionStorage.getItem(SENT) ?? "[]")) sessionStorage.removeItem(name);
}
sessionStorage.removeItem(SENT);
for (const form of $$("[data-once]")) {
  form.addEventListener("submit", (event) => {
    if (form.dataset.sent) { event.preventDefault(); return; }
    form.dataset.sent = "yes";
    const drafts = $$("[data-keep]", form).map((field) => field.dataset.keep);
    if (drafts.length) sessionStorage.setItem(SENT, JSON.stringify(drafts));
  });
}
addEventListener("pageshow", () => { for (const form of $$("[data-once]")) delete form.dataset.sent; });
for (const field of $$("[data-keep]")) {
  if (!field.value) field.value = sessionStorage.getItem(field.dataset.keep) ?? "";
  field.addEventListener("input", () => sessionStorage.setItem(field.dataset.keep, field.value));
}

// --- the close dialog -------------------------------------------------------------------------------------------------
const FRAUD = ["confirmed_fraud", "suspected_fraud"];
const ICONS = { blocked: "ban", released: "check", label: "tag", none: "info" };

function plural(n, kind = "") { return n === 1 ? `1 ${kind}payment` : `${n} ${kind}payments`; }

// Sums in whole minor units, written with the decimals that the server used for the same currency.
function sums(payments) {
  const totals = new Map();
  for (const each of payments) {
    const decimals = (each.text.split(" ")[0].split(".")[1] ?? "").length;
    const [minor] = totals.get(each.currency) ?? [0, 0];
    totals.set(each.currency, [minor + each.amount, decimals]);
  }
  return [...totals].map(([currency, [minor, decimals]]) => {
    const text = (minor / 10 ** decimals).toLocaleString("en", { minimumFractionDigits: decimals, maximumFractionDigits: decimals });
    return `${text} ${currency}`;
  }).join(" and ");
}

function startClose(form, told) {
  const chosen = () => $("input[name=disposition]:checked", form)?.value ?? "";
  const verdict = (payment) => form.elements[`verdict-${payment.id}`]?.value || payment.verdict || chosen();
  const list = $("[data-effects]", form);

  const many = (payments) => payments.reduce((n, each) => n + (each.n ?? 1), 0);

  function effects() {
    const lines = [];
    for (const [word, act] of [["blocked", "Blocks"], ["released", "Releases"]]) {
      const held = told.payments.filter((each) => each.held && (told.resolutions[verdict(each)] ?? each.default) === word);
      if (held.length) lines.push([ICONS[word], `${act} ${plural(many(held), "held ")} of ${sums(held)}.`]);
    }
    for (const label of ["fraud", "legitimate"]) {
      const n = many(told.payments.filter((each) => told.labels[verdict(each)] === label));
      if (n) lines.push([ICONS.label, `Labels ${plural(n)} as ${label}; the next training sees ${n === 1 ? "it" : "them"}.`]);
    }
    const none = many(told.payments.filter((each) => !told.labels[verdict(each)]));
    if (none) lines.push([ICONS.none, `Leaves ${plural(none)} without a label; training does not use them.`]);
    return [...lines, ...listings(), ...steps(), ...second()];
  }

  // What goes on lists: at once on a watch list, proposed for the others.
  function listings() {
    return $$("select[data-thing]", form).filter((select) => select.value).map((select) => {
      const { kind, list: name } = select.selectedOptions[0].dataset;
      const days = form.elements[select.name.replace("list-", "days-")].value;
      return kind === "watch"
        ? ["list", `Puts ${select.dataset.thing} on watch list ${name} for ${days} days.`]
        : ["list", `Proposes ${select.dataset.thing} for ${kind} list ${name} for ${days} days; another approves.`];
    });
  }

  // Required steps of the fraud type that nobody ticked.
  function steps() {
    if (!FRAUD.includes(chosen())) return [];
    const sort = $("input[name=fraud_type]:checked", form)?.value;
    const open = (told.steps ?? []).filter((step) => !step.type || step.type === sort);
    return open.length ? [["list-checks", `Still to do: ${open.map((step) => step.text).join("; ")}.`]] : [];
  }

  function second() {
    const genuine = (id) => (told.genuine ?? []).includes(form.elements[`verdict-${id}`]?.value || chosen());
    const why = [];
    if (told.much) why.push("the amount reaches the queue's limit");
    if ((told.blocked ?? []).some(genuine)) why.push("it overrules a rule or list that blocks");
    if (form.elements.second?.checked) why.push("you ask for one");
    return why.length ? [["shield-check", `Waits for a second person: ${why.join(" and ")}.`]] : [];
  }

  function line([icon, text]) {
    const item = document.createElement("li");
    const glyph = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
    use.setAttribute("href", `${document.body.dataset.sprite}#${icon}`);
    glyph.setAttribute("class", "d-icon");
    glyph.setAttribute("aria-hidden", "true");
    glyph.append(use);
    item.append(glyph, Object.assign(document.createElement("span"), { textContent: text }));
    return item;
  }

  const reasons = $("select[name=close_reason]", form);
  const all = [...reasons.options];
  function fitReasons() {
    const kept = reasons.value;
    const fitting = all.filter((option) => !option.value || option.dataset.fits.split(" ").includes(chosen()));
    reasons.replaceChildren(...fitting);
    reasons.value = fitting.some((option) => option.value === kept) ? kept : "";
  }

  function update() {
    const disposition = chosen();
    const fraud = [disposition, ...told.payments.map(verdict)].some((value) => FRAUD.includes(value));
    const part = $("[data-if-fraud]", form);
    part.hidden = !fraud;
    for (const radio of $$("input", part)) { radio.disabled = !fraud; radio.required = fraud; }
    fitReasons();
    list.replaceChildren(...effects().map(line));
    const button = $("[data-submit]", form);
    button.classList.toggle("d-btn--fraud", FRAUD.includes(disposition));
    button.classList.toggle("d-btn--main", !FRAUD.includes(disposition));
    $("[data-submit-words]", form).textContent = `Close as ${$("input[name=disposition]:checked", form)?.dataset.name ?? "…"}`;
  }

  const rationale = $("textarea[name=rationale]", form);
  function count() {
    const n = rationale.value.trim().length;
    $("[data-left]", form).textContent = n < 10 ? `Needs 10 characters; ${n} so far.` : `${n} characters.`;
  }
  form.addEventListener("change", update);
  document.addEventListener("desk:step", ({ detail }) => {
    told.steps = (told.steps ?? []).filter((step) => step.id !== detail.id || !detail.done);
    update();
  });
  rationale.addEventListener("input", count);
  // F and L open the dialog with their disposition chosen. This listener runs before the shell's, which opens it.
  document.addEventListener("click", (event) => {
    const opener = event.target.closest("[data-choose]");
    if (!opener || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    if (opener.getAttribute("aria-disabled") === "true") { event.stopPropagation(); return; }
    $(`input[name=disposition][value=${opener.dataset.choose}]`, form).checked = true;
    update();
  }, true);
  update();
  if (rationale.value) count();
}

const dialog = document.getElementById("close");
if (dialog) {
  startClose($("[data-close-form]", dialog), JSON.parse($("#case-closing").textContent));
  for (const link of $$("a[data-close]", dialog)) link.addEventListener("click", (event) => event.preventDefault());
  if (dialog.open && "upgrade" in dialog.dataset) { dialog.close(); dialog.showModal(); }
}

// --- the checklist: a tick is kept at once, and the page's forms learn the case's new version --------------------------
document.querySelector("[data-checks]")?.addEventListener("submit", async (event) => {
  const button = event.submitter;
  if (!button) return;
  event.preventDefault();
  const form = event.currentTarget;
  const body = new FormData(form);
  body.append(button.name, button.value);
  button.disabled = true;
  let answer;
  try {
    answer = await fetch(form.action, { method: "POST", body, headers: { "X-Requested-With": "desk" }, redirect: "error" });
  } catch { button.disabled = false; return; }
  button.disabled = false;
  if (!answer.ok) { location.reload(); return; }
  const told = await answer.json();
  button.name = told.done ? "untick" : "tick";
  button.textContent = told.done ? "Done" : "To do";
  button.setAttribute("aria-pressed", told.done);
  const page = $("[data-case-page]");
  if (page) page.dataset.version = told.version;
  for (const field of $$("input[name=version]")) field.value = told.version;
  document.dispatchEvent(new CustomEvent("desk:step", { detail: { id: Number(button.value), done: told.done } }));
});
