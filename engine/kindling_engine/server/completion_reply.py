"""A plain completion's answer: one object, or chunks with text."""

from typing import Any

from kindling_engine.server.generation import Generation
from kindling_engine.server.logprobs import completion_logprobs
from kindling_engine.server.model_text import ModelText
from kindling_engine.server.output_text import TokenEntry
from kindling_engine.server.reply import REASON, encode, end_events, event, reply_head, usage_block
from kindling_engine.server.request_common import GenerationRequest


class CompletionReply:
    """Builds the answer to one plain completion."""

    def __init__(self, request: GenerationRequest, generation: Generation, text: ModelText) -> None:
        self._wants_logprobs = request.logprobs >= 0
        self._generation = generation
        self._text = text
        self._head = reply_head("text_completion", "cmpl", generation, request.model)
        # All chunks of text share everything but the text.
        opening = encode({**self._head, "choices": []})[:-2]
        self._before_text = b"data: " + opening + b'{"index":0,"text":'
        self._after_text = b',"logprobs":null,"finish_reason":null}]}\n\n'

    def whole(self, text: str, entries: list[TokenEntry], finish: str) -> bytes:
        choice = self._choice(text, entries, REASON[finish])
        return encode({**self._head, "choices": [choice], "usage": usage_block(self._generation)})

    def first_event(self) -> bytes:
        return b""

    def text_event(self, text: str, entries: list[TokenEntry]) -> bytes:
        if not entries:
            return self._before_text + encode(text) + self._after_text
        return event({**self._head, "choices": [self._choice(text, entries, None)]})

    def last_events(self, finish: str) -> bytes:
        last = {"index": 0, "text": "", "logprobs": None, "finish_reason": REASON[finish]}
        return end_events(self._head, last, usage_block(self._generation))

    def _choice(self, text: str, entries: list[TokenEntry], reason: str | None) -> dict[str, Any]:
        logprobs = completion_logprobs(entries, self._text) if self._wants_logprobs else None
        return {"index": 0, "text": text, "logprobs": logprobs, "finish_reason": reason}
