"""One choice of a chat's answer on its way to the client: what its pieces come to, and which tokens are content."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from kindling_engine.server.chat_output import ChatOutput, ChatShape
from kindling_engine.server.output_text import TokenEntry
from kindling_engine.server.tools.deltas import Content, Delta, Reasoning, ToolCallArguments, ToolCallStart


class ChatChoice:
    """Feeds the pieces of one choice through its `ChatOutput`.

    Log-probabilities are told for tokens whose text begins inside content; those of reasoning, of calls and of the
    marks around them belong to no field of the answer.
    """

    def __init__(self, shape: ChatShape) -> None:
        self._output = ChatOutput(shape)
        self._waiting: deque[TokenEntry] = deque()
        self._content_end = 0

    @property
    def calls(self) -> int:
        """Calls that an answer may end for: none where the last one breaks off."""
        return 0 if self._output.unfinished else self._output.calls

    def feed(
        self, text: str, entries: Sequence[TokenEntry], *, final: bool, cut: bool = False
    ) -> list[tuple[Delta, list[TokenEntry]]]:
        """The deltas of one piece, each content with the tokens that begin in it."""
        self._waiting += entries
        return [
            (delta, self._entries(delta) if isinstance(delta, Content) else [])
            for delta in self._output.feed(text, final=final, cut=cut)
        ]

    def _entries(self, content: Content) -> list[TokenEntry]:
        """The waiting tokens inside this text; those in front of it are dropped."""
        end = content.start + len(content.text)
        # A token without text of its own lies where the next one begins: behind content it still belongs to it.
        start = self._content_end if content.start == self._content_end else content.start
        self._content_end = end
        found = []
        while self._waiting and self._waiting[0].offset < end:
            entry = self._waiting.popleft()
            if entry.offset >= start:
                found.append(entry)
        return found


@dataclass(slots=True)
class MessageParts:
    """An answer's message, put together from its deltas."""

    content: str = ""
    reasoning: str = ""
    calls: list[dict[str, Any]] = field(default_factory=list)
    entries: list[TokenEntry] = field(default_factory=list)

    def add(self, delta: Delta, entries: Sequence[TokenEntry]) -> None:
        match delta:
            case Content():
                self.content += delta.text
                self.entries += entries
            case Reasoning():
                self.reasoning += delta.text
            case ToolCallStart():
                function = {"name": delta.name, "arguments": ""}
                self.calls.append({"id": delta.id, "type": "function", "function": function})
            case ToolCallArguments():
                self.calls[delta.index]["function"]["arguments"] += delta.text

    def message(self, *, functions: bool) -> dict[str, Any]:
        """The message as OpenAI shapes it; ``functions`` wants the old form, which has one call."""
        message: dict[str, Any] = {"role": "assistant", "content": self.content, "refusal": None}
        if self.calls:
            message["content"] = self.content or None
            if functions:
                message["function_call"] = self.calls[0]["function"]
            else:
                message["tool_calls"] = self.calls
        if self.reasoning:
            message["reasoning_content"] = self.reasoning
        return message


def delta_fields(delta: Delta, *, functions: bool) -> dict[str, Any]:
    """A delta as a chunk shows it."""
    match delta:
        case Content():
            return {"content": delta.text}
        case Reasoning():
            return {"reasoning_content": delta.text}
        case ToolCallStart():
            function = {"name": delta.name, "arguments": ""}
            if functions:
                return {"function_call": function}
            return {
                "tool_calls": [
                    {"index": delta.index, "id": delta.id, "type": "function", "function": function}
                ]
            }
        case ToolCallArguments():
            if functions:
                return {"function_call": {"arguments": delta.text}}
            return {"tool_calls": [{"index": delta.index, "function": {"arguments": delta.text}}]}


def finish_reason(reason: str, calls: int, *, functions: bool) -> str:
    """An answer that ended by itself with calls in it ended for them."""
    if reason != "stop" or not calls:
        return reason
    return "function_call" if functions else "tool_calls"
