// What the playground says when no answer comes: why, what to do about it, and where.
const { element } = await import(document.getElementById("playground").dataset.parts);

function fixes({ billing, limits, signIn }) {
  const shorter = ["Clear the chat or shorten it."];
  const later = "try again in some seconds.";
  return {
    insufficient_credit: billing ? ["Add credit, or shorten the prompt and the longest answer.", "Add credit under Billing", billing] : ["Ask an owner or admin to add credit, or shorten the prompt and the longest answer."],
    budget_exceeded: limits ? ["Owners and admins can raise it.", "See Limits", limits] : ["Ask an owner or admin to raise it."],
    context_length_exceeded: shorter,
    request_too_large: shorter,
    organisation_left: ["Reload the page to go on in the other one."],
    signed_out: ["Sign in in a new tab, come back here and send it once more.", "Sign in", signIn],
    no_replica: [`No engine is ready for this model. It may be starting: ${later}`],
    model_not_found: ["It may have been deleted. Reload the page to see what can be called."],
    overloaded: [`Many requests run at the moment: ${later}`],
  };
}

export function apart(text, url) {
  const made = element("a", "", text);
  made.href = url;
  made.target = "_blank";
  return made;
}

// A code that the index of errors has an entry for.
function linked(code, entry) {
  const link = apart("", entry);
  link.append(element("code", "", code));
  return link;
}

// Back to the organisation that this page shows; its chat is kept over that.
function wayBack(form, token) {
  const button = element("button", "btn", "Change back");
  button.type = "button";
  // A form of its own, elsewhere: the playground's may hold no other.
  const back = element("form");
  const fields = { csrfmiddlewaretoken: token, organisation: form.elements.kindling_org.value, next: location.pathname + location.search };
  Object.assign(back, { method: "post", action: form.dataset.change });
  for (const [name, value] of Object.entries(fields)) {
    const input = element("input");
    Object.assign(input, { type: "hidden", name, value });
    back.append(input);
  }
  button.addEventListener("click", () => { document.body.append(back); back.submit(); });
  return button;
}

export function noteOf(form, token, title, text, error) {
  const { code, doc_url: entry } = error ?? {};
  const note = element("div", "note is-bad");
  note.setAttribute("role", "alert");
  const inner = element("div");
  const line = element("p", "", text);
  if (code) line.append(" ", entry ? linked(code, entry) : element("code", "", code));
  inner.append(element("strong", "", title), line);
  const [fix, place, url] = fixes(form.dataset)[code] ?? [];
  if (fix) {
    const advice = element("p", "", fix);
    if (url) advice.append(" ", apart(place, url));
    inner.append(advice);
  }
  note.append(inner);
  if (code === "organisation_changed") inner.append(wayBack(form, token));
  return note;
}
