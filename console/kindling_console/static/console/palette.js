// The palette: one field that finds pages and names. The server searches, so it finds what the person may open and
// nothing else.
const ASKS_AFTER_MS = 120;
const NO_ANSWER = "The search did not answer. Type on, or press Enter, to ask again.";
const dialog = document.getElementById("palette");
const input = document.getElementById("palette-input");
const body = document.getElementById("palette-body");
const status = document.getElementById("palette-status");
const opener = document.querySelector("[data-palette-open] button");
// What was typed when the list that is shown was asked for; null while none is.
let shown = null;
let asked = new AbortController();
let timer = 0;
// Enter was pressed before the answer came: its first is opened then.
let isAwaited = false;

function options() {
  return [...body.querySelectorAll("[role=option]")];
}

function chosen() {
  return body.querySelector("[aria-selected=true]");
}

function choose(option) {
  chosen()?.setAttribute("aria-selected", "false");
  option?.setAttribute("aria-selected", "true");
  if (option) input.setAttribute("aria-activedescendant", option.id);
  else input.removeAttribute("aria-activedescendant");
}

function show(html, query) {
  body.innerHTML = html;
  shown = query;
  const [first] = options();
  input.setAttribute("aria-expanded", String(Boolean(first)));
  choose(first);
  if (query) status.textContent = body.querySelector("[data-said]")?.dataset.said ?? "";
  if (isAwaited && first) first.click();
  isAwaited = false;
}

function failed() {
  const note = document.createElement("p");
  note.className = "palette-none";
  note.setAttribute("role", "alert");
  note.textContent = NO_ANSWER;
  show(note.outerHTML, null);
}

async function ask() {
  clearTimeout(timer);
  asked.abort();
  asked = new AbortController();
  const { signal } = asked;
  const query = input.value.trim();
  const headers = { "HX-Request": "true", "HX-Current-URL": location.href, "X-Kindling-Org": dialog.dataset.org };
  try {
    const reply = await fetch(`${dialog.dataset.url}?${new URLSearchParams({ q: query })}`, { headers, signal });
    const html = await reply.text();
    // A later question is on its way: this answer is to none that anybody still asks.
    if (signal.aborted) return;
    const elsewhere = reply.headers.get("HX-Redirect");
    if (elsewhere) location.assign(elsewhere);
    else if (html) show(html, query);
    else failed();
  } catch {
    if (!signal.aborted) failed();
  }
}

function open() {
  // A key that is shown once is not left by accident.
  if (dialog.open || document.querySelector("dialog[data-open][open]")) return dialog.close();
  input.value = "";
  status.textContent = "";
  dialog.showModal();
  input.focus();
  // The pages are the same as before.
  if (shown === "") return choose(options()[0]);
  shown = null;
  body.replaceChildren();
  return ask();
}

function move(by) {
  const all = options();
  if (!all.length) return;
  choose(all.at((all.indexOf(chosen()) + by) % all.length));
  chosen().scrollIntoView({ block: "nearest" });
}

input.addEventListener("input", () => {
  isAwaited = false;
  clearTimeout(timer);
  timer = setTimeout(ask, ASKS_AFTER_MS);
});
input.addEventListener("keydown", (event) => {
  if (event.isComposing || event.keyCode === 229) return;
  const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!by && event.key !== "Enter") return;
  event.preventDefault();
  if (by) move(by);
  else if (shown === input.value.trim()) chosen()?.dispatchEvent(new MouseEvent("click", { bubbles: true, cancelable: true, ctrlKey: event.ctrlKey, metaKey: event.metaKey }));
  else {
    isAwaited = true;
    ask();
  }
});
body.addEventListener("pointermove", (event) => {
  // A list that changes under a hand that rests changes nothing.
  if (event.movementX || event.movementY) choose(event.target.closest("[role=option]") ?? chosen());
});
// A link is followed as ever, but whoever comes back finds the page, not the palette.
body.addEventListener("click", (event) => {
  if (event.target.closest("[role=option]") && !event.ctrlKey && !event.metaKey && !event.shiftKey) dialog.close();
});
dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
dialog.addEventListener("close", () => {
  clearTimeout(timer);
  asked.abort();
  isAwaited = false;
});
document.addEventListener("kindling:palette", open);
opener.setAttribute("aria-haspopup", "dialog");
opener.setAttribute("aria-keyshortcuts", "Control+K Meta+K");
opener.form.addEventListener("submit", (event) => {
  event.preventDefault();
  open();
});
