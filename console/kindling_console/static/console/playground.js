// The playground's chat: streams answers, stops them, and shows what the engine's log and the ledger say of each.
const { begin, during, element, empty, exchange, form, isOpen, isRunning, lanes, numberAgain } = await import(document.getElementById("playground").dataset.parts);
const message = document.getElementById("id_message");
const again = document.getElementById("pg-again");
const edit = document.getElementById("pg-edit");
const WORDS = {
  none: "No answer", broke: "The answer broke off", nothing: "No answer arrived.", stopped: "Answer stopped",
  length: "Answer ended at the limit", cut: "The answer was cut off", complete: "Answer complete",
};
// Grows when the chat is cleared: what an earlier one still waits for has no place in it.
let chat = 0;

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

function messages(lane) {
  const system = document.getElementById("id_system").value;
  // A question that got no answer, in this lane or because it was stopped, is not asked again beside the next.
  const turns = lane.turns.filter((turn, i) => turn.role !== "user" || i === lane.turns.length - 1 || lane.turns[i + 1].role !== "user");
  return [...(system.trim() ? [{ role: "system", content: system }] : []), ...turns.map(({ role, content }) => ({ role, content }))];
}

async function answer(lane, signal) {
  const mine = chat;
  const shown = bubble(lane, lane.select.value, "model", "");
  let text = "";
  const { outcome, turn } = await exchange({
    lane, signal, shown, fields: { messages: messages(lane) }, words: WORDS,
    isGone: () => mine !== chat, hasText: () => Boolean(text), onRefused: () => shown.article.remove(),
    onChoice: ({ delta }) => {
      if (delta?.reasoning_content) think(shown, delta.reasoning_content);
      if (!delta?.content) return;
      thoughtEnds(shown, true);
      text += delta.content;
      shown.body.textContent = text;
    },
  });
  if (outcome === "cleared") return outcome;
  thoughtEnds(shown, Boolean(text), outcome);
  if (outcome === "failed" && !text && !shown.thought) shown.article.remove();
  if (outcome !== "failed" && text) lane.turns.push(Object.assign(turn, { role: "assistant", content: text, thought: shown.thought?.textContent }));
  return outcome;
}

async function run() {
  const text = message.value;
  // The shortcut goes past the browser's own look at the form: without a model it says what is missing.
  if (!text.trim() || isRunning() || !lanes[0].select.reportValidity()) return;
  message.value = "";
  await askAll(text);
}

async function askAll(text) {
  const mine = chat;
  for (const old of form.querySelectorAll("[data-lost]")) old.remove();
  showTools(false);
  const active = lanes.filter(isOpen);
  const asked = active.map((lane) => {
    lane.turns.push({ role: "user", content: text });
    return bubble(lane, "You", "user", text).article;
  });
  // Should showing an answer itself go wrong, none counts, and the next can be asked.
  let outcomes = [];
  try {
    outcomes = await during((signal) => Promise.all(active.map((lane) => answer(lane, signal))));
  } finally {
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
  for (const lane of lanes.filter(isOpen)) {
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

function wipe() {
  chat += 1;
  empty();
  showTools(false);
}

function draw(lane) {
  for (const turn of lane.turns) {
    const shown = bubble(lane, turn.model ?? "You", turn.role === "user" ? "user" : "model", turn.content);
    if (turn.thought) {
      think(shown, turn.thought);
      thoughtEnds(shown, true);
    }
    numberAgain(shown, turn);
  }
  showTools(true);
}

function codeOf() {
  const turns = messages(lanes[0]);
  const next = message.value.trim();
  if (next || !turns.some((turn) => turn.role === "user")) turns.push({ role: "user", content: next || "Hello!" });
  if (turns.at(-1).role === "assistant") turns.pop();
  return { turns };
}

again.addEventListener("click", () => { if (!isRunning() && lanes[0].select.reportValidity()) askAll(takeBack()); });
edit.addEventListener("click", () => {
  if (isRunning()) return;
  message.value = takeBack();
  showTools(lanes[0].turns.length > 0);
  message.focus();
});
begin({ input: message, run, wipe, draw, codeOf });
