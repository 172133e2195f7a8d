// Chat or raw: what has no chat template is only ever given a raw text, and the links to the modes keep the model.
const form = document.getElementById("playground");
const select = document.getElementById("id_model");
const modes = document.getElementById("pg-modes");
let last = select.value;

select.addEventListener("change", (event) => {
  const isRawOnly = "raw" in select.selectedOptions[0].dataset;
  if (isRawOnly && form.dataset.mode === "chat") {
    const url = new URL(form.action);
    url.searchParams.set("model", select.value);
    // The chat stays what it was, for whoever comes back to it.
    event.stopImmediatePropagation();
    select.value = last;
    location.assign(url);
    return;
  }
  last = select.value;
  modes.hidden = isRawOnly;
  for (const link of modes.querySelectorAll("a")) {
    const url = new URL(link.href);
    url.searchParams.set("model", select.value);
    link.href = url;
  }
});
