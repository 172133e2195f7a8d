"""What constraints have to say about the outcomes of a step."""

from dataclasses import replace

from kindling_engine.constraints.base import ConstraintError
from kindling_engine.runner.runner import RunnerPayload
from kindling_engine.sampling.sampler import Draw
from kindling_engine.scheduler.plan import Outcome
from kindling_engine.scheduler.scheduler import Scheduler


def failed_draws_end(scheduler: Scheduler, draws: dict[str, Draw]) -> list[Outcome]:
    """End the requests whose constraint could not be kept, before their tokens are booked; ``draws`` by request."""
    outcomes = []
    for request_id, draw in draws.items():
        if draw.error is not None:
            outcome = scheduler.fail(request_id, draw.error.code, draw.error.message)
            if outcome is not None:
                outcomes.append(outcome)
    return outcomes


def constraint_advance(scheduler: Scheduler, outcome: Outcome) -> Outcome:
    """Move a request's constraint on by the token just booked; a text that is complete ends here, as ``stop``."""
    payload = outcome.request.payload
    constraint = payload.constraint if isinstance(payload, RunnerPayload) else None
    if constraint is None or outcome.token is None or outcome.finish in ("stop", "error"):
        return outcome
    try:
        constraint.accept(outcome.token)
    except ConstraintError as error:
        scheduler.fail(outcome.request.id, error.code, error.message)
        return replace(outcome, finish="error", parked=False, error_code=error.code, error=error.message)
    if not constraint.finished:
        return outcome
    # Nothing but an end token could follow, so none is waited for; a length reached just now no longer matters.
    scheduler.finish(outcome.request.id)
    return replace(outcome, finish="stop", parked=False)
