"""Embed messages in, Embedded messages out."""

import time
from collections.abc import Callable
from typing import Any

from kindling_engine.core.intake import MAX_WEIGHT, MIN_WEIGHT
from kindling_engine.embeddings.ticket import embed_request, ticket_of
from kindling_engine.protocol.ipc import Embed, Embedded, ToFront
from kindling_engine.scheduler.plan import Outcome
from kindling_engine.scheduler.request import Request

_NOT_EMBEDDING = "This model generates text; it makes no embeddings."
_NO_ADAPTERS = "Adapters cannot be used with an embedding model."


class EmbeddingDesk:
    """Turns messages into requests of the scheduler, and their outcomes into answers."""

    def __init__(
        self,
        *,
        embeds: bool,
        vocab_size: int,
        send: Callable[[ToFront], None],
        admit: Callable[[Request, float], None],
    ) -> None:
        self._embeds = embeds
        self._vocab_size = vocab_size
        self._send = send
        self._admit = admit

    def submit(self, message: Embed, now_s: float) -> None:
        """Queue a text, or answer why not."""
        ids = message.prompt_ids
        if not self._embeds:
            self._refuse(message, "not_an_embedding_model", _NOT_EMBEDDING)
        elif message.adapter:
            self._refuse(message, "adapter_load_failed", _NO_ADAPTERS)
        elif ids and not 0 <= min(ids) <= max(ids) < self._vocab_size:
            self._refuse(
                message, "invalid_value", f"prompt_ids must lie between 0 and {self._vocab_size - 1}."
            )
        elif not MIN_WEIGHT <= message.weight <= MAX_WEIGHT:
            self._refuse(message, "invalid_value", "weight is out of range.")
        else:
            request = embed_request(
                message.id,
                ids,
                now_s=now_s,
                on_outcome=self._answer,
                salt=message.salt,
                tenant=message.tenant,
                priority=message.priority,
                weight=message.weight,
            )
            self._admit(request, now_s)

    def _answer(self, outcome: Outcome) -> None:
        if not outcome.finish:
            return
        request = outcome.request
        vector = ticket_of(request).vector
        done = outcome.finish == "stop" and vector is not None
        admitted_s = time.monotonic() if request.admitted_s is None else request.admitted_s
        self._send(
            Embedded(
                id=request.id,
                values=vector.astype("<f4").tobytes() if done and vector is not None else b"",
                prompt_tokens=request.prompt_len,
                cached_tokens=request.cached_tokens,
                finish=outcome.finish,
                error_code=_CODES.get(outcome.error_code, outcome.error_code),
                error=_SENTENCES.get(outcome.error_code, outcome.error),
                queue_ms=max(0.0, (admitted_s - request.arrived_s) * 1000),
            )
        )

    def _refuse(self, message: Embed, code: str, sentence: str) -> None:
        self._send(
            Embedded(
                message.id,
                prompt_tokens=len(message.prompt_ids),
                finish="error",
                error_code=code,
                error=sentence,
            )
        )


_CODES: dict[str, Any] = {"non_finite_logits": "non_finite_embedding"}
_SENTENCES: dict[str, Any] = {"non_finite_logits": "The model produced no finite vector for this text."}
