"""The shapes of OpenAI's answers: whole replies and the chunks of a stream."""

from typing import Any

import msgspec

from kindling_engine.server.generation import Generation
from kindling_engine.server.logprobs import chat_logprobs, completion_logprobs
from kindling_engine.server.model_text import ModelText
from kindling_engine.server.output_text import TokenEntry
from kindling_engine.server.request_body import GenerationRequest

DONE = b"data: [DONE]\n\n"
_encode = msgspec.json.encode
# OpenAI knows no reason for an end by credit; to a client it is an answer that was cut short.
_REASON = {"stop": "stop", "length": "length", "grant_refused": "length"}


class Reply:
    """Builds the answer to one request."""

    def __init__(self, request: GenerationRequest, generation: Generation, text: ModelText) -> None:
        self._request = request
        self._generation = generation
        self._text = text
        self._head = {
            "id": f"{'chatcmpl' if request.chat else 'cmpl'}-{generation.id}",
            "object": self._object_name(),
            "created": generation.started_ms // 1000,
            "model": request.model,
        }
        # All chunks of text share everything but the text.
        opening = _encode({**self._head, "choices": []})[:-2]
        delta = b'{"index":0,"delta":{"content":' if request.chat else b'{"index":0,"text":'
        self._before_text = b"data: " + opening + delta
        self._after_text = (b"}" if request.chat else b"") + b',"logprobs":null,"finish_reason":null}]}\n\n'

    def whole(self, text: str, entries: list[TokenEntry], finish: str) -> bytes:
        """The body of a reply that is not streamed."""
        said: dict[str, Any] = (
            {"message": {"role": "assistant", "content": text, "refusal": None}}
            if self._request.chat
            else {"text": text}
        )
        choice = {
            "index": 0,
            **said,
            "logprobs": self._logprobs(entries),
            "finish_reason": _REASON[finish],
        }
        return _encode({**self._head, "choices": [choice], "usage": self._usage()})

    def role_event(self) -> bytes:
        """A chat stream's first chunk; a plain completion has none."""
        if not self._request.chat:
            return b""
        return self._choice_event({"delta": {"role": "assistant", "content": ""}}, [], None)

    def text_event(self, text: str, entries: list[TokenEntry]) -> bytes:
        """A chunk with text."""
        if not entries:
            return self._before_text + _encode(text) + self._after_text
        said: dict[str, Any] = {"delta": {"content": text}} if self._request.chat else {"text": text}
        return self._choice_event(said, entries, None)

    def last_events(self, finish: str) -> bytes:
        """The finish reason, the usage, and the end of the stream."""
        said: dict[str, Any] = {"delta": {}} if self._request.chat else {"text": ""}
        last = self._choice_event(said, [], _REASON[finish])
        usage = _event({**self._head, "choices": [], "usage": self._usage()})
        return last + usage + DONE

    def _choice_event(self, said: dict[str, Any], entries: list[TokenEntry], reason: str | None) -> bytes:
        choice = {"index": 0, **said, "logprobs": self._logprobs(entries) if entries else None}
        return _event({**self._head, "choices": [{**choice, "finish_reason": reason}]})

    def _object_name(self) -> str:
        if not self._request.chat:
            return "text_completion"
        return "chat.completion.chunk" if self._request.stream else "chat.completion"

    def _logprobs(self, entries: list[TokenEntry]) -> dict[str, Any] | None:
        if self._request.logprobs < 0:
            return None
        shape = chat_logprobs if self._request.chat else completion_logprobs
        return shape(entries, self._text)

    def _usage(self) -> dict[str, Any]:
        done = self._generation
        return {
            "prompt_tokens": done.prompt_tokens,
            "completion_tokens": done.completion_tokens,
            "total_tokens": done.prompt_tokens + done.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": done.cached_tokens},
        }


def error_event(body: dict[str, Any]) -> bytes:
    """An error after the stream has begun; nothing follows it."""
    return _event(body)


def _event(value: dict[str, Any]) -> bytes:
    return b"data: " + _encode(value) + b"\n\n"
