"""Tokens to text, one at a time, never showing half a character."""

from typing import Protocol

REPLACEMENT = "\ufffd"
# So many tokens cannot all belong to one character: at most four bytes do.
MAX_HELD_TOKENS = 8
# What a character may have of tokens before its last one.
_OPEN_TOKENS = 3


class Decoder(Protocol):
    """The part of `tokenizers.Tokenizer` that is used here."""

    def decode(self, ids: list[int], skip_special_tokens: bool = True) -> str: ...


class Detokenizer:
    """Joined together, the parts equal the decoding of all tokens at once.

    A token is decoded beside its predecessors, because some decoders treat a first token differently, and text
    whose end may still be half a character waits for the next token.
    """

    def __init__(self, decoder: Decoder, *, show_special: bool = False) -> None:
        self._decoder = decoder
        self._skip_special = not show_special
        self._context: list[int] = []  # tokens whose text has left, kept for what they do to their neighbours
        self._context_text = ""
        self._held: list[int] = []

    def feed(self, token_id: int) -> str:
        """The text that this token completes."""
        self._held.append(token_id)
        text = self._decode(self._context + self._held)
        if text.endswith(REPLACEMENT):
            return self._settle_broken() if len(self._held) > MAX_HELD_TOKENS else ""
        return self._release(len(self._held), text)

    def flush(self) -> str:
        """The text of tokens that never became whole characters."""
        if not self._held:
            return ""
        return self._release(len(self._held), self._decode(self._context + self._held))

    def _settle_broken(self) -> str:
        """Let go of bytes that can no longer become a character: cutting behind them changes nothing."""
        text = self._decode(self._held)
        for cut in range(len(self._held) - _OPEN_TOKENS, 0, -1):
            if self._decode(self._held[:cut]) + self._decode(self._held[cut:]) == text:
                return self._release(cut, self._decode(self._context + self._held[:cut]))
        return ""

    def _release(self, count: int, text: str) -> str:
        out = text[len(self._context_text) :]
        released, self._held = self._held[:count], self._held[count:]
        own_text = self._decode(released)
        if own_text:
            self._context, self._context_text = released, own_text
        elif not self._context_text and len(self._context) < MAX_HELD_TOKENS:
            # A first token may be a blank that the decoder strips: what follows must still see it.
            self._context = self._context + released
            self._context_text = self._decode(self._context)
        return out

    def _decode(self, ids: list[int]) -> str:
        return self._decoder.decode(ids, skip_special_tokens=self._skip_special)
