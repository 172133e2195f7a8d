// The numbers under an answer: those of its stream at once, then those that were booked.
const TRIES = 40;
const FIRST_MS = 700;
const WAIT_MS = 300;
const { element } = await import(document.getElementById("playground").dataset.parts);

function fact(label, value) {
  const span = element("span");
  span.append(element("b", "", value), ` ${label}`);
  return span;
}

export function draft(stats, tokens) {
  stats.replaceChildren(fact("in", tokens.prompt_tokens), fact("out", tokens.completion_tokens), element("span", "", "being booked"));
}

// The ledger has the last word: its row appears within two seconds of the answer's end. Gives the row.
export async function receipt({ form, refusals, shown, requestId, outcome }) {
  const url = form.dataset.receipt.replace("REQUEST", requestId);
  for (let attempt = 0; attempt < TRIES; attempt += 1) {
    await new Promise((resolve) => setTimeout(resolve, attempt ? WAIT_MS : FIRST_MS));
    const reply = await fetch(url, { headers: { Accept: "application/json" } }).catch(() => null);
    if (!reply?.ok) continue;
    const row = await reply.json();
    await write({ form, refusals, shown, row, outcome });
    const balance = document.querySelector("[data-balance]");
    if (balance && row.balance) balance.textContent = row.balance;
    return row;
  }
  shown.stats.append(element("span", "", "The cost will appear under Usage."));
  return undefined;
}

// What was booked, under its answer.
export async function write({ form, refusals, shown: { stats, body }, row, outcome }) {
  const { apart } = await refusals;
  const ranOut = row.finish === "grant_refused";
  const cost = element(row.url ? "a" : "span", "", row.cost);
  if (row.url) cost.href = row.url;
  cost.title = `$${row.cost_exact_usd}, booked`;
  const parts = [
    row.first_token_ms === null ? null : fact("ms to first token", row.first_token_ms),
    row.tokens_per_s === null ? null : fact("tok/s", row.tokens_per_s),
    fact(row.cached_tokens ? `in (${row.cached_tokens} cached)` : "in", row.prompt_tokens),
    fact("out", row.completion_tokens), cost,
    outcome === "stopped" ? element("span", "", "stopped by you") : null,
    outcome === "length" && !ranOut ? element("span", "", "ended at the limit") : null,
    ranOut ? element("span", "", "cut: credit or a budget ran out") : null,
    ranOut && form.dataset.billing ? apart("Billing", form.dataset.billing) : null,
    ranOut && form.dataset.limits ? apart("Limits", form.dataset.limits) : null,
  ];
  if (ranOut && body.dataset.limit) body.textContent = "Credit or a budget ran out while it was thinking.";
  stats.replaceChildren(...parts.filter(Boolean));
  stats.dataset.booked = row.cost_exact_usd;
}
