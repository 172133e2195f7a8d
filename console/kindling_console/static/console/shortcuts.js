// Keys for those whose hands are on them: a list of all is behind "?". Single ones act in no field, and can be switched
// off on the account page, since dictation types them too.
const GO_WITHIN_MS = 1500;
const FIELDS = "input, textarea, select, [contenteditable]:not([contenteditable='false'])";
const ROWS = "main .table > tbody > tr, main .model-card";
const IS_APPLE = /mac|iphone|ipad/i.test(navigator.userAgentData?.platform ?? navigator.platform);
const help = document.getElementById("keyboard-help");
const SINGLE = { "/": search, "?": showHelp, g: () => { goUntil = performance.now() + GO_WITHIN_MS; }, n: makeNew, j: () => step(1), k: () => step(-1) };
let goUntil = 0;
let row = null;

// The Latin letter of a key, also where the keyboard writes another alphabet.
function letterOf({ key, code }) {
  if (key.length !== 1) return key;
  return key > "\x7f" && /^Key[A-Z]$/.test(code) ? code[3].toLowerCase() : key.toLowerCase();
}

function openPalette() {
  document.dispatchEvent(new CustomEvent("kindling:palette"));
}

function search() {
  const field = [...document.querySelectorAll("main [data-search]")].find((one) => one.checkVisibility());
  if (!field) openPalette();
  field?.focus();
  field?.select();
}

function showHelp() {
  help.showModal();
  help.querySelector("form button").focus();
}

function makeNew() {
  const button = document.querySelector("main [data-new]");
  if (!button) return;
  button.click();
  // A link to a form further down in the page: what comes next is typed into it.
  if (button.hash) document.querySelector(button.hash)?.querySelector("input:not([type=hidden]), select, textarea")?.focus();
}

function step(by) {
  const rows = [...document.querySelectorAll(ROWS)].filter((one) => one.checkVisibility());
  const at = rows.indexOf(document.activeElement?.closest(ROWS));
  const next = at < 0 ? (by > 0 ? 0 : rows.length - 1) : Math.min(Math.max(at + by, 0), rows.length - 1);
  row = rows[next] ?? null;
  if (row) row.tabIndex = -1;
  row?.focus();
}

function go(letter) {
  goUntil = 0;
  // Those of the side bar: a page that somebody may not see is not in it.
  document.querySelector(`[data-go="${CSS.escape(letter)}"]`)?.click();
}

function single(event, letter) {
  const acts = event.key.length === 1 && !(event.shiftKey && /^[a-z]$/.test(letter));
  const isOff = document.querySelector("[data-shortcuts='off']");
  // For a moment the field of a dialog that was closed still has the focus.
  const isTyped = event.target.closest?.(FIELDS)?.checkVisibility();
  if (!acts || isOff || isTyped || document.querySelector("dialog[open]")) {
    if (event.key !== "Shift") goUntil = 0;
    return;
  }
  if (performance.now() < goUntil) {
    event.preventDefault();
    if (!event.repeat) go(letter);
  } else if (Object.hasOwn(SINGLE, letter) && (!event.repeat || "jk".includes(letter))) {
    event.preventDefault();
    SINGLE[letter]();
  }
}

function withControl(event, letter) {
  const isControl = IS_APPLE ? event.metaKey && !event.ctrlKey : event.ctrlKey && !event.metaKey;
  if (!isControl || event.altKey || event.shiftKey) return;
  if (letter === "k") {
    event.preventDefault();
    if (!event.repeat) openPalette();
  } else if (event.key === "Enter" && !document.querySelector("dialog[open]")) {
    const run = document.querySelector("main [data-runs]:not(:disabled)");
    if (!run?.checkVisibility()) return;
    event.preventDefault();
    run.click();
  }
}

document.addEventListener("keydown", (event) => {
  // What composes a character is no key yet; a browser that fills in a form sends events without any.
  if (!event.key || event.defaultPrevented || event.isComposing || event.keyCode === 229) return;
  const letter = letterOf(event);
  if (event.ctrlKey || event.metaKey || event.altKey || event.getModifierState("AltGraph")) withControl(event, letter);
  else if (event.key === "Enter" && event.target.matches?.(ROWS)) event.target.querySelector("a[href]")?.click();
  else single(event, letter);
});

// A list that asks again by itself makes its rows as the server writes them, and a row without this has no focus.
window.htmx?.registerExtension("keyboard-row", {
  htmx_before_morph_attr: (element, { attrName }) => !(element === row && attrName === "tabindex"),
});

const asks = document.querySelector("[data-keyboard-help]");
asks.hidden = false;
asks.addEventListener("click", () => {
  // Closed, the menu cannot have the focus back; what opens it can.
  const menu = asks.closest("details");
  menu.open = false;
  menu.querySelector("summary").focus();
  showHelp();
});
help.addEventListener("click", (event) => {
  const { left, right, top, bottom } = help.getBoundingClientRect();
  const isInside = event.clientX >= left && event.clientX <= right && event.clientY >= top && event.clientY <= bottom;
  // A click that a key makes has no place.
  if (event.target === help && event.detail && !isInside) help.close();
});
if (IS_APPLE) for (const mark of document.querySelectorAll("[data-mod]")) mark.textContent = "⌘";
