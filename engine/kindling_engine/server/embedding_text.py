"""Texts to embed as token ids: special tokens as the tokenizer puts them, cut to the context when asked for."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from kindling_engine.protocol.embedding_folder import (
    EmbeddingFolder,
    EmbeddingFolderError,
    embedding_folder_read,
)
from kindling_engine.server.model_text import INLINE_CHARS, SURE_FACTOR, ModelText, ModelTextError


@dataclass(frozen=True, slots=True)
class TextTooLong:
    """In place of a text's ids: it cannot fit the context however it is encoded."""

    chars: int


class EmbeddingText:
    """Tokenizer of an embedding model; ``hidden_size`` is the length of a whole vector."""

    def __init__(
        self, text: ModelText, folder: EmbeddingFolder, *, hidden_size: int, end_id: int | None = None
    ) -> None:
        self.hidden_size = hidden_size
        self.tokenizer = text.tokenizer
        self._folder = folder
        # Appended where the tokenizer is told to close a text and does not do so by itself.
        self._end = [] if end_id is None else [end_id]
        self._longest_token_chars = max((len(token) for token in text.tokenizer.get_vocab()), default=1)

    async def encode(
        self, texts: Sequence[str], *, context_length: int, truncate_to: int | None
    ) -> list[list[int] | TextTooLong]:
        """Token ids of every text. ``truncate_to`` keeps that many tokens, the special ones among them."""
        if sum(map(len, texts)) <= INLINE_CHARS:
            return self.encode_now(texts, context_length=context_length, truncate_to=truncate_to)
        work = partial(self.encode_now, texts, context_length=context_length, truncate_to=truncate_to)
        return await asyncio.to_thread(work)

    def encode_now(
        self, texts: Sequence[str], *, context_length: int, truncate_to: int | None
    ) -> list[list[int] | TextTooLong]:
        """The same, in this thread."""
        sure_chars = context_length * self._longest_token_chars * SURE_FACTOR
        if truncate_to is not None:
            # What lies behind this many characters cannot be among the tokens that are kept.
            texts = [text[:sure_chars] for text in texts]
        fitting = [self._worded(text) for text in texts if len(text) <= sure_chars]
        encoded = iter(self.tokenizer.encode_batch_fast(fitting, add_special_tokens=True))
        found: list[list[int] | TextTooLong] = []
        for text in texts:
            if len(text) > sure_chars:
                found.append(TextTooLong(len(text)))
                continue
            one = next(encoded)
            ids = [*one.ids, *self._end]
            special = [*one.special_tokens_mask, *(1 for _ in self._end)]
            found.append(ids if truncate_to is None else _cut(ids, special, truncate_to))
        return found

    def _worded(self, text: str) -> str:
        text = f"{self._folder.prompt}{text}"
        return text.lower() if self._folder.lower_case else text


def embedding_text_load(folder: Path, text: ModelText, *, hidden_size: int) -> EmbeddingText:
    """Read what the model's folder says about its texts. Raises ModelTextError."""
    try:
        config = json.loads((folder / "config.json").read_bytes())
        embedding = embedding_folder_read(folder, config["architectures"][0])
        if embedding is None:
            raise ModelTextError("The model folder says nothing about embedding.")
        return EmbeddingText(text, embedding, hidden_size=hidden_size, end_id=_end_id(folder, text))
    except (EmbeddingFolderError, OSError, ValueError, LookupError, TypeError) as error:
        raise ModelTextError(f"The model folder cannot be read: {error}.") from error


def _end_id(folder: Path, text: ModelText) -> int | None:
    """The end token, where tokenizer_config.json asks for one that tokenizer.json does not add."""
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_bytes()) if path.is_file() else {}
    named = config.get("eos_token")
    token = named.get("content") if isinstance(named, dict) else named
    if config.get("add_eos_token") is not True or not isinstance(token, str):
        return None
    end_id = text.tokenizer.token_to_id(token)
    closed = text.tokenizer.encode("", add_special_tokens=True).ids[-1:] == [end_id]
    return None if closed else end_id


def _cut(ids: list[int], special: list[int], limit: int) -> list[int]:
    """The first tokens, and behind them the special ones that close the text."""
    if len(ids) <= limit:
        return ids
    closing = next((index for index, one in enumerate(reversed(special)) if not one), len(special))
    kept = max(0, limit - closing)
    return (ids[:kept] + ids[len(ids) - closing :])[:limit]
