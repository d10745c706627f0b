// Comfort around what a case keeps: names and snippets for notes, files by dropping them, the history when it is asked for.
const $ = (selector, root = document) => root.querySelector(selector);
const DESK = { headers: { "X-Requested-With": "desk" } };

async function asked(url) {
  try {
    const answer = await fetch(url, DESK);
    return answer.ok && !answer.redirected ? answer : null;
  } catch { return null; }  // the line is down; the plain page still works
}

// --- notes: @ offers the people who can read the case ------------------------------------------------------------------
function startNames(form, field, list) {
  let people = [], at = 0, turn = 0;
  const begun = () => field.value.slice(0, field.selectionStart).match(/(?:^|[^\w.@+/-])@([\w.+-]*)$/);

  function hide() { list.hidden = true; people = []; field.removeAttribute("aria-activedescendant"); }
  function show() {
    list.replaceChildren(...people.map((each, place) => {
      const item = Object.assign(document.createElement("li"), { id: `person-${place}`, textContent: each.name ? `${each.name}, @${each.user}` : `@${each.user}` });
      item.setAttribute("role", "option");
      item.setAttribute("aria-selected", place === at);
      item.addEventListener("pointerdown", (event) => { event.preventDefault(); take(place); });
      return item;
    }));
    list.hidden = !people.length;
    if (people.length) field.setAttribute("aria-activedescendant", `person-${at}`);
  }
  function take(place) {
    const start = field.selectionStart - begun()[1].length;
    field.setRangeText(`${people[place].user} `, start, field.selectionStart, "end");
    field.dispatchEvent(new Event("input", { bubbles: true }));
    hide();
  }
  async function look() {
    const found = begun(), mine = ++turn;
    if (!found) { hide(); return; }
    const answer = await asked(`${form.dataset.people}?q=${encodeURIComponent(found[1])}`);
    if (!answer || mine !== turn) return;
    people = (await answer.json()).people;
    at = 0;
    show();
  }
  let soon = 0;
  field.addEventListener("input", () => { clearTimeout(soon); soon = setTimeout(look, 150); });
  field.addEventListener("blur", hide);
  field.addEventListener("keydown", (event) => {
    if (list.hidden) return;
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) at = (at + step + people.length) % people.length;
    else if (event.key === "Enter" || event.key === "Tab") take(at);
    else if (event.key === "Escape") hide();
    else return;
    event.preventDefault();
    event.stopPropagation();
    if (step) show();
  });
}

// --- notes: snippets go in where the cursor stands ----------------------------------------------------------------------
function startSnippets(form, field, menu) {
  const list = $(".d-menu-list", menu);
  menu.hidden = false;
  $("[data-menu]", menu).addEventListener("click", async () => {
    if (list.dataset.filled) return;
    const answer = await asked(form.dataset.snippets);
    if (!answer) return;
    list.dataset.filled = "yes";
    const all = (await answer.json()).snippets;
    const items = all.map((each) => {
      const item = Object.assign(document.createElement("button"), { type: "button", className: "d-menu-item", textContent: each.title, title: each.text });
      item.addEventListener("click", () => {
        field.setRangeText(each.text, field.selectionStart, field.selectionEnd, "end");
        field.dispatchEvent(new Event("input", { bubbles: true }));
        list.hidden = true;
        $("[data-menu]", menu).setAttribute("aria-expanded", "false");
        field.focus();
      });
      return item;
    });
    const edit = Object.assign(document.createElement("a"), { className: "d-menu-item", href: form.dataset.snippets, textContent: all.length ? "Edit snippets…" : "No snippets yet. Write one…" });
    list.replaceChildren(...items, edit);
  });
}

const form = $("[data-note-form]");
if (form) {
  const field = $("textarea", form);
  startNames(form, field, $("[data-people-list]", form));
  startSnippets(form, field, $("[data-snippet-menu]", form));
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); form.requestSubmit(); }
  });
}

// --- files: what is too large is said before it is sent; files may be dropped on the tab -------------------------------
function startUpload(upload) {
  const choice = $("input[type=file]", upload), words = $("[data-upload-words]", upload), said = words.textContent;
  const panel = upload.closest("[role=tabpanel]");
  upload.addEventListener("submit", (event) => {  // one submit each, as for every form of the page
    if (upload.dataset.sent) event.preventDefault();
    upload.dataset.sent = "yes";
  });
  addEventListener("pageshow", () => { delete upload.dataset.sent; check(); });
  function check() {
    const large = [...choice.files].find((file) => file.size > Number(upload.dataset.largest));
    choice.setCustomValidity(large ? `${large.name} is larger than 25 MB.` : choice.files.length > 5 ? "At most 5 files at a time." : "");
    words.textContent = choice.validationMessage && choice.files.length ? choice.validationMessage : said;
    words.classList.toggle("d-hint--bad", Boolean(choice.files.length && choice.validationMessage));
  }
  choice.addEventListener("change", check);
  upload.addEventListener("submit", (event) => {
    if (!event.defaultPrevented) words.textContent = "Sending…";
  });
  panel.addEventListener("dragover", (event) => { event.preventDefault(); panel.classList.add("is-over"); });
  panel.addEventListener("dragleave", () => panel.classList.remove("is-over"));
  panel.addEventListener("drop", (event) => {
    event.preventDefault();
    panel.classList.remove("is-over");
    if (!event.dataTransfer.files.length) return;
    choice.files = event.dataTransfer.files;
    check();
    upload.requestSubmit();
  });
}

// --- files and history come when their tabs are opened; earlier lines come in place -------------------------------------
const piece = async (answer) => new DOMParser().parseFromString(await answer.text(), "text/html");

async function fill(panel) {
  if (panel.dataset.filled) return;
  panel.dataset.filled = "yes";
  const answer = await asked(panel.dataset.piece);
  if (!answer) { delete panel.dataset.filled; return; }
  $("[data-piece-place]", panel).replaceChildren(...(await piece(answer)).body.children);
  const upload = $("[data-upload]", panel);
  if (upload) startUpload(upload);
}
for (const panel of document.querySelectorAll("[data-piece]")) {
  panel.addEventListener("desk:tab", () => fill(panel));
  if (!panel.hidden) fill(panel);
}

document.addEventListener("click", async (event) => {
  const link = event.target.closest("[data-history-more]");
  if (!link || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  const answer = await asked(link.href);
  if (!answer) { location.assign(link.href); return; }
  const told = await piece(answer);
  $("[data-history-lines]").append(...$("[data-history-lines]", told).children);
  link.parentElement.replaceWith($(".c-record-foot", told));
});
