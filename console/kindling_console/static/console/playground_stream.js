// Asks for an answer, and reads it as it comes.

// Signing in again, in another tab, makes a new one.
export function csrf(form) {
  return document.cookie.match(/(?:^|; )csrftoken=([^;]+)/)?.[1] ?? form.elements.csrfmiddlewaretoken.value;
}

export function ask(form, fields, signal) {
  const org = form.elements.kindling_org.value;
  return fetch(form.dataset.run, {
    method: "POST", signal, headers: { "Content-Type": "application/json", "X-CSRFToken": csrf(form), "X-Kindling-Org": org },
    body: JSON.stringify(fields),
  });
}

export async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    rest += value;
    const blocks = rest.split(/\r?\n\r?\n/);
    rest = blocks.pop();
    for (const block of blocks) {
      const data = block.split(/\r?\n/).filter((line) => line.startsWith("data:")).map((line) => line.slice(5).trimStart()).join("\n");
      if (data && data !== "[DONE]") yield JSON.parse(data);
    }
  }
}
