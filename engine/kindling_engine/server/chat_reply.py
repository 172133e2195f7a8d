"""A chat completion's answer: one object, or chunks with deltas."""

from typing import Any

from kindling_engine.server.generation import Generation
from kindling_engine.server.logprobs import chat_logprobs
from kindling_engine.server.model_text import ModelText
from kindling_engine.server.output_text import TokenEntry
from kindling_engine.server.reply import REASON, encode, end_events, event, reply_head, usage_block
from kindling_engine.server.request_common import GenerationRequest


class ChatReply:
    """Builds the answer to one chat request."""

    def __init__(self, request: GenerationRequest, generation: Generation, text: ModelText) -> None:
        self._wants_logprobs = request.logprobs >= 0
        self._generation = generation
        self._text = text
        name = "chat.completion.chunk" if request.stream else "chat.completion"
        self._head = reply_head(name, "chatcmpl", generation, request.model)
        # All chunks of text share everything but the text.
        opening = encode({**self._head, "choices": []})[:-2]
        self._before_text = b"data: " + opening + b'{"index":0,"delta":{"content":'
        self._after_text = b'},"logprobs":null,"finish_reason":null}]}\n\n'

    def whole(self, text: str, entries: list[TokenEntry], finish: str) -> bytes:
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": text, "refusal": None},
            "logprobs": chat_logprobs(entries, self._text) if self._wants_logprobs else None,
            "finish_reason": REASON[finish],
        }
        return encode({**self._head, "choices": [choice], "usage": usage_block(self._generation)})

    def first_event(self) -> bytes:
        return self._choice_event({"role": "assistant", "content": ""}, [])

    def text_event(self, text: str, entries: list[TokenEntry]) -> bytes:
        if not entries:
            return self._before_text + encode(text) + self._after_text
        return self._choice_event({"content": text}, entries)

    def last_events(self, finish: str) -> bytes:
        last = {"index": 0, "delta": {}, "logprobs": None, "finish_reason": REASON[finish]}
        return end_events(self._head, last, usage_block(self._generation))

    def _choice_event(self, delta: dict[str, Any], entries: list[TokenEntry]) -> bytes:
        logprobs = chat_logprobs(entries, self._text) if entries and self._wants_logprobs else None
        choice = {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": None}
        return event({**self._head, "choices": [choice]})
