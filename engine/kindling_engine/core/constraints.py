"""Requests that wait for a grammar, kept out of the scheduler until it is compiled."""

from collections.abc import Callable

from kindling_engine.constraints.base import ConstraintError, ForeseeableConstraint, TokenConstraint
from kindling_engine.constraints.cache import GrammarCache
from kindling_engine.constraints.grammar import CompiledGrammar
from kindling_engine.constraints.thinking import ThinkingConstraint
from kindling_engine.core.intake import IntakeError
from kindling_engine.core.submission import Submission
from kindling_engine.models.base import ModelConfig
from kindling_engine.runner.runner import RunnerPayload
from kindling_engine.scheduler.plan import Outcome
from kindling_engine.scheduler.request import Request, RequestState
from kindling_engine.speculation.speculator import RequestDrafting

Enter = Callable[[Request, float], Outcome | None]


class ConstraintDesk:
    """Between front and scheduler: gives each request its constraint, then lets it ``enter``."""

    def __init__(self, grammars: GrammarCache, config: ModelConfig, *, enter: Enter) -> None:
        self._grammars = grammars
        self._config = config
        self._enter = enter
        self._pending: dict[str, tuple[Request, Submission]] = {}

    @property
    def pending(self) -> int:
        return len(self._pending)

    def submit(self, request: Request, message: Submission, now_s: float) -> Outcome | None:
        """Let a request enter, now or when its grammar is there; an outcome is a refusal.

        Raises IntakeError for a thinking budget that makes no sense.
        """
        if message.constraint is None:
            return self._ready(request, message, None, now_s)
        if request.id in self._pending:
            return _ended(request, "error", "duplicate_request", "A request with this id is already waiting.")
        constraint_make(message, self._config, None)  # refuses now what it would refuse then
        wanted = message.constraint
        grammar = self._grammars.acquire(wanted.kind, wanted.text, request, owner=request.tenant)
        if grammar is not None:
            return self._ready(request, message, grammar, now_s)
        self._pending[request.id] = (request, message)
        return None

    def grant(self, request_id: str, tokens: int) -> None:
        if request_id in self._pending:
            request, _ = self._pending[request_id]
            request.grant = max(request.grant, tokens)

    def cancel(self, request_id: str) -> Outcome | None:
        """End a request that still waits for its grammar."""
        if request_id not in self._pending:
            return None
        request, _ = self._pending.pop(request_id)
        self._grammars.withdraw(request)
        return _ended(request, "cancelled")

    def poll(self, now_s: float) -> list[Outcome]:
        """Let requests enter whose grammar is there now; the outcomes are refusals."""
        outcomes: list[Outcome | None] = []
        for settled in self._grammars.poll():
            request = settled.ticket
            if not isinstance(request, Request) or request.id not in self._pending:
                continue
            _, message = self._pending.pop(request.id)
            if isinstance(settled.result, ConstraintError):
                error = settled.result
                outcomes.append(_ended(request, "error", error.code, error.message))
            else:
                outcomes.append(self._ready(request, message, settled.result, now_s))
        return [outcome for outcome in outcomes if outcome is not None]

    def _ready(
        self, request: Request, message: Submission, grammar: CompiledGrammar | None, now_s: float
    ) -> Outcome | None:
        payload = request.payload
        if isinstance(payload, RunnerPayload):
            _bind(request, payload, constraint_make(message, self._config, grammar))
        return self._enter(request, now_s)


def constraint_attach(
    request: Request, message: Submission, config: ModelConfig, grammars: GrammarCache
) -> None:
    """Give a request its constraint, compiled here and now. Raises IntakeError and ConstraintError."""
    wanted = message.constraint
    grammar = None if wanted is None else grammars.compile(wanted.kind, wanted.text)
    if isinstance(request.payload, RunnerPayload):
        _bind(request, request.payload, constraint_make(message, config, grammar))


def constraint_make(
    message: Submission, config: ModelConfig, grammar: CompiledGrammar | None
) -> TokenConstraint | None:
    """The constraint of a request: its grammar, behind its reasoning. Raises IntakeError."""
    answer = None if grammar is None else grammar.start(ends=not message.sampling.ignore_eos)
    thinking = message.thinking
    if thinking is None:
        return answer
    try:
        return ThinkingConstraint(
            start_ids=thinking.start_ids,
            end_ids=thinking.end_ids,
            budget=thinking.budget,
            is_open=thinking.open,
            vocab_size=config.vocab_size,
            eos_ids=config.eos_ids,
            answer=answer,
        )
    except ValueError as error:
        raise IntakeError(str(error)) from None


def _bind(request: Request, payload: RunnerPayload, constraint: TokenConstraint | None) -> None:
    payload.constraint = constraint
    request.waits_for_token = constraint is not None
    if isinstance(request.drafting, RequestDrafting) and isinstance(constraint, ForeseeableConstraint):
        request.drafting.constraint = constraint


def _ended(request: Request, finish: str, code: str = "", message: str = "") -> Outcome:
    request.state = RequestState.ENDED
    return Outcome(request, None, finish, error_code=code, error=message)  # type: ignore[arg-type]
