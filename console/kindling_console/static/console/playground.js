// The playground: streams answers, stops them, and shows what the engine's log and the ledger say of each.
const form = document.getElementById("playground");
const message = document.getElementById("id_message");
const send = document.getElementById("pg-send");
const stop = document.getElementById("pg-stop");
const compare = document.getElementById("pg-compare");
const clear = document.getElementById("pg-clear");
const code = document.getElementById("pg-code");
const again = document.getElementById("pg-again");
const edit = document.getElementById("pg-edit");
const lanes = Object.fromEntries([...form.querySelectorAll("[data-lane]")].map((element) => [element.dataset.lane, {
  element, log: element.querySelector(".pg-log"), select: element.querySelector("select"), turns: [],
}]));
const placeholder = lanes.a.log.querySelector(".pg-empty")?.cloneNode(true);
const KEPT = `kindling.playground.${form.dataset.kept}`;
// Fetched at once: it is needed when nothing can be fetched any more.
const parts = Promise.all([import(form.dataset.stream), import(form.dataset.stats)]).catch(() => null);
const refusals = import(form.dataset.refusals).catch(() => ({ noteOf: plainNote, apart: (text) => element("span", "", text) }));
const SAID = { stopped: "Answer stopped", length: "Answer ended at the limit", cut: "The answer was cut off" };
let running = null;
// Grows when the chat is cleared: what an earlier one still waits for has no place in it.
let chat = 0;

function announce(text) {
  document.dispatchEvent(new CustomEvent("kindling:announce", { detail: text }));
}

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function bubble(lane, who, kind, text) {
  lane.log.querySelector(".pg-empty")?.remove();
  const article = element("article", `msg is-${kind}`);
  const body = element("div", "msg-text", text);
  const stats = element("p", "msg-stats");
  article.append(element("p", kind === "model" ? "msg-who mono" : "msg-who", who), body, stats);
  lane.log.append(article);
  lane.log.scrollTop = lane.log.scrollHeight;
  return { article, body, stats };
}

// What a model thinks before it answers, open until the answer begins.
function think(shown, text) {
  if (!shown.thought) {
    shown.details = element("details", "msg-thought");
    shown.details.open = true;
    shown.thought = element("div");
    shown.details.append(element("summary", "", "Thinking"), shown.thought);
    shown.body.before(shown.details);
  }
  shown.thought.textContent += text;
}

function thoughtEnds(shown, isAnswered, outcome) {
  if (!shown.thought || shown.details.dataset.ended) return;
  shown.details.dataset.ended = "yes";
  shown.details.open = !isAnswered;
  shown.details.querySelector("summary").textContent = "Thought";
  if (!isAnswered && outcome === "length") {
    shown.body.textContent = "The limit was reached while it was thinking. Raise the longest answer and try again.";
    shown.body.dataset.limit = "yes";
  }
}

// What is said of a refusal when the words about refusals themselves could not be fetched.
function plainNote(_form, _token, title, text) {
  const note = element("div", "note is-bad");
  note.setAttribute("role", "alert");
  note.append(element("p", "", `${title}. ${text}`));
  return note;
}

async function fail(lane, title, text, error) {
  const [{ noteOf }, loaded] = await Promise.all([refusals, parts]);
  lane.log.append(noteOf(form, loaded?.[0].csrf(form), title, text, error));
  lane.log.scrollTop = lane.log.scrollHeight;
}

function number(id) {
  const { value } = document.getElementById(id);
  return value === "" ? undefined : Number(value);
}

function settings() {
  return { temperature: number("id_temperature"), top_p: number("id_top_p"), max_tokens: number("id_max_tokens"), seed: number("id_seed") };
}

function messages(lane) {
  const system = document.getElementById("id_system").value;
  // A question that got no answer, in this lane or because it was stopped, is not asked again beside the next.
  const turns = lane.turns.filter((turn, i) => turn.role !== "user" || i === lane.turns.length - 1 || lane.turns[i + 1].role !== "user");
  return [...(system.trim() ? [{ role: "system", content: system }] : []), ...turns.map(({ role, content }) => ({ role, content }))];
}

async function answer(lane, signal) {
  const mine = chat;
  const model = lane.select.value;
  const shown = bubble(lane, model, "model", "");
  shown.article.setAttribute("aria-busy", "true");
  let text = "";
  let requestId = "";
  let outcome = "cut";
  let tokens = null;
  const loaded = await parts;
  if (!loaded) {
    shown.article.remove();
    await fail(lane, "Nothing was sent", "A part of this page could not be fetched. Reload it.");
    return "failed";
  }
  const [{ ask, events }, { draft, receipt }] = loaded;
  try {
    const reply = await ask(form, { ...settings(), model, messages: messages(lane) }, signal);
    requestId = reply.headers.get("X-Kindling-Request") ?? "";
    if (!reply.ok) {
      const { error } = await reply.json().catch(() => ({ error: null }));
      shown.article.remove();
      if (mine !== chat) return "cleared";
      await fail(lane, "No answer", error?.message ?? `The server answered ${reply.status}.`, error);
      announce("No answer");
      return "failed";
    }
    for await (const event of events(reply.body)) {
      if (mine !== chat) break;
      if (event.error) {
        await fail(lane, "The answer broke off", `${event.error.message} Nothing is charged for it.`, event.error);
        outcome = "failed";
      }
      const choice = event.choices?.[0];
      const atEnd = lane.log.scrollHeight - lane.log.scrollTop - lane.log.clientHeight < 40;
      if (choice?.delta?.reasoning_content) think(shown, choice.delta.reasoning_content);
      if (choice?.delta?.content) {
        thoughtEnds(shown, true);
        text += choice.delta.content;
        shown.body.textContent = text;
      }
      if (atEnd) lane.log.scrollTop = lane.log.scrollHeight;
      if (choice?.finish_reason) outcome = choice.finish_reason;
      if (event.usage) tokens = event.usage;
    }
  } catch {
    // Whatever went wrong, nothing has ended the answer: it was stopped, or it is cut off.
  } finally {
    shown.article.setAttribute("aria-busy", "false");
  }
  if (outcome === "cut" && signal.aborted) outcome = "stopped";
  // A cleared answer has no place any more, but its cost is booked and changes the balance.
  if (requestId) receipt({ form, refusals, shown, requestId, outcome }).then(() => { lane.log.scrollTop = lane.log.scrollHeight; });
  if (mine !== chat) return "cleared";
  thoughtEnds(shown, Boolean(text), outcome);
  if (outcome === "cut") {
    await fail(lane, "The connection was lost", text ? "What arrived is kept above." : "No answer arrived.");
    if (!text) outcome = "failed";
  }
  if (outcome === "failed" && !text && !shown.thought) shown.article.remove();
  if (outcome !== "failed" && text) lane.turns.push({ role: "assistant", content: text, model });
  if (tokens) draft(shown.stats, tokens);
  const said = outcome === "failed" ? (text ? "The answer broke off" : "No answer") : (SAID[outcome] ?? "Answer complete");
  announce(`${said}${tokens ? `, ${tokens.completion_tokens} tokens` : ""}`);
  return outcome;
}

function open(lane) {
  return !lane.element.hidden;
}

async function run() {
  const text = message.value;
  // The shortcut goes past the browser's own look at the form: without a model it says what is missing.
  if (!text.trim() || running || !lanes.a.select.reportValidity()) return;
  message.value = "";
  await exchange(text);
}

async function exchange(text) {
  const mine = chat;
  for (const old of form.querySelectorAll("[data-lost]")) old.remove();
  running = new AbortController();
  showTools(false);
  stop.hidden = false;
  send.disabled = true;
  stop.focus();
  const active = Object.values(lanes).filter(open);
  const asked = active.map((lane) => {
    lane.turns.push({ role: "user", content: text });
    return bubble(lane, "You", "user", text).article;
  });
  // Should showing an answer itself go wrong, none counts, and the next can be asked.
  let outcomes = [];
  try {
    outcomes = await Promise.all(active.map((lane) => answer(lane, running.signal)));
  } finally {
    running = null;
    stop.hidden = true;
    send.disabled = false;
    if (mine === chat) {
      const isLost = outcomes.every((outcome) => outcome === "failed");
      // Nothing is lost: the message comes back to be sent again. What is said of this try stays until then.
      if (isLost) takeBackLost(active, asked, text);
      showTools(!isLost);
    }
    message.focus();
  }
}

function takeBackLost(active, asked, text) {
  active.forEach((lane, i) => {
    lane.turns.pop();
    for (let left = asked[i].nextElementSibling; left; left = left.nextElementSibling) left.dataset.lost = "yes";
    asked[i].remove();
  });
  message.value ||= text;
}

// The last question with its answers, out of every lane; gives the question.
function takeBack() {
  let text = "";
  for (const lane of Object.values(lanes).filter(open)) {
    while (lane.turns.at(-1)?.role === "assistant") lane.turns.pop();
    const question = lane.turns.pop();
    if (!question) continue;
    text = question.content;
    const last = [...lane.log.querySelectorAll(".msg.is-user")].at(-1);
    while (last && lane.log.lastElementChild !== last) lane.log.lastElementChild.remove();
    last?.remove();
  }
  return text;
}

function showTools(isShown) {
  again.hidden = !isShown;
  edit.hidden = !isShown;
}

function remember() {
  const url = new URL(location);
  if (lanes.a.select.value) {
    url.searchParams.set("model", lanes.a.select.value);
    document.getElementById("pg-unknown")?.remove();
  }
  if (open(lanes.b)) url.searchParams.set("compare", lanes.b.select.value);
  else url.searchParams.delete("compare");
  history.replaceState(null, "", url);
}

function showCompared(isShown) {
  lanes.b.element.hidden = !isShown;
  compare.hidden = isShown;
  if (isShown && !new URL(location).searchParams.get("compare")) {
    const choices = JSON.parse(document.getElementById("pg-choices").textContent);
    const chosen = choices.find((choice) => choice.ref === lanes.a.select.value);
    // An adapter is compared with its base, a base with its first adapter.
    const other = chosen?.base || choices.find((choice) => choice.base === chosen?.ref)?.ref;
    if (other) lanes.b.select.value = other;
  }
  remember();
}

function wipe() {
  chat += 1;
  for (const lane of Object.values(lanes)) {
    lane.turns = [];
    lane.log.replaceChildren();
  }
  showTools(false);
  if (placeholder) lanes.a.log.append(placeholder.cloneNode(true));
}

async function showCode() {
  const { write } = await import(form.dataset.code);
  const turns = messages(lanes.a);
  const next = message.value.trim();
  if (next || !turns.some((turn) => turn.role === "user")) turns.push({ role: "user", content: next || "Hello!" });
  if (turns.at(-1).role === "assistant") turns.pop();
  write({ turns, settings: settings(), model: lanes.a.select.value || "YOUR_MODEL", baseUrl: form.dataset.baseUrl });
  document.getElementById("pg-code-dialog").showModal();
}

// The chat is kept in this tab for a reload, and for whoever comes back to the same address.
function keep() {
  const talks = Object.fromEntries(Object.entries(lanes).map(([name, lane]) => [name, lane.turns]));
  const kept = { search: location.search, talks, draft: message.value };
  try {
    sessionStorage.setItem(KEPT, JSON.stringify(kept));
  } catch {
    sessionStorage.removeItem(KEPT);
  }
}

function lastKept() {
  try {
    return JSON.parse(sessionStorage.getItem(KEPT));
  } catch {
    return null;
  }
}

function bringBack() {
  const kept = lastKept();
  if (!kept?.talks || kept.search !== location.search || lanes.a.log.querySelector(".msg, .note")) return;
  message.value ||= kept.draft;
  for (const [name, lane] of Object.entries(lanes)) {
    lane.turns = kept.talks[name] ?? [];
    for (const { role, content, model } of lane.turns) bubble(lane, model ?? "You", role === "user" ? "user" : "model", content);
  }
  showTools(lanes.a.turns.length > 0);
}

if (matchMedia("(max-width: 1080px)").matches) form.querySelector(".pg-settings").open = false;
for (const button of [compare, clear, code]) button.hidden = false;
form.addEventListener("submit", (event) => { event.preventDefault(); run(); });
message.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); run(); }
});
stop.addEventListener("click", () => running?.abort());
clear.addEventListener("click", () => { running?.abort(); wipe(); message.focus(); });
code.addEventListener("click", showCode);
again.addEventListener("click", () => { if (!running && lanes.a.select.reportValidity()) exchange(takeBack()); });
edit.addEventListener("click", () => {
  if (running) return;
  message.value = takeBack();
  showTools(lanes.a.turns.length > 0);
  message.focus();
});
compare.addEventListener("click", () => showCompared(true));
document.getElementById("pg-single").addEventListener("click", () => showCompared(false));
for (const lane of Object.values(lanes)) lane.select.addEventListener("change", remember);
const compared = new URL(location).searchParams.get("compare");
if (compared && lanes.b.select.value === compared) showCompared(true);
bringBack();
addEventListener("pagehide", keep);
