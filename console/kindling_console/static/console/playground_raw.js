// The playground's raw mode: models go on with a text, and what each adds streams in behind it.
const { begin, during, element, empty, exchange, isOpen, isRunning, lanes, numberAgain } = await import(document.getElementById("playground").dataset.parts);
const prompt = document.getElementById("id_prompt");
const WORDS = {
  none: "No completion", broke: "The completion broke off", nothing: "Nothing arrived.", stopped: "Completion stopped",
  length: "Completion ended at the limit", cut: "The completion was cut off", complete: "Completion complete",
};

// What stands in a lane: a text, and what its model has added to it.
function show(lane, given, added) {
  const article = element("article", "msg is-raw");
  const body = element("div", "msg-text");
  const made = element("mark", "pg-made", added);
  const stats = element("p", "msg-stats");
  body.append(element("span", "pg-given", given), made);
  article.append(body, stats);
  lane.log.replaceChildren(article);
  lane.shown = { article, body, made, stats };
  return lane.shown;
}

function offer(shown, given) {
  if (!shown.made.textContent) return;
  const on = element("button", "btn btn-sm pg-on", "Take as prompt");
  on.type = "button";
  on.addEventListener("click", () => {
    if (isRunning()) return;
    prompt.value = given + shown.made.textContent;
    prompt.focus();
    prompt.setSelectionRange(prompt.value.length, prompt.value.length);
  });
  shown.article.append(on);
}

async function complete(lane, given, signal) {
  lane.turns = [{ role: "user", content: given }];
  const shown = show(lane, given, "");
  const { outcome, turn } = await exchange({
    lane, signal, shown, fields: { prompt: given }, words: WORDS,
    isGone: () => shown !== lane.shown, hasText: () => Boolean(shown.made.textContent), onRefused: () => {},
    onChoice: ({ text }) => { if (text) shown.made.textContent += text; },
  });
  shown.article.setAttribute("aria-busy", "false");
  if (outcome === "cleared") return;
  offer(shown, given);
  const added = shown.made.textContent;
  if (added && turn) lane.turns.push(Object.assign(turn, { role: "assistant", content: added }));
}

async function run() {
  // The shortcut goes past the browser's own look at the form.
  if (!prompt.value || isRunning() || !lanes[0].select.reportValidity()) return;
  const given = prompt.value;
  try {
    await during((signal) => Promise.all(lanes.filter(isOpen).map((lane) => complete(lane, given, signal))));
  } finally {
    prompt.focus();
  }
}

function wipe() {
  for (const lane of lanes) lane.shown = null;
  prompt.value = "";
  empty();
}

function draw(lane) {
  const [given, added] = lane.turns;
  const shown = show(lane, given.content, added?.content ?? "");
  offer(shown, given.content);
  if (added) numberAgain(shown, added);
}

begin({ input: prompt, run, wipe, draw, codeOf: () => ({ text: prompt.value || prompt.placeholder }) });
