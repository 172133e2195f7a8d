// Uploads an adapter file by file in parts over the control API, and goes on where it stopped after a reload.
const PART_BYTES = 8 * 1024 * 1024;
const RETRIES = 4;
const NEEDED = ["adapter_config.json", "adapter_model.safetensors"];
// The checks look at the licence in the card and at the tokenizer, if they come along.
const WANTED = [...NEEDED, "README.md", "tokenizer.json"];
const form = document.getElementById("upload");
const input = document.getElementById("id_files");
const zone = document.getElementById("dropzone");
const list = document.getElementById("upload-files");
const outcome = document.getElementById("upload-outcome");
const start = document.getElementById("upload-start");
const stop = document.getElementById("upload-stop");
const token = form.querySelector("[name=csrfmiddlewaretoken]").value;
let chosen = [];
let adapterId = form.dataset.resume ?? "";
let pause = null;

class Refusal extends Error {
  constructor(error, status) {
    super(error?.message ?? `The server answered ${status}.`);
    this.code = error?.code ?? "";
    this.status = status;
  }
}

async function call(method, path, { body, headers = {}, signal } = {}) {
  const reply = await fetch(form.dataset.api + path, {
    method, body, signal, headers: { "X-CSRFToken": token, Accept: "application/json", ...headers },
  });
  const text = await reply.text();
  const data = text ? JSON.parse(text) : null;
  if (!reply.ok) throw new Refusal(data?.error, reply.status);
  return data;
}

function row(file) {
  const item = document.createElement("li");
  const name = document.createElement("span");
  name.className = "mono clip";
  name.textContent = file.name;
  const note = document.createElement("span");
  note.className = "upload-note";
  const bar = document.createElement("progress");
  bar.max = file.size;
  bar.value = 0;
  bar.setAttribute("aria-label", `${file.name} sent`);
  item.append(name, note, bar);
  list.append(item);
  return {
    show(sent, words) {
      bar.value = sent;
      note.textContent = words ?? (sent >= file.size ? "sent" : `${Math.floor((100 * sent) / file.size)} % of ${size(file.size)}`);
    },
  };
}

function size(bytes) {
  const units = ["B", "kB", "MB", "GB"];
  let unit = 0;
  while (bytes >= 1000 && unit < units.length - 1) { bytes /= 1000; unit += 1; }
  return `${unit ? bytes.toFixed(1) : bytes} ${units[unit]}`;
}

function choose(files) {
  // A folder brings paths; the API takes bare names, so the deepest part is the name.
  chosen = files.filter((file) => !file.name.startsWith("."));
  list.replaceChildren();
  outcome.replaceChildren();
  for (const file of chosen) file.row = row(file);
  for (const file of chosen) file.row.show(0, size(file.size));
  list.hidden = chosen.length === 0;
  const name = document.getElementById("id_name");
  const zip = archive();
  if (!name.value && (zip || chosen.folder)) name.value = slug(zip ? zip.name.replace(/\.zip$/i, "") : chosen.folder);
  document.dispatchEvent(new CustomEvent("kindling:announce", { detail: `${chosen.length} files chosen` }));
}

function slug(text) {
  return text.toLowerCase().replace(/[^a-z0-9._-]+/g, "-").replace(/^[^a-z0-9]+|[^a-z0-9]+$/g, "").slice(0, 64);
}

function archive() {
  return chosen.find((file) => file.name.toLowerCase().endsWith(".zip"));
}

async function dropped(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.some((entry) => entry.isDirectory)) return [...transfer.files];
  const files = [];
  for (const entry of entries) await gather(entry, files);
  files.folder = entries.find((entry) => entry.isDirectory).name;
  return files;
}

async function gather(entry, files) {
  if (entry.isFile) {
    files.push(await new Promise((resolve, reject) => entry.file(resolve, reject)));
    return;
  }
  const reader = entry.createReader();
  // A reader gives its entries in batches until one is empty.
  for (;;) {
    const batch = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!batch.length) return;
    for (const child of batch) await gather(child, files);
  }
}

function say(title, message, code) {
  const note = document.createElement("div");
  note.className = "note is-bad";
  note.setAttribute("role", "alert");
  const strong = document.createElement("strong");
  strong.textContent = title;
  const text = document.createElement("p");
  text.textContent = message;
  if (code) {
    const tag = document.createElement("code");
    tag.textContent = code;
    text.append(" ", tag);
  }
  const body = document.createElement("div");
  body.append(strong, text);
  note.append(body);
  outcome.replaceChildren(note);
}

async function begin() {
  const zip = archive();
  if (!adapterId) {
    const files = zip ? [] : chosen.map((file) => ({ name: file.name, size_bytes: file.size }));
    const made = await call("POST", "", {
      body: JSON.stringify({ name: form.elements.name.value, base_model: form.elements.base_model.value, files }),
      headers: { "Content-Type": "application/json" },
    });
    adapterId = made.id;
    // From here on a reload can go on with what has arrived.
    history.replaceState(null, "", `?adapter=${adapterId}`);
  }
  if (zip) {
    zip.row.show(0, "sending");
    await call("PUT", `/${adapterId}/zip`, { body: zip, headers: { "Content-Type": "application/zip" }, signal: pause.signal });
    zip.row.show(zip.size);
    return;
  }
  const arrived = new Map((await call("GET", `/${adapterId}/files`)).data.map((file) => [file.name, file]));
  // Small files go first: the config shows a wrong base at once.
  const wanted = chosen.filter((file) => WANTED.includes(file.name) && (file.size || NEEDED.includes(file.name))).sort((a, b) => a.size - b.size);
  for (const file of chosen) if (!wanted.includes(file)) file.row.show(file.size, "not needed, left out");
  for (const file of wanted) await send(file, arrived.get(file.name)?.received_bytes ?? 0);
}

async function send(file, from) {
  let offset = Math.min(from, file.size);
  file.row.show(offset);
  while (offset < file.size) {
    const end = Math.min(offset + PART_BYTES, file.size);
    await part(file, offset, end);
    offset = end;
    file.row.show(offset);
  }
}

async function part(file, offset, end) {
  for (let attempt = 0; ; attempt += 1) {
    try {
      await call("PUT", `/${adapterId}/files/${encodeURIComponent(file.name)}`, {
        body: file.slice(offset, end), signal: pause.signal,
        headers: { "Content-Type": "application/octet-stream", "Content-Range": `bytes ${offset}-${end - 1}/${file.size}` },
      });
      return;
    } catch (error) {
      const isFinal = error.name === "AbortError" || (error instanceof Refusal && error.status < 500);
      if (isFinal || attempt >= RETRIES) throw error;
      await new Promise((resolve) => setTimeout(resolve, 500 * 2 ** attempt));
    }
  }
}

function busy(isBusy) {
  start.disabled = isBusy;
  stop.hidden = !isBusy;
  start.setAttribute("aria-busy", String(isBusy));
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  if (!chosen.length) {
    say("No files yet", "Drop the adapter's folder, its two files or a zip of them.");
    input.focus();
    return;
  }
  pause = new AbortController();
  outcome.replaceChildren();
  busy(true);
  const page = () => form.dataset.page.replace("ADAPTER", adapterId);
  try {
    await begin();
    await call("POST", `/${adapterId}/complete`);
    location.assign(page());
  } catch (error) {
    busy(false);
    if (error.name === "AbortError") say("Paused", "What has arrived is kept. Press the button to go on.");
    else if (error.code === "adapter_rejected") location.assign(page());
    else if (error instanceof Refusal) say("This cannot be uploaded", error.message, error.code);
    else say("The connection was lost", "What has arrived is kept. Press the button to go on.");
  }
});

stop.addEventListener("click", () => pause?.abort());
input.addEventListener("change", () => choose([...input.files]));
for (const type of ["dragenter", "dragover"]) {
  zone.addEventListener(type, (event) => { event.preventDefault(); zone.classList.add("is-over"); });
}
for (const type of ["dragleave", "drop"]) zone.addEventListener(type, () => zone.classList.remove("is-over"));
zone.addEventListener("drop", async (event) => {
  event.preventDefault();
  const files = await dropped(event.dataTransfer);
  const { folder } = files;
  choose(files);
  if (folder && !form.elements.name.value) form.elements.name.value = slug(folder);
  input.required = false;
});
