// The playground's request as code: what stands in the dialog's snippets, for each language.
const STYLES = {
  curl: { indent: "    ", write: (name, value) => `"${name}": ${value},` },
  python: { indent: "    ", write: (name, value) => `${name}=${value},` },
  javascript: { indent: "  ", write: (name, value) => `${name}: ${value},` },
};

export function write({ turns, settings, model, baseUrl }) {
  const chosen = Object.entries(settings).filter(([, value]) => value !== undefined);
  for (const template of JSON.parse(document.getElementById("pg-templates").textContent)) {
    const style = STYLES[template.id];
    let list = JSON.stringify(turns, null, 2).replaceAll("\n", `\n${style.indent}`);
    if (template.id === "curl") list = list.replaceAll("'", "'\\''");
    const params = chosen.map(([name, value]) => `${style.indent}${style.write(name, value)}\n`).join("");
    document.getElementById(`code-pg-${template.id}`).textContent = template.text
      .replaceAll("%BASE_URL%", baseUrl).replaceAll("%API_KEY%", "YOUR_API_KEY")
      .replaceAll("%MODEL%", () => model).replaceAll("%PARAMS%", () => params).replaceAll("%MESSAGES%", () => list);
  }
}
