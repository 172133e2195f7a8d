"""From the tokens of one request to the text that may be shown: whole characters, stop strings cut off."""

from collections.abc import Sequence
from dataclasses import dataclass

from kindling_engine.protocol.ipc import TokenLogprobs
from kindling_engine.server.detokenizer import Decoder, Detokenizer
from kindling_engine.server.stop_strings import StopMatcher


@dataclass(frozen=True, slots=True)
class TokenEntry:
    """A token with its log-probabilities; ``offset`` counts the characters of text in front of it."""

    token_id: int
    logprobs: TokenLogprobs
    offset: int


class OutputText:
    """Takes tokens in and lets text out."""

    def __init__(self, decoder: Decoder, stops: Sequence[str]) -> None:
        self._detokenizer = Detokenizer(decoder)
        self._matcher = StopMatcher(stops) if stops else None
        self._ready = ""
        self._decoded_chars = 0
        self._released_chars = 0
        self._entries: list[TokenEntry] = []
        self._ended = False

    def accept(self, token_id: int, logprobs: TokenLogprobs | None = None) -> bool:
        """Add a token; True when it completes a stop string, after which nothing more may be added."""
        if logprobs is not None:
            self._entries.append(TokenEntry(token_id, logprobs, self._decoded_chars))
        return self._add(self._detokenizer.feed(token_id))

    def end(self) -> bool:
        """Release what was held back, since no token follows; True when that completes a stop string."""
        if self._add(self._detokenizer.flush()):
            return True
        if self._matcher:
            self._ready += self._matcher.flush()
        self._ended = True
        return False

    def take(self) -> tuple[str, list[TokenEntry]]:
        """The text that may be shown now, and the log-probabilities of the tokens that begin inside it."""
        text, self._ready = self._ready, ""
        self._released_chars += len(text)
        if self._ended:
            entries, self._entries = self._entries, []
            return text, entries
        count = 0
        while count < len(self._entries) and self._entries[count].offset < self._released_chars:
            count += 1
        entries, self._entries = self._entries[:count], self._entries[count:]
        return text, entries

    def _add(self, text: str) -> bool:
        self._decoded_chars += len(text)
        if self._matcher is None:
            self._ready += text
            return False
        self._ready += self._matcher.feed(text) if text else ""
        return bool(self._matcher.matched)
