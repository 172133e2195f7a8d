"""What bounds a request: its context, its length, its grant, and what is known of it so far."""

from collections.abc import Mapping, Sequence

from kindling_engine.scheduler.plan import Finish, Outcome, ScheduledRow
from kindling_engine.scheduler.request import Request, RequestState


def refusal_find(request: Request, *, running: bool, max_length: int) -> Outcome | None:
    """The final outcome of a request that cannot be taken in; ``running`` says that its id is in use."""
    if running:
        return _refusal(request, "duplicate_request", "A request with this id is already running.")
    if request.prompt_len < 1 or request.max_tokens < 1:
        return _refusal(request, "invalid_value", "The prompt and max_tokens need at least one token.")
    if request.prompt_len + (not request.embeds) > max_length:
        return _refusal(
            request,
            "context_length_exceeded",
            f"The prompt has {request.prompt_len} tokens; this replica holds {max_length}"
            + ("." if request.embeds else " including at least one of output."),
        )
    return None


def step_decides(request: Request, max_length: int) -> bool:
    """Whether the step under way has to be booked before it is known if this request goes on, and how."""
    if not request.ahead:
        return False
    return (
        request.waits_for_token
        or request.embeds
        or request.made + request.ahead >= min(request.max_tokens, request.grant)
        or len(request.tokens) + request.ahead >= max_length
    )


def finish_of(request: Request, token: int, max_length: int) -> Finish:
    """Whether the token that it made last ends a request, and how."""
    if token in request.stop_ids and request.made >= request.min_tokens:
        return "stop"
    return "length" if request.made >= request.max_tokens or len(request.tokens) >= max_length else ""


def partial_count(running: Sequence[Request], rows: Mapping[str, ScheduledRow], max_length: int) -> int:
    """Requests whose prompt will not be done with after a step of ``rows``."""
    return sum(
        1
        for request in running
        if not (rows[request.id].samples if request.id in rows else step_decides(request, max_length))
    )


def tokens_of(rows: Mapping[str, ScheduledRow]) -> int:
    return sum(row.count for row in rows.values())


def _refusal(request: Request, code: str, message: str) -> Outcome:
    request.state = RequestState.ENDED
    return Outcome(request, None, "error", error_code=code, error=message)
