"""A plain completion's answer: one object, or chunks with text."""

from collections.abc import Sequence
from typing import Any

from kindling_engine.server.choice import Answer, Piece
from kindling_engine.server.generation import Generation
from kindling_engine.server.logprobs import TokenNames, completion_logprobs
from kindling_engine.server.model_text import ModelText
from kindling_engine.server.output_text import TokenEntry
from kindling_engine.server.reply import (
    REASON,
    encode,
    event,
    reply_head,
    stop_fields,
    token_fields,
    usage_events,
    usage_fields,
)
from kindling_engine.server.request_common import GenerationRequest


class CompletionReply:
    """Builds the answers to one plain completion."""

    def __init__(self, request: GenerationRequest, generation: Generation, text: ModelText) -> None:
        self._wants_logprobs = request.logprobs >= 0
        self._request = request
        self._generation = generation
        self._names = TokenNames(text)
        self._begun: set[int] = set()
        self._head = reply_head("text_completion", "cmpl", generation, request.model)
        # All chunks of text share everything but the text.
        opening = encode({**self._head, "choices": []})[:-2]
        self._before_text = b"data: " + opening + b'{"index":0,"text":'
        self._after_text = b',"logprobs":null,"finish_reason":null}]}\n\n'

    def whole(self, answers: Sequence[Answer]) -> bytes:
        choices = [
            self._choice(answer.index, answer.text, answer.entries, REASON[answer.finish], answer.token_ids)
            | stop_fields(answer.stop)
            for answer in answers
        ]
        return encode({**self._head, "choices": choices, **usage_fields(self._request, self._generation)})

    def first_events(self) -> bytes:
        return b""

    def piece_events(self, piece: Piece) -> bytes:
        out = b""
        if piece.text or piece.entries or (self._request.return_token_ids and piece.token_ids):
            if piece.index or piece.entries or self._request.return_token_ids:
                choice = self._choice(piece.index, piece.text, piece.entries, None, piece.token_ids)
                out = event({**self._head, "choices": [choice]})
            else:
                out = self._before_text + encode(piece.text) + self._after_text
        if piece.finish:
            last = {"index": piece.index, "text": "", "logprobs": None, "finish_reason": REASON[piece.finish]}
            out += event({**self._head, "choices": [last | stop_fields(piece.stop)]})
        return out

    def end_events(self) -> bytes:
        return usage_events(self._head, usage_fields(self._request, self._generation))

    def _choice(
        self,
        index: int,
        text: str,
        entries: Sequence[TokenEntry],
        reason: str | None,
        token_ids: Sequence[int],
    ) -> dict[str, Any]:
        logprobs = completion_logprobs(entries, self._names) if self._wants_logprobs else None
        choice = {"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason}
        choice |= token_fields(self._request, index, token_ids, first=index not in self._begun)
        self._begun.add(index)
        return choice
