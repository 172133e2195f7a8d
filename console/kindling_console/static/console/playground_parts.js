// What the playground's modes do alike: lanes side by side, asking and reading, notes, the kept talk, code and sharing.
export const form = document.getElementById("playground");
const send = document.getElementById("pg-send");
const stop = document.getElementById("pg-stop");
const compare = document.getElementById("pg-compare");
const share = document.getElementById("pg-share");
export const lanes = [...form.querySelectorAll("[data-lane]")].map((element) => ({
  name: element.dataset.lane, element, log: element.querySelector(".pg-log"), select: element.querySelector("select"), turns: [],
}));
const placeholder = lanes[0].log.querySelector(".pg-empty")?.cloneNode(true);
const KEPT = `kindling.playground.${form.dataset.mode === "raw" ? "raw." : ""}${form.dataset.kept}`;
// Fetched at once: they are needed when nothing can be fetched any more.
const parts = Promise.all([import(form.dataset.stream), import(form.dataset.stats)]).catch(() => null);
const refusals = import(form.dataset.refusals).catch(() => ({ noteOf: plainNote, apart: (text) => element("span", "", text) }));
let running = null;

export function announce(text) {
  document.dispatchEvent(new CustomEvent("kindling:announce", { detail: text }));
}

export function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

// What is said of a refusal when the words about refusals themselves could not be fetched.
function plainNote(_form, _token, title, text) {
  const note = element("div", "note is-bad");
  note.setAttribute("role", "alert");
  note.append(element("p", "", `${title}. ${text}`));
  return note;
}

export async function fail(lane, title, text, error) {
  const [{ noteOf }, loaded] = await Promise.all([refusals, parts]);
  lane.log.append(noteOf(form, loaded?.[0].csrf(form), title, text, error));
  lane.log.scrollTop = lane.log.scrollHeight;
}

function number(id) {
  const { value } = document.getElementById(id);
  return value === "" ? undefined : Number(value);
}

export function settings() {
  return { temperature: number("id_temperature"), top_p: number("id_top_p"), max_tokens: number("id_max_tokens"), seed: number("id_seed") };
}

export function isOpen(lane) {
  return !lane.element.hidden;
}

export function isRunning() {
  return running !== null;
}

// One answer at a time, or one in each lane; the stop button ends them all.
export async function during(work) {
  const mine = new AbortController();
  running = mine;
  stop.hidden = false;
  send.disabled = true;
  stop.focus();
  try {
    return await work(mine.signal);
  } finally {
    running = null;
    stop.hidden = true;
    send.disabled = false;
  }
}

// Asks in a lane and reads what comes, until it `isGone`. Gives how it ended, and what a turn keeps of the request.
export async function exchange({ lane, fields, signal, shown, words, isGone, hasText, onChoice, onRefused }) {
  const turn = { model: lane.select.value };
  shown.article.setAttribute("aria-busy", "true");
  const loaded = await parts;
  if (!loaded) {
    onRefused();
    await fail(lane, "Nothing was sent", "A part of this page could not be fetched. Reload it.");
    return { outcome: "failed" };
  }
  const [{ ask, events }, { draft, receipt }] = loaded;
  let outcome = "cut";
  let tokens = null;
  try {
    const reply = await ask(form, { ...settings(), model: turn.model, ...fields }, signal);
    turn.request = reply.headers.get("X-Kindling-Request") ?? "";
    if (!reply.ok) {
      const { error } = await reply.json().catch(() => ({ error: null }));
      onRefused();
      if (isGone()) return { outcome: "cleared" };
      await fail(lane, words.none, error?.message ?? `The server answered ${reply.status}.`, error);
      announce(words.none);
      return { outcome: "failed" };
    }
    for await (const event of events(reply.body)) {
      if (isGone()) break;
      if (event.error) {
        await fail(lane, words.broke, `${event.error.message} Nothing is charged for it.`, event.error);
        outcome = "failed";
      }
      const choice = event.choices?.[0];
      const atEnd = lane.log.scrollHeight - lane.log.scrollTop - lane.log.clientHeight < 40;
      if (choice) onChoice(choice);
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
  turn.outcome = outcome;
  // A cleared answer has no place any more, but its cost is booked and changes the balance.
  if (turn.request) receipt({ form, refusals, shown, requestId: turn.request, outcome }).then((row) => { turn.row = row; lane.log.scrollTop = lane.log.scrollHeight; });
  if (isGone()) return { outcome: "cleared" };
  if (outcome === "cut") {
    await fail(lane, "The connection was lost", hasText() ? "What arrived is kept above." : words.nothing);
    if (!hasText()) outcome = "failed";
  }
  if (tokens) draft(shown.stats, tokens);
  const said = outcome === "failed" ? (hasText() ? words.broke : words.none) : (words[outcome] ?? words.complete);
  announce(`${said}${tokens ? `, ${tokens.completion_tokens} tokens` : ""}`);
  return { outcome, turn };
}

// The numbers under an answer that was kept or shared.
export async function numberAgain(shown, { row, outcome }) {
  const loaded = row && (await parts);
  if (loaded) await loaded[1].write({ form, refusals, shown, row, outcome });
}

export function remember() {
  const url = new URL(location);
  if (lanes[0].select.value) {
    url.searchParams.set("model", lanes[0].select.value);
    document.getElementById("pg-unknown")?.remove();
  }
  url.searchParams.delete("compare");
  for (const lane of lanes.slice(1).filter(isOpen)) url.searchParams.append("compare", lane.select.value);
  history.replaceState(null, "", url);
}

// An adapter is compared with its base, a base with an adapter of its own, and anything with what is left.
function rivalOf(lane) {
  const shown = lanes.filter((one) => one !== lane && isOpen(one)).map((one) => one.select.value);
  const choices = JSON.parse(document.getElementById("pg-choices").textContent);
  const chosen = choices.find((choice) => choice.ref === shown[0]);
  const close = [chosen?.base, ...choices.filter((choice) => chosen && choice.base === chosen.ref).map((choice) => choice.ref)];
  const offered = [...lane.select.options].map((option) => option.value);
  return [...close, ...offered].find((ref) => ref && offered.includes(ref) && !shown.includes(ref));
}

function showLane(lane, isShown) {
  lane.element.hidden = !isShown;
  compare.hidden = lanes.every(isOpen);
}

function compareOneMore() {
  const lane = lanes.find((one) => !isOpen(one));
  lane.select.value = rivalOf(lane) ?? lane.select.value;
  showLane(lane, true);
  remember();
}

export function empty() {
  for (const lane of lanes) {
    lane.turns = [];
    lane.log.replaceChildren();
  }
  if (placeholder) lanes[0].log.append(placeholder.cloneNode(true));
}

// What is said is kept in this tab for a reload, and for whoever comes back to the same address.
function keep(input) {
  const talks = Object.fromEntries(lanes.map((lane) => [lane.name, lane.turns]));
  try {
    sessionStorage.setItem(KEPT, JSON.stringify({ search: location.search, talks, draft: input.value }));
  } catch {
    sessionStorage.removeItem(KEPT);
  }
}

function lastKept() {
  try {
    const kept = JSON.parse(sessionStorage.getItem(KEPT));
    return kept?.talks && kept.search === location.search ? kept : null;
  } catch {
    return null;
  }
}

// What somebody has shared, for whoever goes on with it as their own.
function shared() {
  const found = document.getElementById("pg-shared");
  return found && { talks: Object.fromEntries(JSON.parse(found.textContent).map((turns, i) => [lanes[i].name, turns])) };
}

function bringBack(input, draw) {
  const kept = lastKept() ?? shared();
  if (!kept || lanes[0].log.querySelector(".msg, .note")) return;
  input.value ||= kept.draft ?? "";
  for (const lane of lanes) {
    lane.turns = kept.talks[lane.name] ?? [];
    if (lane.turns.length) draw(lane);
  }
}

async function showCode(codeOf) {
  const { write } = await import(form.dataset.code);
  write({ ...codeOf(), settings: settings(), model: lanes[0].select.value || "YOUR_MODEL", baseUrl: form.dataset.baseUrl });
  document.getElementById("pg-code-dialog").showModal();
}

function conversation() {
  const turnOf = ({ role, content, model, thought, request }) => ({ role, content, ...(model && { model }), ...(thought && { thought }), ...(request && { request_id: request }) });
  const said = lanes.filter((lane) => isOpen(lane) && lane.turns.length);
  const system = document.getElementById("id_system")?.value;
  return {
    mode: form.dataset.mode, params: settings(), ...(system?.trim() && { system }),
    lanes: said.map((lane) => ({ model: lane.select.value || lane.turns.at(-1).model, turns: lane.turns.map(turnOf) })),
  };
}

function shareInside() {
  if (running) return;
  if (!lanes.some((lane) => isOpen(lane) && lane.turns.length)) {
    fail(lanes[0], "Nothing to share yet", "Ask something first.");
    return;
  }
  document.getElementById("pg-share-dialog").showModal();
}

function sharing(event) {
  if (event.submitter?.formMethod === "dialog") return;
  const text = JSON.stringify(conversation());
  const { most } = event.target.dataset;
  if (new Blob([text]).size > Number(most)) {
    event.preventDefault();
    document.getElementById("pg-share-dialog").close();
    fail(lanes[0], "Too long to share", `Up to ${Math.floor(most / 1024)} KiB of a conversation can be shared. Begin a new one with what matters.`);
    return;
  }
  event.target.elements.conversation.value = text;
}

// `draw` shows a lane's turns again, `codeOf` gives what is asked, as a conversation or as a text.
export function begin({ input, run, wipe, draw, codeOf }) {
  if (matchMedia("(max-width: 1080px)").matches) form.querySelector(".pg-settings").open = false;
  for (const id of ["pg-clear", "pg-code", "pg-compare", "pg-share"]) document.getElementById(id).hidden = false;
  form.addEventListener("submit", (event) => { event.preventDefault(); run(); });
  input.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); run(); }
  });
  stop.addEventListener("click", () => running?.abort());
  document.getElementById("pg-clear").addEventListener("click", () => { running?.abort(); wipe(); input.focus(); });
  document.getElementById("pg-code").addEventListener("click", () => showCode(codeOf));
  share.addEventListener("click", shareInside);
  document.getElementById("pg-share-form")?.addEventListener("submit", sharing);
  compare.addEventListener("click", compareOneMore);
  const compared = new URL(location).searchParams.getAll("compare");
  lanes.forEach((lane, i) => {
    lane.select.addEventListener("change", remember);
    lane.element.querySelector("[data-single]")?.addEventListener("click", () => { showLane(lane, false); remember(); });
    if (i && compared[i - 1] && lane.select.value === compared[i - 1]) showLane(lane, true);
  });
  bringBack(input, draw);
  addEventListener("pagehide", () => keep(input));
}
