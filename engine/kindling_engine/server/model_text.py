"""The tokenizer of the served model: text to token ids and back."""

import asyncio
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from tokenizers import Tokenizer

from kindling_engine.server.chat_family import ChatFamilies, chat_families_find
from kindling_engine.server.control_tokens import control_tokens_find
from kindling_engine.server.template_files import ChatTemplates, chat_templates_load

# Longer texts are encoded in a thread, so that the event loop goes on streaming to the others.
INLINE_CHARS = 2048
# Normalisers may join characters, so a text counts as too long only when it is so several times over.
SURE_FACTOR = 4
PARTS_AT_ONCE = 4096


class ModelTextError(Exception):
    """The tokenizer's files cannot be used."""


class TextTooLongError(Exception):
    """A text that cannot fit the context however well it is encoded."""


class ModelText:
    """Tokenizer and chat templates of one model folder."""

    def __init__(self, tokenizer: Tokenizer, templates: ChatTemplates | None) -> None:
        self.tokenizer = tokenizer
        self.templates = templates
        self.chat: ChatFamilies | None = chat_families_find(templates, tokenizer) if templates else None
        self.control_tokens = control_tokens_find(tokenizer, templates, self.chat)
        self._longest_token_chars = max((len(token) for token in tokenizer.get_vocab()), default=1)
        self._byte_level = "ByteLevel" in str(tokenizer.decoder)

    def length_check(self, chars: int, context_length: int) -> None:
        """Raises TextTooLongError for a number of characters that cannot fit however they are encoded."""
        if chars > context_length * self._longest_token_chars * SURE_FACTOR:
            raise TextTooLongError

    async def encode(self, text: str, *, add_special_tokens: bool, context_length: int) -> list[int]:
        """Token ids of a text. Raises TextTooLongError without encoding what cannot fit."""
        self.length_check(len(text), context_length)
        if len(text) <= INLINE_CHARS:
            return self._encode(text, add_special_tokens)
        return await asyncio.to_thread(self._encode, text, add_special_tokens)

    async def encode_parts(self, parts: Sequence[str], *, context_length: int) -> list[int]:
        """Token ids of a text in parts, none of which is read across an end of another.

        Raises TextTooLongError, also when the first of many parts fill the context already.
        """
        size = sum(map(len, parts))
        self.length_check(size, context_length)
        if size <= INLINE_CHARS:
            return self._encode_parts(parts, context_length)
        return await asyncio.to_thread(self._encode_parts, parts, context_length)

    def is_blank(self, token_id: int) -> bool:
        """Whether a token is nothing but white space."""
        return self.token_text(token_id).isspace()

    def decode(self, ids: Sequence[int]) -> str:
        """The text of tokens, without special ones."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))

    def decode_whole(self, ids: Sequence[int]) -> str:
        """The text of tokens with the special ones."""
        # The batch call lets other threads run meanwhile.
        (text,) = self.tokenizer.decode_batch([list(ids)], skip_special_tokens=False)
        return str(text)

    def token_strings(self, ids: Sequence[int]) -> list[str]:
        """Tokens as the vocabulary writes them, bytes and word beginnings in its own letters."""
        return [self.tokenizer.id_to_token(one) or "" for one in ids]

    @cached_property
    def special_ends(self) -> tuple[list[int], list[int]]:
        """The special tokens that the tokenizer puts before and behind a text."""
        bare, full = self._encode("a", False), self._encode("a", True)
        start = next((at for at in range(len(full)) if full[at : at + len(bare)] == bare), 0)
        return full[:start], full[start + len(bare) :]

    def token_text(self, token_id: int) -> str:
        """One token's text by itself, special ones too; half a character reads as U+FFFD."""
        return str(self.tokenizer.decode([token_id], skip_special_tokens=False))

    def token_bytes(self, token_id: int) -> bytes:
        """One token's bytes, also where they are only part of a character."""
        piece = self.tokenizer.id_to_token(token_id)
        if piece is None:
            return b""
        if self._byte_level and all(char in _BYTE_OF_CHAR for char in piece):
            return bytes(_BYTE_OF_CHAR[char] for char in piece)
        if len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">"):
            return bytes([int(piece[3:5], 16)])
        return self.token_text(token_id).encode()

    def _encode(self, text: str, add_special_tokens: bool) -> list[int]:
        # The batch call lets other threads run meanwhile and keeps no offsets; the single one does neither.
        (encoded,) = self.tokenizer.encode_batch_fast([text], add_special_tokens=add_special_tokens)
        return list(encoded.ids)

    def _encode_parts(self, parts: Sequence[str], context_length: int) -> list[int]:
        ids: list[int] = []
        for start in range(0, len(parts), PARTS_AT_ONCE):
            if len(ids) > context_length:
                raise TextTooLongError
            some = list(parts[start : start + PARTS_AT_ONCE])
            for encoded in self.tokenizer.encode_batch_fast(some, add_special_tokens=False):
                ids += encoded.ids
        return ids


def model_text_load(folder: Path) -> ModelText:
    """Read tokenizer.json and the chat template. Raises ModelTextError."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise ModelTextError(f"{path.name} is missing from the model folder.")
    try:
        tokenizer = Tokenizer.from_file(str(path))
        templates = chat_templates_load(folder)
    except Exception as error:  # the tokenizers library raises bare Exception
        raise ModelTextError(f"The tokenizer's files cannot be read: {str(error)[:300]}.") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return ModelText(tokenizer, templates)


def _byte_of_char() -> dict[str, int]:
    """Byte-level vocabularies write every byte as one visible character.

    Bytes that are visible Latin-1 characters stand for themselves; the others follow from U+0100 on.
    """
    visible = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = [byte for byte in range(256) if byte not in visible]
    return {chr(byte): byte for byte in visible} | {
        chr(0x100 + index): byte for index, byte in enumerate(hidden)
    }


_BYTE_OF_CHAR = _byte_of_char()
