"""Smoke test of an adapter: a few greedy tokens with it and without it, run beside other requests."""

from collections.abc import Callable

from kindling_engine.core.tickets import RequestTicket
from kindling_engine.protocol.adapter_report import ENGINE_FAILED
from kindling_engine.protocol.findings import Finding
from kindling_engine.sampling.params import SamplingParams
from kindling_engine.scheduler.plan import Outcome
from kindling_engine.scheduler.request import Request

SMOKE_TOKENS = 8
# The one end of a generation that tells something of the weights.
NON_FINITE = "non_finite_logits"
_PROMPT_TOKENS = 12

SmokeDone = Callable[[list[Finding], list[int]], None]


class SmokeTest:
    """Two requests with one fixed prompt, ``base`` and ``adapted``.

    ``done`` gets the findings and the adapter's tokens when both have ended.
    """

    def __init__(
        self, *, ticket_id: str, adapter: str, vocab_size: int, now_s: float, done: SmokeDone
    ) -> None:
        self._done = done
        self._prompt = [(7 + 131 * index) % vocab_size for index in range(_PROMPT_TOKENS)]
        self._base_ticket = self._ticket()
        self._adapted_ticket = self._ticket()
        self.base = self._request(f"smoke/{ticket_id}/base", "", self._base_ticket, now_s)
        self.adapted = self._request(f"smoke/{ticket_id}/adapter", adapter, self._adapted_ticket, now_s)
        self._open = 2
        self._error, self._error_code = "", ""

    def _ticket(self) -> RequestTicket:
        return RequestTicket(
            params=SamplingParams(temperature=0.0), keep_logits=True, on_outcome=self._on_outcome
        )

    def _request(self, request_id: str, adapter: str, ticket: RequestTicket, now_s: float) -> Request:
        # The id as salt keeps the test's blocks away from every tenant's, and makes each test compute afresh.
        return Request(
            id=request_id,
            tokens=list(self._prompt),
            max_tokens=SMOKE_TOKENS,
            grant=SMOKE_TOKENS,
            adapter=adapter,
            salt=request_id,
            arrived_s=now_s,
            payload=ticket,
        )

    def _on_outcome(self, outcome: Outcome) -> None:
        if not outcome.finish:
            return
        if outcome.finish == "error":
            self._error, self._error_code = outcome.error, outcome.error_code
        self._open -= 1
        if self._open == 0:
            self._done([self._finding()], self.adapted.tokens[self.adapted.prompt_len :])

    def _finding(self) -> Finding:
        base, adapted = self._base_ticket.first_logits, self._adapted_ticket.first_logits
        if self._error_code == NON_FINITE:
            return Finding(
                "smoke",
                "fail",
                f"The test generation failed: {self._error}",
                "Train again with a lower learning rate or alpha if the weights overflow.",
            )
        if self._error or base is None or adapted is None:
            return Finding(
                ENGINE_FAILED, "fail", self._error or "The test generation ended before its first token."
            )
        shift = (adapted - base).abs().max().item()
        if shift == 0.0:
            return Finding(
                "smoke", "warn", "The adapter does not change the model's output on the test prompt."
            )
        return Finding(
            "smoke",
            "pass",
            f"Generated {SMOKE_TOKENS} tokens; the largest logit shift against the base is {shift:.3g}, "
            f"where logits span {(base.max() - base.min()).item():.3g}.",
        )
