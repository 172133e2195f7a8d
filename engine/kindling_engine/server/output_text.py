"""From the tokens of one request to the text that may be shown: whole characters, stop strings cut off."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kindling_engine.protocol.sampling import TokenLogprobs
from kindling_engine.server.detokenizer import Decoder, Detokenizer
from kindling_engine.server.harmony.header import header_may_open
from kindling_engine.server.harmony.marks import CONSTRAIN, HEADER_MARKS
from kindling_engine.server.stop_strings import StopMatcher


@dataclass(frozen=True, slots=True)
class TokenEntry:
    """A token with its log-probabilities; ``offset`` counts the characters of text in front of it.

    The first token of an echoed prompt has none: nothing stands before it that could predict it.
    """

    token_id: int
    logprobs: TokenLogprobs | None
    offset: int


class OutputText:
    """Takes tokens in and lets text out.

    ``include_stop`` keeps a stop string, or the end token's text, in the text; stop strings are looked for behind the
    first ``min_tokens`` tokens; ``show_special`` writes special tokens out. ``marks`` are tokens that stand for a
    character of their own: stop strings are not looked for across them, nor in the headers that some of them open.
    """

    def __init__(
        self,
        decoder: Decoder,
        stops: Sequence[str],
        *,
        include_stop: bool = False,
        min_tokens: int = 0,
        show_special: bool = False,
        marks: Mapping[int, str] | None = None,
    ) -> None:
        self._detokenizer = Detokenizer(decoder, show_special=show_special)
        self._matcher = StopMatcher(stops) if stops else None
        self._marks = marks or {}
        self._in_header = False
        # What the answer begins with, as long as it may be a header in front of all marks.
        self._opening: str | None = "" if stops and marks else None
        self._include_stop = include_stop
        self._unmatched_tokens = min_tokens
        self._ready = ""
        self._decoded_chars = 0
        self._released_chars = 0
        self._entries: list[TokenEntry] = []
        self._ended = False

    @property
    def matched(self) -> str:
        """The stop string that ended the text; empty when none did."""
        return self._matcher.matched if self._matcher else ""

    def begin(self, text: str, entries: Sequence[TokenEntry]) -> None:
        """Put an echoed prompt in front of everything."""
        self._ready += text
        self._decoded_chars += len(text)
        self._entries += entries

    def accept(self, token_id: int, logprobs: TokenLogprobs | None = None) -> bool:
        """Add a token; True when it completes a stop string, after which nothing more may be added."""
        mark = self._marks.get(token_id)
        # No character goes on behind a mark.
        ended = mark is not None and self._add(self._detokenizer.flush())
        if logprobs is not None:
            self._entries.append(TokenEntry(token_id, logprobs, self._decoded_chars))
        if mark is None:
            return self._add(self._detokenizer.feed(token_id))
        if not ended:
            self._add_mark(mark)
        return ended

    def accept_end(self, token_id: int) -> None:
        """Add the token that ended the answer: it is shown only where stops are to be included."""
        if self._include_stop:
            self._add(self._detokenizer.feed(token_id))

    def end(self) -> bool:
        """Release what was held back, since no token follows; True when that completes a stop string."""
        if self._add(self._detokenizer.flush(), last=True):
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

    def _add(self, text: str, *, last: bool = False) -> bool:
        self._decoded_chars += len(text)
        if self._opening is not None:
            self._opening += text
            if header_may_open(self._opening) and not last:
                self._unmatched_tokens -= 1
                return False
            text, self._opening = self._opening, None
        if self._matcher is None or self._unmatched_tokens > 0 or self._in_header:
            self._unmatched_tokens -= 1
            self._ready += text
            return False
        self._ready += self._matcher.feed(text) if text else ""
        if not self._matcher.matched:
            return False
        if self._include_stop:
            self._ready += self._matcher.matched
        return True

    def _add_mark(self, mark: str) -> None:
        held = self._matcher.flush() if self._matcher else ""
        self._ready += (self._opening or "") + held + mark
        self._opening = None
        self._decoded_chars += len(mark)
        if mark != CONSTRAIN:  # it stands inside of headers, and in texts it says nothing
            self._in_header = mark in HEADER_MARKS
