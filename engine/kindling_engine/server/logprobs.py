"""Log-probabilities in the shapes of chat and of plain completions."""

from typing import Any

from kindling_engine.server.model_text import ModelText
from kindling_engine.server.output_text import TokenEntry


def chat_logprobs(entries: list[TokenEntry], text: ModelText) -> dict[str, Any]:
    """One object per token, each with its bytes and alternatives."""
    content = [
        {
            **_token(entry.token_id, entry.logprobs.logprob, text),
            "top_logprobs": [_token(token_id, logprob, text) for token_id, logprob in entry.logprobs.top],
        }
        for entry in entries
    ]
    return {"content": content, "refusal": None}


def completion_logprobs(entries: list[TokenEntry], text: ModelText) -> dict[str, Any]:
    """Parallel lists, one place per token."""
    return {
        "tokens": [text.token_text(entry.token_id) for entry in entries],
        "token_logprobs": [entry.logprobs.logprob for entry in entries],
        "top_logprobs": [
            {text.token_text(token_id): logprob for token_id, logprob in entry.logprobs.top}
            for entry in entries
        ],
        "text_offset": [entry.offset for entry in entries],
    }


def _token(token_id: int, logprob: float, text: ModelText) -> dict[str, Any]:
    return {
        "token": text.token_text(token_id),
        "logprob": logprob,
        "bytes": list(text.token_bytes(token_id)),
    }
