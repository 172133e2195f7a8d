"""Which tokens end an answer: those that a checkpoint's files name, and the tokenizer's own."""

import json
import re
from pathlib import Path
from typing import Any

from kindling_engine.models.config_fields import malformed
from kindling_engine.models.folder import json_object_read
from kindling_engine.protocol.chat_templates import json_object

_ADDED = re.compile(r'"added_tokens"\s*:\s*\[')


def eos_ids_read(folder: Path, configured: Any, *, vocab_size: int) -> tuple[int, ...]:
    """Tokens that end an answer, those that the files name first; raises ModelError.

    ``configured`` is what config.json says, over which generation_config.json has the last word. Fine-tunes often
    end their turns with a token that only their tokenizer calls its end, so that one is always among them.
    """
    path = folder / "generation_config.json"
    value = json_object_read(path).get("eos_token_id") if path.exists() else None
    if value is None:
        value = configured
    ids = value if isinstance(value, list) else [] if value is None else [value]
    if not all(type(item) is int for item in ids):
        raise malformed("eos_token_id", "a token id or a list of them", value)
    own = _tokenizers_end(folder)
    # A tokenizer may know more tokens than the model has rows.
    return tuple(ids) if own is None or own in ids or not 0 <= own < vocab_size else (*ids, own)


def _tokenizers_end(folder: Path) -> int | None:
    try:
        named = json_object(folder / "tokenizer_config.json").get("eos_token")
    except (OSError, ValueError, RecursionError):
        return None
    token = named.get("content") if isinstance(named, dict) else named
    if not isinstance(token, str):
        return None
    try:
        text = (folder / "tokenizer.json").read_text(encoding="utf-8")
        added = _added_tokens(text)
        return added[token] if token in added else _in_vocabulary(text, token)
    except (OSError, ValueError, RecursionError):
        return None


def _in_vocabulary(text: str, token: str) -> int | None:
    """Where a vocabulary is an object of tokens and their numbers, and nowhere before it."""
    start = text.find('"vocab"')
    if start < 0:
        return None
    for written in {json.dumps(token, ensure_ascii=False), json.dumps(token)}:
        # Not the end of another token with a quote in it.
        pattern = re.compile(r"(?<!\\)" + re.escape(written) + r"\s*:\s*(\d{1,9})\s*[,}]")
        if found := pattern.search(text, start):
            return int(found[1])
    return None


def _added_tokens(text: str) -> dict[str, int]:
    """Those of a tokenizer.json, the rest of which is left unread: it is large, and this is a part of each start."""
    found = _ADDED.search(text)
    if found is None:
        return {}
    entries, _ = json.JSONDecoder().raw_decode(text, found.end() - 1)
    return {
        str(one.get("content")): one["id"]
        for one in entries
        if isinstance(one, dict) and type(one.get("id")) is int
    }
