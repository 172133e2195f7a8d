"""Where a model's folder keeps its chat templates: read, not compiled, so that a catalog can tell who chats."""

import json
from pathlib import Path
from typing import Any


def chat_template_sources(folder: Path) -> dict[str, str]:
    """The texts of the templates `default` and `tool_use`, as far as a folder has them.

    Found where transformers looks; where there are files of their own, tokenizer_config.json has no say. Errors:
    ValueError for files that are no text or no JSON.
    """
    given = json_object(folder / "tokenizer_config.json").get("chat_template")
    if given is None:
        given = json_object(folder / "chat_template.json").get("chat_template")
    if isinstance(given, list):
        found = {one.get("name"): one.get("template") for one in given if isinstance(one, dict)}
    else:
        found = {"default": given}
    files = {file.stem: file for file in (folder / "additional_chat_templates").glob("*.jinja")}
    if (folder / "chat_template.jinja").is_file():
        files["default"] = folder / "chat_template.jinja"
    if files:
        found = {name: file.read_text(encoding="utf-8") for name, file in files.items()}
    return {
        name: source
        for name in ("default", "tool_use")
        if isinstance(source := found.get(name), str) and source
    }


def json_object(path: Path) -> dict[str, Any]:
    """What a file holds; nothing where there is none, or something else than an object. Errors: ValueError."""
    if not path.is_file():
        return {}
    value = json.loads(path.read_text(encoding="utf-8"))
    return value if isinstance(value, dict) else {}
