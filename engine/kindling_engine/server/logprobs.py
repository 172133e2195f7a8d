"""Log-probabilities in the shapes of chat and of plain completions."""

from collections.abc import Sequence
from typing import Any

from kindling_engine.server.model_text import ModelText
from kindling_engine.server.output_text import TokenEntry


class TokenNames(dict[int, str]):
    """How tokens are named in plain completions. Each is read once, however many answers tell it."""

    def __init__(self, text: ModelText) -> None:
        super().__init__()
        self._text = text

    def __missing__(self, token_id: int) -> str:
        self[token_id] = name = _name(token_id, self._text)
        return name


def chat_logprobs(entries: Sequence[TokenEntry], text: ModelText) -> dict[str, Any]:
    """One object per token, each with its bytes and alternatives."""
    content = [
        {
            **_token(entry.token_id, entry.logprobs.logprob, text),
            "top_logprobs": [_token(token_id, logprob, text) for token_id, logprob in entry.logprobs.top],
        }
        for entry in entries
        if entry.logprobs is not None
    ]
    return {"content": content, "refusal": None}


def completion_logprobs(entries: Sequence[TokenEntry], names: TokenNames) -> dict[str, Any]:
    """Parallel lists, one place per token. The chosen token is always among ``top_logprobs``, so that there may be
    one more than was asked for.
    """
    return {
        "tokens": [names[entry.token_id] for entry in entries],
        "token_logprobs": [None if entry.logprobs is None else entry.logprobs.logprob for entry in entries],
        "top_logprobs": [_alternatives(entry, names) for entry in entries],
        "text_offset": [entry.offset for entry in entries],
    }


def _alternatives(entry: TokenEntry, names: TokenNames) -> dict[str, float] | None:
    if entry.logprobs is None:
        return None
    named = {names[token_id]: logprob for token_id, logprob in entry.logprobs.top}
    # Two tokens may read the same; the chosen one's figure holds.
    named[names[entry.token_id]] = entry.logprobs.logprob
    return named


def _token(token_id: int, logprob: float, text: ModelText) -> dict[str, Any]:
    return {
        "token": text.token_text(token_id),
        "logprob": logprob,
        "bytes": list(text.token_bytes(token_id)),
    }


def _name(token_id: int, text: ModelText) -> str:
    """The token's text; one that is only part of a character by its bytes, as OpenAI writes it."""
    shown = text.token_text(token_id)
    if "\ufffd" not in shown:
        return shown
    return "bytes:" + "".join(f"\\x{byte:02x}" for byte in text.token_bytes(token_id))
