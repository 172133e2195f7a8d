"""A chat completion's answer: one object, or chunks with deltas."""

from collections.abc import Sequence
from typing import Any

from kindling_engine.server.choice import Answer, Piece
from kindling_engine.server.generation import Generation
from kindling_engine.server.logprobs import chat_logprobs
from kindling_engine.server.model_text import ModelText
from kindling_engine.server.output_text import TokenEntry
from kindling_engine.server.reply import (
    REASON,
    encode,
    event,
    reply_head,
    token_fields,
    usage_block,
    usage_events,
)
from kindling_engine.server.request_common import GenerationRequest


class ChatReply:
    """Builds the answers to one chat request."""

    def __init__(self, request: GenerationRequest, generation: Generation, text: ModelText) -> None:
        self._wants_logprobs = request.logprobs >= 0
        self._request = request
        self._generation = generation
        self._text = text
        name = "chat.completion.chunk" if request.stream else "chat.completion"
        self._head = reply_head(name, "chatcmpl", generation, request.model)
        # All chunks of text share everything but the text.
        opening = encode({**self._head, "choices": []})[:-2]
        self._before_text = b"data: " + opening + b'{"index":0,"delta":{"content":'
        self._after_text = b'},"logprobs":null,"finish_reason":null}]}\n\n'

    def whole(self, answers: Sequence[Answer]) -> bytes:
        choices = [
            {
                "index": answer.index,
                "message": {"role": "assistant", "content": answer.text, "refusal": None},
                "logprobs": chat_logprobs(answer.entries, self._text) if self._wants_logprobs else None,
                "finish_reason": REASON[answer.finish],
                **token_fields(self._request, answer.index, answer.token_ids, first=True),
            }
            for answer in answers
        ]
        return encode({**self._head, "choices": choices, "usage": usage_block(self._generation)})

    def first_events(self) -> bytes:
        delta = {"role": "assistant", "content": ""}
        return b"".join(self._choice_event(index, delta, first=True) for index in range(self._request.n))

    def piece_events(self, piece: Piece) -> bytes:
        out = b""
        if piece.text or piece.entries or (self._request.return_token_ids and piece.token_ids):
            if piece.index or piece.entries or self._request.return_token_ids:
                out = self._choice_event(piece.index, {"content": piece.text}, piece.entries, piece.token_ids)
            else:
                out = self._before_text + encode(piece.text) + self._after_text
        if piece.finish:
            last = {
                "index": piece.index,
                "delta": {},
                "logprobs": None,
                "finish_reason": REASON[piece.finish],
            }
            out += event({**self._head, "choices": [last]})
        return out

    def end_events(self) -> bytes:
        return usage_events(self._head, usage_block(self._generation))

    def _choice_event(
        self,
        index: int,
        delta: dict[str, Any],
        entries: Sequence[TokenEntry] = (),
        token_ids: Sequence[int] = (),
        *,
        first: bool = False,
    ) -> bytes:
        logprobs = chat_logprobs(entries, self._text) if entries and self._wants_logprobs else None
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": None}
        choice |= token_fields(self._request, index, token_ids, first=first)
        return event({**self._head, "choices": [choice]})
