// Uploads an adapter file by file in parts over the control API, and goes on where it stopped after a reload, if the
// files are still the same.
const PART_BYTES = 8 * 1024 * 1024;
const RETRIES = 4;
const WEIGHTS = "adapter_model.safetensors";
const NEEDED = ["adapter_config.json", WEIGHTS];
// The checks look at the licence in the card and at the tokenizer, if they come along.
const WANTED = [...NEEDED, "README.md", "tokenizer.json"];
const PICKLE = /\.(bin|pt|pth|pkl|pickle|ckpt|joblib)$/i;
// What is wrong with the files themselves; other refusals pass, and what has arrived is kept until then.
const HOPELESS = new Set(["zip_refused", "pickle_refused", "file_not_expected", "file_too_large", "empty_file"]);
const form = document.getElementById("upload");
const input = document.getElementById("id_files");
const zone = document.getElementById("dropzone");
const list = document.getElementById("upload-files");
const outcome = document.getElementById("upload-outcome");
const start = document.getElementById("upload-start");
const stop = document.getElementById("upload-stop");
const token = form.querySelector("[name=csrfmiddlewaretoken]").value;
const org = form.querySelector("[name=kindling_org]").value;
let chosen = [];
// The adapter whose files are sent, and what it was made with. A browser may have kept what was typed over a reload.
let upload = {
  id: form.dataset.resume ?? "",
  name: form.elements.name.defaultValue,
  base: [...form.elements.base_model.options].find((option) => option.defaultSelected)?.value,
};
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
    method, body, signal, headers: { "X-CSRFToken": token, "X-Kindling-Org": org, Accept: "application/json", ...headers },
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

function say(title, message, { code, isBad = true } = {}) {
  const note = document.createElement("div");
  note.className = isBad ? "note is-bad" : "note";
  note.setAttribute("role", isBad ? "alert" : "status");
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

// Why these files make no adapter, before anything is created for them.
function lacking(files) {
  if (archive() || hasPickle(files)) return "";
  const names = files.map((file) => file.name);
  const twice = NEEDED.find((name) => names.indexOf(name) !== names.lastIndexOf(name));
  if (twice) return `There is more than one ${twice}; choose the files of one adapter.`;
  const missing = NEEDED.filter((name) => !names.includes(name));
  return missing.length ? `Choose ${missing.join(" and ")} too.` : "";
}

// The server refuses them, and says what to do instead.
function hasPickle(files) {
  return files.some((file) => PICKLE.test(file.name));
}

async function begin() {
  const zip = archive();
  // Small files go first: the config shows a wrong base at once.
  const wanted = chosen.filter((file) => WANTED.includes(file.name) && (file.size || NEEDED.includes(file.name)));
  wanted.sort((a, b) => a.size - b.size);
  let arrived = zip || hasPickle(chosen) ? null : await goesOn(wanted);
  if (!arrived) {
    const why = "What had arrived does not fit these files, their name or base.";
    if (upload.id && !zip) say("Sent from the beginning", why, { isBad: false });
    await create(zip ? [] : chosen);
    arrived = new Map();
  }
  try {
    if (zip) await sendZip(zip);
    else await sendFiles(wanted, arrived);
  } catch (error) {
    if (HOPELESS.has(error.code)) await giveUp();
    throw error;
  }
}

// Bytes that have arrived by file name; null if they belong to other files, or to another name or base.
async function goesOn(wanted) {
  const { name, base_model: base } = form.elements;
  if (!upload.id || upload.name !== name.value || upload.base !== base.value) return null;
  const rows = await known(upload.id);
  const arrived = new Map();
  let hasOthers = false;
  for (const row of rows ?? []) {
    const file = wanted.find((one) => one.name === row.name);
    if (!file) {
      hasOthers ||= row.received_bytes > 0;
      continue;
    }
    if (file.size !== row.size_bytes) return null;
    if (row.received_bytes && !(await isBeginning(file, arrived))) return null;
  }
  // A card that was not chosen now may be another adapter's, unless the weights say that it is the same.
  return !rows || (hasOthers && !arrived.has(WEIGHTS)) ? null : arrived;
}

// The files of an upload, null if there is none any more.
async function known(id) {
  try {
    return (await call("GET", `/${id}/files`)).data;
  } catch (error) {
    if (error.status === 404) return null;
    throw error;
  }
}

// Two trainings of an adapter have files of the same names, sizes and headers: only their bytes tell them apart.
async function isBeginning(file, arrived) {
  file.row.show(0, "comparing with what has arrived");
  const there = await call("GET", `/${upload.id}/files/${encodeURIComponent(file.name)}`, { signal: pause.signal });
  const { sha256 } = await import(form.dataset.sha256);
  arrived.set(file.name, there.received_bytes);
  return there.sha256 === (await sha256(file.slice(0, there.received_bytes), pause.signal));
}

async function create(files) {
  const before = upload;
  const [name, base] = [form.elements.name.value, form.elements.base_model.value];
  const claims = files.map((file) => ({ name: file.name, size_bytes: file.size }));
  const made = await call("POST", "", {
    body: JSON.stringify({ name, base_model: base, files: claims }), headers: { "Content-Type": "application/json" },
  });
  upload = { id: made.id, name, base };
  // From here on a reload can go on with what has arrived.
  history.replaceState(null, "", `?adapter=${made.id}`);
  // One of the same name has made way.
  if (before.id && before.name !== name) await discard(before.id);
}

// These files come to nothing: leave no empty adapter behind, and let another name be given.
async function giveUp() {
  const { id } = upload;
  upload = { id: "" };
  history.replaceState(null, "", location.pathname);
  form.elements.name.readOnly = false;
  start.textContent = "Upload adapter";
  await discard(id);
}

async function discard(id) {
  try {
    // Another window may have completed it; then it is no leftover.
    if ((await call("GET", `/${id}`)).state === "uploading") await call("DELETE", `/${id}`);
  } catch {
    // The server deletes what nobody goes on with after a day.
  }
}

async function sendZip(zip) {
  zip.row.show(0, "sending");
  const headers = { "Content-Type": "application/zip" };
  await call("PUT", `/${upload.id}/zip`, { body: zip, headers, signal: pause.signal });
  zip.row.show(zip.size);
}

async function sendFiles(wanted, arrived) {
  for (const file of chosen) if (!wanted.includes(file)) file.row.show(file.size, "not needed, left out");
  for (const file of wanted) await send(file, arrived.get(file.name) ?? 0);
}

async function send(file, from) {
  let offset = from;
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
      await call("PUT", `/${upload.id}/files/${encodeURIComponent(file.name)}`, {
        body: file.slice(offset, end), signal: pause.signal,
        headers: { "Content-Type": "application/octet-stream", "Content-Range": `bytes ${offset}-${end - 1}/${file.size}` },
      });
      return;
    } catch (error) {
      // A part whose connection broke may still be in the server's hands.
      const isPassing = error.status >= 500 || error.code === "upload_busy";
      const isFinal = error.name === "AbortError" || (error instanceof Refusal && !isPassing);
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
  const lack = lacking(chosen);
  if (lack) {
    say("These files are not one adapter", lack);
    return;
  }
  pause = new AbortController();
  outcome.replaceChildren();
  busy(true);
  const page = () => form.dataset.page.replace("ADAPTER", upload.id);
  try {
    await begin();
    await call("POST", `/${upload.id}/complete`);
    location.assign(page());
  } catch (error) {
    busy(false);
    if (error.name === "AbortError") say("Paused", "What has arrived is kept. Press the button to go on.");
    else if (error.code === "adapter_rejected") location.assign(page());
    else if (error.status === 401) say("You are signed out", "Reload this page and sign in. What has arrived is kept.");
    else if (error instanceof Refusal) say("This cannot be uploaded", error.message, { code: error.code });
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
