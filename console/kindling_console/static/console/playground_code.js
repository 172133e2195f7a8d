// The playground's request as code: what stands in the dialog's snippets, for each language.
const STYLES = {
  curl: { indent: "    ", write: (name, value) => `"${name}": ${value},` },
  python: { indent: "    ", write: (name, value) => `${name}=${value},` },
  javascript: { indent: "  ", write: (name, value) => `${name}: ${value},` },
};

export function write({ turns, text, settings, model, baseUrl }) {
  const chosen = Object.entries(settings).filter(([, value]) => value !== undefined);
  for (const template of JSON.parse(document.getElementById("pg-templates").textContent)) {
    const style = STYLES[template.id];
    // The shell's own quote has to leave the quoted body, speak for itself and come back.
    const quoted = (json) => (template.id === "curl" ? json.replaceAll("'", "'\\''") : json);
    const list = quoted(JSON.stringify(turns ?? [], null, 2).replaceAll("\n", `\n${style.indent}`));
    const values = {
      BASE_URL: baseUrl, API_KEY: "YOUR_API_KEY", MODEL: model, MESSAGES: list, TEXT: quoted(JSON.stringify(text ?? "")),
      PARAMS: chosen.map(([name, value]) => `${style.indent}${style.write(name, value)}\n`).join(""),
    };
    document.getElementById(`code-pg-${template.id}`).textContent = template.text.replace(/%([A-Z_]+)%/g, (_, name) => values[name]);
  }
}
