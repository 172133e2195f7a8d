// What every page needs: copying, tabs, dialogs, the theme, live regions, the pause of hidden tabs.
document.documentElement.classList.add("has-script");
const status = document.getElementById("status");

function announce(text) {
  status.textContent = "";
  // A fresh task, or a screen reader sees no change when the same words come twice.
  setTimeout(() => { status.textContent = text; }, 50);
}
document.addEventListener("kindling:announce", (event) => announce(event.detail));

async function copy(button) {
  const source = document.querySelector(button.dataset.copy);
  const label = button.querySelector("span");
  const before = label.textContent;
  try {
    await navigator.clipboard.writeText(source.textContent);
    label.textContent = "Copied";
    announce("Copied");
  } catch {
    const range = document.createRange();
    range.selectNodeContents(source);
    const selection = getSelection();
    selection.removeAllRanges();
    selection.addRange(range);
    label.textContent = "Selected";
    announce("Selected; press Ctrl and C to copy");
  }
  setTimeout(() => { label.textContent = before === "Copied" || before === "Selected" ? "Copy" : before; }, 1600);
}

function showTab(tab) {
  const tabs = [...tab.parentElement.children];
  for (const other of tabs) {
    const isChosen = other === tab;
    other.setAttribute("aria-selected", String(isChosen));
    other.tabIndex = isChosen ? 0 : -1;
    document.getElementById(other.getAttribute("aria-controls")).hidden = !isChosen;
  }
}

function setUpTabs(root) {
  for (const tabs of root.querySelectorAll("[data-tabs]:not([data-ready])")) {
    tabs.dataset.ready = "";
    const kept = localStorage.getItem("kindling.language");
    const all = [...tabs.querySelectorAll("[role=tab]")];
    if (all.length) showTab(all.find((tab) => tab.textContent === kept) ?? all[0]);
  }
}

function setUpDialogs(root) {
  for (const dialog of root.querySelectorAll("dialog[data-open]:not([open])")) {
    dialog.showModal();
    // Should it close all the same, what it showed once must not stay in the page behind it.
    dialog.addEventListener("close", () => {
      dialog.remove();
      location.assign(dialog.dataset.reload);
    });
  }
}

// What is scrolled can be reached by the keyboard, while there is something to scroll; a list stays a list.
function setUpScrollers() {
  for (const box of document.querySelectorAll(".table-wrap, .chart-scroll, .timeline")) {
    const scrolls = box.scrollWidth > box.clientWidth + 1 || box.scrollHeight > box.clientHeight + 1;
    if (scrolls === box.hasAttribute("tabindex")) continue;
    const named = scrolls && !box.matches(".timeline");
    const title = document.getElementById(box.closest("section[aria-labelledby]")?.getAttribute("aria-labelledby"));
    const kind = box.matches(".chart-scroll") ? "chart" : "table";
    for (const [name, value] of [
      ["tabindex", scrolls && "0"], ["role", named && "region"],
      ["aria-label", named && `${title?.textContent.trim() ?? "Page"}, ${kind}`],
    ]) {
      if (value) box.setAttribute(name, value);
      else box.removeAttribute(name);
    }
  }
}

function setUp(root) {
  setUpScrollers();
  for (const button of root.querySelectorAll("[data-copy][hidden]")) button.hidden = false;
  setUpTabs(root);
  setUpDialogs(root);
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-copy]");
  if (button) copy(button);
  const tab = event.target.closest("[role=tab]");
  if (tab) {
    showTab(tab);
    localStorage.setItem("kindling.language", tab.textContent);
  }
  for (const menu of document.querySelectorAll("details[data-menu][open]")) {
    if (!menu.contains(event.target)) menu.open = false;
  }
});

// A key that was shown once must not be closed by accident. A browser lets `cancel` be prevented only while somebody
// has just clicked or typed, so the key press itself is caught; `closedby` in the markup bars the other ways.
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && document.querySelector("dialog[data-open][open]")) event.preventDefault();
}, { capture: true });

document.addEventListener("keydown", (event) => {
  const tab = event.target.closest?.("[role=tab]");
  if (tab && (event.key === "ArrowRight" || event.key === "ArrowLeft")) {
    const tabs = [...tab.parentElement.children];
    const step = event.key === "ArrowRight" ? 1 : -1;
    const next = tabs[(tabs.indexOf(tab) + step + tabs.length) % tabs.length];
    showTab(next);
    next.focus();
  }
  if (event.key === "Escape") {
    for (const menu of document.querySelectorAll("details[data-menu][open]")) {
      menu.open = false;
      menu.querySelector("summary").focus();
    }
  }
});

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (!form.matches("[data-theme-form]")) return;
  event.preventDefault();
  const theme = event.submitter?.value ?? "";
  if (theme) document.documentElement.dataset.bsTheme = theme;
  else delete document.documentElement.dataset.bsTheme;
  for (const button of form.querySelectorAll("button")) button.setAttribute("aria-pressed", String(button.value === theme));
  const body = new FormData(form);
  body.set("theme", theme);
  fetch(form.action, { method: "POST", body, redirect: "manual" });
  form.closest("details").open = false;
});

// Parts that ask again by themselves: pause while hidden, say when the connection is lost.
let lost = 0;
document.addEventListener("htmx:before:request", (event) => {
  const source = event.detail.ctx?.sourceElement;
  if (!source?.matches?.("[data-live]")) return;
  const inUse = source.contains(document.activeElement) && document.activeElement.matches("input, textarea, select");
  if (document.hidden || inUse) event.preventDefault();
});
document.addEventListener("htmx:after:request", (event) => {
  if (!event.detail.ctx?.sourceElement?.matches?.("[data-live]")) return;
  lost = 0;
  document.body.classList.remove("is-stale");
});
document.addEventListener("htmx:error", (event) => {
  if (!event.detail.ctx?.sourceElement?.matches?.("[data-live]")) return;
  lost += 1;
  if (lost > 1) document.body.classList.add("is-stale");
});

// A page that leads on does so once: whoever comes back to it stays, so the history has its address without `go`.
const leadsOn = () => document.querySelector("[data-leads-on]");
if (leadsOn()) {
  const url = new URL(location);
  url.searchParams.delete("go");
  history.replaceState(null, "", url);
}
addEventListener("pageshow", (event) => { if (event.persisted && leadsOn()) location.reload(); });

// Who comes to sign in may be somebody else than who had this tab: what was kept for the one goes.
const forgotten = document.querySelector("[data-forget]")?.dataset.forget;
if (forgotten) {
  for (const key of Object.keys(sessionStorage)) if (key.startsWith(forgotten)) sessionStorage.removeItem(key);
}

const spoken = new Map();
function speak() {
  for (const element of document.querySelectorAll("[data-announce]")) {
    const key = element.id || element.getAttribute("aria-labelledby") || "page";
    const words = element.dataset.announce;
    if (spoken.has(key) && spoken.get(key) !== words) announce(words);
    spoken.set(key, words);
  }
}

document.addEventListener("htmx:after:swap", () => { setUp(document); speak(); });
for (const toast of document.querySelectorAll("[data-toast]")) {
  announce(toast.textContent.trim());
  if (!toast.matches(".is-error")) setTimeout(() => toast.remove(), 6000);
}
addEventListener("resize", setUpScrollers);
// What is folded up has no size until it is opened.
document.addEventListener("toggle", setUpScrollers, { capture: true });
setUp(document);
speak();
