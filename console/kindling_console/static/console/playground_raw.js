// The playground's raw mode: a model goes on with a text, and what it adds streams in behind it.
const form = document.getElementById("playground");
const select = document.getElementById("id_model");
const prompt = document.getElementById("id_prompt");
const send = document.getElementById("pg-send");
const stop = document.getElementById("pg-stop");
const on = document.getElementById("pg-on");
const clear = document.getElementById("pg-clear");
const code = document.getElementById("pg-code");
const log = form.querySelector(".pg-log");
const empty = log.querySelector(".pg-empty")?.cloneNode(true);
const KEPT = `kindling.playground.raw.${form.dataset.kept}`;
const SAID = { stopped: "Completion stopped", length: "Completion ended at the limit", cut: "The completion was cut off" };
// Fetched at once: they are needed when nothing can be fetched any more.
const parts = Promise.all([import(form.dataset.stream), import(form.dataset.stats)]).catch(() => null);
const refusals = import(form.dataset.refusals).catch(() => ({ noteOf: plainNote, apart: (text) => element("span", "", text) }));
let running = null;
// What stands in the log: a text, and what a model has added to it.
let shownNow = null;

function announce(text) {
  document.dispatchEvent(new CustomEvent("kindling:announce", { detail: text }));
}

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function plainNote(_form, _token, title, text) {
  const note = element("div", "note is-bad");
  note.setAttribute("role", "alert");
  note.append(element("p", "", `${title}. ${text}`));
  return note;
}

async function fail(title, text, error) {
  const [{ noteOf }, loaded] = await Promise.all([refusals, parts]);
  log.append(noteOf(form, loaded?.[0].csrf(form), title, text, error));
  announce(title);
}

function settings() {
  const number = (id) => {
    const { value } = document.getElementById(id);
    return value === "" ? undefined : Number(value);
  };
  return { temperature: number("id_temperature"), top_p: number("id_top_p"), max_tokens: number("id_max_tokens"), seed: number("id_seed") };
}

function show(given, added) {
  const article = element("article", "msg is-raw");
  const body = element("div", "msg-text");
  const made = element("mark", "pg-made", added);
  const stats = element("p", "msg-stats");
  body.append(element("span", "pg-given", given), made);
  article.append(body, stats);
  log.replaceChildren(article);
  return { article, body, made, stats, given };
}

async function run() {
  // The shortcut goes past the browser's own look at the form.
  if (!prompt.value || running || !select.reportValidity()) return;
  const mine = new AbortController();
  running = mine;
  on.hidden = true;
  stop.hidden = false;
  send.disabled = true;
  stop.focus();
  shownNow = show(prompt.value, "");
  try {
    await complete(shownNow, mine);
  } finally {
    running = null;
    stop.hidden = true;
    send.disabled = false;
    on.hidden = !shownNow?.made.textContent;
    prompt.focus();
  }
}

async function complete(shown, { signal }) {
  const loaded = await parts;
  if (!loaded) {
    await fail("Nothing was sent", "A part of this page could not be fetched. Reload it.");
    return;
  }
  const [{ ask, events }, { draft, receipt }] = loaded;
  shown.article.setAttribute("aria-busy", "true");
  let requestId = "";
  let outcome = "cut";
  let tokens = null;
  try {
    const reply = await ask(form, { ...settings(), model: select.value, prompt: shown.given }, signal);
    requestId = reply.headers.get("X-Kindling-Request") ?? "";
    if (!reply.ok) {
      const { error } = await reply.json().catch(() => ({ error: null }));
      await fail("No completion", error?.message ?? `The server answered ${reply.status}.`, error);
      return;
    }
    for await (const event of events(reply.body)) {
      if (event.error) {
        await fail("The completion broke off", `${event.error.message} Nothing is charged for it.`, event.error);
        outcome = "failed";
      }
      const choice = event.choices?.[0];
      const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
      if (choice?.text) shown.made.textContent += choice.text;
      if (atEnd) log.scrollTop = log.scrollHeight;
      if (choice?.finish_reason) outcome = choice.finish_reason;
      if (event.usage) tokens = event.usage;
    }
  } catch {
    // Whatever went wrong, nothing has ended the answer: it was stopped, or it is cut off.
  } finally {
    shown.article.setAttribute("aria-busy", "false");
  }
  if (outcome === "cut" && signal.aborted) outcome = "stopped";
  // What was cleared has no place any more, but its cost is booked and changes the balance.
  if (requestId) receipt({ form, refusals, shown, requestId, outcome });
  if (shown !== shownNow) return;
  if (tokens) draft(shown.stats, tokens);
  if (outcome === "cut") await fail("The connection was lost", shown.made.textContent ? "What arrived is kept above." : "Nothing arrived.");
  else if (outcome !== "failed") announce(`${SAID[outcome] ?? "Completion complete"}${tokens ? `, ${tokens.completion_tokens} tokens` : ""}`);
}

function wipe() {
  running?.abort();
  shownNow = null;
  prompt.value = "";
  on.hidden = true;
  log.replaceChildren(...(empty ? [empty.cloneNode(true)] : []));
  prompt.focus();
}

function takeAsPrompt() {
  if (running || !shownNow) return;
  prompt.value = shownNow.given + shownNow.made.textContent;
  prompt.focus();
  prompt.setSelectionRange(prompt.value.length, prompt.value.length);
}

function remember() {
  const url = new URL(location);
  url.searchParams.set("model", select.value);
  document.getElementById("pg-unknown")?.remove();
  history.replaceState(null, "", url);
}

async function showCode() {
  const { write } = await import(form.dataset.code);
  const text = prompt.value || prompt.placeholder;
  write({ text, settings: settings(), model: select.value || "YOUR_MODEL", baseUrl: form.dataset.baseUrl });
  document.getElementById("pg-code-dialog").showModal();
}

// Kept in this tab for a reload, and for whoever comes back to the same address.
function keep() {
  const shown = shownNow && { given: shownNow.given, added: shownNow.made.textContent };
  try {
    sessionStorage.setItem(KEPT, JSON.stringify({ search: location.search, draft: prompt.value, shown }));
  } catch {
    sessionStorage.removeItem(KEPT);
  }
}

function bringBack() {
  let kept = null;
  try {
    kept = JSON.parse(sessionStorage.getItem(KEPT));
  } catch {
    return;
  }
  if (kept?.search !== location.search || log.querySelector(".msg, .note")) return;
  prompt.value ||= kept.draft ?? "";
  if (!kept.shown?.given) return;
  shownNow = show(kept.shown.given, kept.shown.added ?? "");
  on.hidden = !kept.shown.added;
}

if (matchMedia("(max-width: 1080px)").matches) form.querySelector(".pg-settings").open = false;
for (const button of [clear, code]) button.hidden = false;
form.addEventListener("submit", (event) => { event.preventDefault(); run(); });
prompt.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); run(); }
});
stop.addEventListener("click", () => running?.abort());
clear.addEventListener("click", wipe);
code.addEventListener("click", showCode);
on.addEventListener("click", takeAsPrompt);
select.addEventListener("change", remember);
bringBack();
addEventListener("pagehide", keep);
