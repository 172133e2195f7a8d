"""Cuts an answer in OpenAI's harmony format into reasoning, content and calls, as it arrives."""

import re
from collections.abc import Callable, Collection

from kindling_engine.server.harmony.header import (
    header_may_be,
    header_read,
    header_says_nothing,
    header_size,
)
from kindling_engine.server.harmony.marks import (
    CALL,
    CHANNEL,
    CONSTRAIN,
    END,
    MARKS,
    MESSAGE,
    RETURN,
    START,
)
from kindling_engine.server.tools.deltas import (
    Content,
    Delta,
    Reasoning,
    ToolCallArguments,
    ToolCallStart,
    deltas_join,
)
from kindling_engine.server.tools.json_walk import JsonWalk
from kindling_engine.server.tools.parser import call_id_make

_PIECE = re.compile(f"[{MARKS}]|[^{MARKS}]+")
_WORDS = re.compile(f"[^{MARKS}]+")
_BETWEEN = "\n\n"  # messages of one kind
# So many channel marks one header may hold: each is read with those before it.
_CHANNELS = 4
# Roles that a message may be sent to, which is no call.
_ROLES = ("assistant", "user")


class HarmonyParser:
    """The joined result does not depend on where the answer was cut.

    ``analysis`` is reasoning, a message to one of the offered ``names`` a call, and all else content, on any channel or
    none: a call of another tool with its ``to=``. A text that is no header is the message itself; a header that no text
    follows is dropped, as is one in which an answer was ``cut`` by its length, unless it may well be all that was said.
    White space around arguments is dropped, and none at all are ``{}``.
    """

    def __init__(self, names: Collection[str], make_id: Callable[[], str] = call_id_make) -> None:
        self.calls = 0
        self.at = "header"  # or reasoning, content, call
        self._names = names
        self._make_id = make_id
        self._header = ""
        self._is_named = True  # whether it is known who speaks: the prompt ends with it
        self._read = 0  # characters of the source so far
        self._parts = {"reasoning": 0, "content": 0}  # messages with text
        self._has_text = False  # whether this message has
        self._content_end = 0
        self._blank: list[str] = []  # white space that may be the end of arguments
        self._walk: JsonWalk | None = None
        self._out: list[Delta] = []

    @property
    def unfinished(self) -> bool:
        """Whether the arguments of a call have begun and not ended."""
        return self.at == "call" and self._walk is not None and not self._walk.done

    def feed(self, text: str, *, final: bool = False, cut: bool = False) -> list[Delta]:
        """Take the next piece of the answer in; gives what can be told now. ``cut``: it would have gone on."""
        for piece in _PIECE.findall(text):
            if piece in MARKS:
                self._mark(piece)
            elif self.at == "header":
                self._head(piece)
            else:
                self._say(piece, self._read)
            self._read += len(piece)
        if final:
            self._end(cut=cut)
        out, self._out = self._out, []
        return deltas_join(out)

    def _mark(self, mark: str) -> None:
        if mark == MESSAGE and self.at == "header":
            self._begin(self._header, self._read - len(self._header))
            if self._has_text:  # a recipient, which stood apart from the text
                self._out.append(Content(" ", self._content_end - 1))
        elif self.at == "header" and (mark == CONSTRAIN or self._takes_channel(mark)):
            self._head(mark)
        elif mark in START + CHANNEL + END + RETURN + CALL:
            self._end()
            self.at, self._header, self._is_named = "header", mark * (mark == CHANNEL), mark != START

    def _takes_channel(self, mark: str) -> bool:
        return mark == CHANNEL and self._header.count(CHANNEL) < _CHANNELS

    def _head(self, piece: str) -> None:
        self._header += piece
        if header_may_be(self._header):
            return
        start = self._read + len(piece) - len(self._header)
        text, size = self._header, header_size(self._header)
        self._begin(text[:size], start)
        for words in _WORDS.finditer(text, size):
            self._say(words[0], start + words.start())

    def _begin(self, text: str, start: int) -> None:
        """The header is complete. ``start`` is where it began."""
        header, self._header = header_read(text), ""
        if self._is_named and header.role not in ("", "assistant"):
            self._speak("content", header.role, start + text.index(header.role))
        self._has_text = False
        if header.tool in self._names:
            self.at, self._blank, self._walk = "call", [], JsonWalk()
            self._out.append(ToolCallStart(self.calls, self._make_id(), header.tool))
            self.calls += 1
            return
        self.at = "reasoning" if header.channel == "analysis" else "content"
        if self.at == "content" and header.recipient not in ("", *_ROLES):
            self._say(f"to={header.recipient}", start + header.recipient_at)

    def _speak(self, at: str, text: str, start: int) -> None:
        """A message by itself."""
        self.at, self._has_text = at, False
        for words in _WORDS.finditer(text):
            self._say(words[0], start + words.start())

    def _say(self, text: str, start: int) -> None:
        if self.at == "call":
            self._argue(text)
            return
        if not self._has_text:
            self._has_text = True
            self._parts[self.at] += 1
            if self._parts[self.at] > 1:
                self._separate()
        if self.at == "reasoning":
            self._out.append(Reasoning(text))
        else:
            self._out.append(Content(text, start))
            self._content_end = start + len(text)

    def _separate(self) -> None:
        if self.at == "reasoning":
            self._out.append(Reasoning(_BETWEEN))
        else:
            # It stood nowhere. There, where content was told already, no token waits to be told with it.
            self._out.append(Content(_BETWEEN, self._content_end - len(_BETWEEN)))

    def _argue(self, text: str) -> None:
        said = text if self._has_text else text.lstrip()
        kept = said.rstrip()
        if not kept:
            if said:
                self._blank.append(said)
            return
        blank, self._blank = self._blank, [said[len(kept) :]]
        kept = "".join([*blank, kept])
        if not self._has_text and kept[0] != "{":
            self._walk = None  # they are no arguments, and never complete
        self._has_text = True
        self._out.append(ToolCallArguments(self.calls - 1, kept))
        if self._walk is not None and not all(map(self._walk.feed, kept)):
            self._walk = None

    def _end(self, *, cut: bool = False) -> None:
        """The message has ended, or the answer."""
        if self.at == "call":
            if not (self._has_text or cut):
                self._argue("{}")
        elif self.at == "header" and self._header:
            header, self._header = self._header, ""
            if not self._is_form(header, cut=cut):
                self._speak("content", header, self._read - len(header))

    def _is_form(self, header: str, *, cut: bool) -> bool:
        """Whether it says nothing. Words without a mark in or before them may be all that was said."""
        has_form = len(header) < self._read or not set(header).isdisjoint(MARKS)
        if cut:
            return has_form or header.lstrip().startswith("to=")
        return has_form and header_says_nothing(header)
