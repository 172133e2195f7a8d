"""What bounds a request: its context, its length, its grant, and what is known of it so far."""

from collections.abc import Sequence

from kindling_engine.scheduler.plan import Finish, Outcome
from kindling_engine.scheduler.request import Request, RequestState
from kindling_engine.scheduler.rows import StepRows

MAX_PARTIAL_PREFILLS = 4


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


def prompts_few(running: Sequence[Request], rows: StepRows, max_length: int) -> bool:
    """Whether one more prompt may be left unfinished by a step of ``rows``."""
    unfinished = 0
    for request in running:
        row = rows.by_id.get(request.id)
        unfinished += not (step_decides(request, max_length) if row is None else row.samples)
    return unfinished < MAX_PARTIAL_PREFILLS


def _refusal(request: Request, code: str, message: str) -> Outcome:
    request.state = RequestState.ENDED
    return Outcome(request, None, "error", error_code=code, error=message)
