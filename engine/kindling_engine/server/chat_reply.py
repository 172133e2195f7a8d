"""A chat completion's answer: one object, or chunks with deltas."""

from collections.abc import Sequence
from typing import Any

from kindling_engine.server.chat_choice import ChatChoice, MessageParts, delta_fields, finish_reason
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
    stop_fields,
    token_fields,
    usage_events,
    usage_fields,
)
from kindling_engine.server.request_common import GenerationRequest


class ChatReply:
    """Builds the answers to one chat request."""

    def __init__(self, request: GenerationRequest, generation: Generation, text: ModelText) -> None:
        self._wants_logprobs = request.logprobs >= 0
        self._request = request
        self._generation = generation
        self._text = text
        self._shape = request.shape
        self._functions = request.shape is not None and request.shape.functions
        self._choices: dict[int, ChatChoice] = {}
        name = "chat.completion.chunk" if request.stream else "chat.completion"
        self._head = reply_head(name, "chatcmpl", generation, request.model)
        # All chunks of text share everything but the text.
        opening = encode({**self._head, "choices": []})[:-2]
        self._before_text = b"data: " + opening + b'{"index":0,"delta":{"content":'
        self._after_text = b'},"logprobs":null,"finish_reason":null}]}\n\n'

    def whole(self, answers: Sequence[Answer]) -> bytes:
        choices = [self._whole_choice(answer) for answer in answers]
        return encode({**self._head, "choices": choices, **self._usage()})

    def first_events(self) -> bytes:
        # Clients that join deltas would make text of an empty content beside a call.
        delta = {"role": "assistant"} if self._offers_tools else {"role": "assistant", "content": ""}
        return b"".join(self._choice_event(index, delta, first=True) for index in range(self._request.n))

    def piece_events(self, piece: Piece) -> bytes:
        choice = self._choice(piece.index)
        out = self._plain_event(piece) if choice is None else self._delta_events(choice, piece)
        if piece.finish:
            calls = choice.calls if choice else 0
            last = {
                "index": piece.index,
                "delta": {},
                "logprobs": None,
                "finish_reason": finish_reason(REASON[piece.finish], calls, functions=self._functions),
                **stop_fields(piece.stop),
            }
            out += event({**self._head, "choices": [last]})
        return out

    def end_events(self) -> bytes:
        return usage_events(self._head, self._usage())

    @property
    def _offers_tools(self) -> bool:
        return self._shape is not None and bool(self._shape.offered)

    def _choice(self, index: int) -> ChatChoice | None:
        if self._shape is None:
            return None
        if index not in self._choices:
            self._choices[index] = ChatChoice(self._shape)
        return self._choices[index]

    def _whole_choice(self, answer: Answer) -> dict[str, Any]:
        parts, calls = MessageParts(answer.text, entries=answer.entries), 0
        if choice := self._choice(answer.index):
            parts = MessageParts()
            cut = REASON[answer.finish] == "length"
            for delta, entries in choice.feed(answer.text, answer.entries, final=True, cut=cut):
                parts.add(delta, entries)
            calls = choice.calls
        return {
            "index": answer.index,
            "message": parts.message(functions=self._functions),
            "logprobs": chat_logprobs(parts.entries, self._text) if self._wants_logprobs else None,
            "finish_reason": finish_reason(REASON[answer.finish], calls, functions=self._functions),
            **stop_fields(answer.stop),
            **token_fields(self._request, answer.index, answer.token_ids, first=True),
        }

    def _plain_event(self, piece: Piece) -> bytes:
        """Content alone: the way of most tokens, so it is kept short."""
        if not (piece.text or piece.entries or (self._request.return_token_ids and piece.token_ids)):
            return b""
        if piece.index or piece.entries or self._request.return_token_ids:
            return self._choice_event(piece.index, {"content": piece.text}, piece.entries, piece.token_ids)
        return self._before_text + encode(piece.text) + self._after_text

    def _delta_events(self, choice: ChatChoice, piece: Piece) -> bytes:
        cut = REASON.get(piece.finish) == "length"
        told = choice.feed(piece.text, piece.entries, final=bool(piece.finish), cut=cut)
        ids: Sequence[int] = piece.token_ids
        if not told:
            if not (self._request.return_token_ids and ids):
                return b""
            return self._choice_event(piece.index, {}, token_ids=ids)
        out = b""
        for delta, entries in told:
            fields = delta_fields(delta, functions=self._functions)
            out += self._choice_event(piece.index, fields, entries, ids)
            ids = ()  # a piece's tokens are told once
        return out

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

    def _usage(self) -> dict[str, Any]:
        return usage_fields(self._request, self._generation)
