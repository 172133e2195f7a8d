// Makes and uses passkeys: the browser asks its owner, and a form takes what it says to the server.
const COMMON = {
  NotAllowedError: "Nothing was done: it was cancelled, took too long, or there is no passkey of yours here.",
  AbortError: "Nothing was done: something else has interrupted it. Try again.",
  InvalidStateError: "This device has a passkey for this account already.",
  ConstraintError: "This device makes no passkeys as it is. Set a PIN, a fingerprint or another screen lock first.",
  NotSupportedError: "This device makes no passkeys that can be used here. Use another one, or a security key.",
};

class Told extends Error {}

function bytes(text) {
  const plain = atob(text.replaceAll("-", "+").replaceAll("_", "/"));
  return Uint8Array.from(plain, (letter) => letter.charCodeAt(0)).buffer;
}

function text(buffer) {
  const plain = String.fromCharCode(...new Uint8Array(buffer));
  return btoa(plain).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}

function listed(credentials) {
  return (credentials ?? []).map((one) => ({ ...one, id: bytes(one.id) }));
}

function said(credential) {
  const { response } = credential;
  const known = ["clientDataJSON", "attestationObject", "authenticatorData", "signature", "userHandle"];
  const present = known.filter((name) => response[name]);
  return {
    id: credential.id,
    rawId: text(credential.rawId),
    type: credential.type,
    authenticatorAttachment: credential.authenticatorAttachment ?? undefined,
    clientExtensionResults: credential.getClientExtensionResults(),
    response: {
      ...Object.fromEntries(present.map((name) => [name, text(response[name])])),
      ...(response.getTransports ? { transports: response.getTransports() } : {}),
    },
  };
}

async function created({ publicKey }) {
  return navigator.credentials.create({
    publicKey: {
      ...publicKey,
      challenge: bytes(publicKey.challenge),
      user: { ...publicKey.user, id: bytes(publicKey.user.id) },
      excludeCredentials: listed(publicKey.excludeCredentials),
      authenticatorSelection: {
        ...publicKey.authenticatorSelection,
        residentKey: "required",
        requireResidentKey: true,
        userVerification: "required",
      },
    },
  });
}

async function used({ publicKey }) {
  return navigator.credentials.get({
    publicKey: {
      ...publicKey,
      challenge: bytes(publicKey.challenge),
      allowCredentials: listed(publicKey.allowCredentials),
    },
  });
}

async function options(form) {
  const held = document.getElementById("passkey-data");
  if (held) return JSON.parse(held.textContent);
  const reply = await fetch(form.action, { headers: { Accept: "application/json" } });
  if (reply.status === 429) throw new Told("Too many tries from your network. Wait a minute.");
  if (!reply.ok) throw new Told(`The server answered ${reply.status}. Try again in a moment.`);
  return reply.json();
}

function reason(error, form) {
  const where = `Open this page at ${form.dataset.home}`;
  if (error instanceof Told) return error.message;
  if (error instanceof TypeError) return "The server cannot be reached. Try again in a moment.";
  // A bare number as the host, or a name that the passkey was not made for.
  if (error.name === "SecurityError") return `Passkeys are not for ${location.hostname}: they want a name. ${where}.`;
  return COMMON[error.name] ?? `The browser refused: ${error.message}`;
}

function unable(form) {
  if (!isSecureContext) return `Passkeys need https, or localhost. Open this page at ${form.dataset.home}.`;
  if (!window.PublicKeyCredential) return "This browser knows no passkeys.";
  return "";
}

async function ask(form) {
  const outcome = form.querySelector("[data-passkey-error]");
  const button = form.querySelector("button");
  outcome.hidden = true;
  button.disabled = true;
  try {
    const why = unable(form);
    if (why) throw new Told(why);
    const found = await options(form);
    const credential = await (form.dataset.passkey === "create" ? created(found.creation_options) : used(found.request_options));
    form.elements.credential.value = JSON.stringify(said(credential));
    form.submit();
  } catch (error) {
    outcome.textContent = reason(error, form);
    outcome.hidden = false;
  } finally {
    button.disabled = false;
  }
}

for (const form of document.querySelectorAll("form[data-passkey]")) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    ask(form);
  });
}
