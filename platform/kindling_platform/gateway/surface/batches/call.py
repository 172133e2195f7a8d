"""One request of a batch, made inside this process: the same way as one from outside, but for its client."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from http import HTTPStatus

import orjson

from kindling_platform.gateway.admission import Usage
from kindling_platform.gateway.auth import Caller
from kindling_platform.gateway.events import usage_of
from kindling_platform.gateway.idempotency.guard import HEADER
from kindling_platform.gateway.request import JSON_HEADER, Message
from kindling_platform.gateway.routes import Action
from kindling_platform.gateway.surface.messages.reply import MessageForm
from kindling_platform.gateway.surface.messages.usage import BATCH
from kindling_platform.gateway.surface.shaped import ShapedRequest

# A request that fails through us is tried so often, after these pauses.
PAUSES_S = (0.5, 2.0)
FATAL = frozenset(
    {"invalid_api_key", "key_revoked", "key_expired", "scope_missing", "organisation_not_found"}
)
# What a batch waits for, in seconds: somebody has to pay, or there has to be room.
MONEY_S, ROOM_S = 60.0, 10.0
WAITS = {
    "insufficient_credit": MONEY_S,
    "budget_exceeded": MONEY_S,
    "account_unpaid": MONEY_S,
    "account_suspended": MONEY_S,
}
RUNS_ELSEWHERE = "idempotency_running"
Serve = Callable[[ShapedRequest, Caller, Action], Awaitable[None]]


class InnerRequest(ShapedRequest):
    """A request whose connection is nobody's."""

    __slots__ = ()

    def on_gone(self, callback: Callable[[], None] | None) -> bool:
        return False


@dataclass(slots=True)
class Answer:
    """What a request got."""

    status: int = 0
    request_id: str = ""
    body: bytes = b""
    parts: list[bytes] = field(default_factory=list)
    # What the gateway calls its refusal, as not every shape has a place for a code.
    outcome: str = ""

    @property
    def failed(self) -> bool:
        return self.status != HTTPStatus.OK

    @property
    def code(self) -> str:
        """The error's code, "" without one."""
        try:
            return str(orjson.loads(self.body)["error"]["code"]) if self.failed else ""
        except (orjson.JSONDecodeError, LookupError, TypeError):
            return self.outcome

    @property
    def usage(self) -> Usage | None:
        """The tokens of an answer, in either of OpenAI's shapes or in Anthropic's."""
        if self.failed:
            return None
        usage = orjson.loads(self.body).get("usage")
        if not isinstance(usage, dict):
            return None
        if "cache_read_input_tokens" in usage:
            cached = usage["cache_read_input_tokens"]
            usage = {
                "prompt_tokens": usage["input_tokens"] + cached,
                "completion_tokens": usage["output_tokens"],
                "prompt_tokens_details": {"cached_tokens": cached},
            }
        elif "input_tokens" in usage:
            usage = {
                "prompt_tokens": usage["input_tokens"],
                "completion_tokens": usage.get("output_tokens"),
                "prompt_tokens_details": usage.get("input_tokens_details"),
                "completion_tokens_details": usage.get("output_tokens_details"),
            }
        return usage_of(usage)

    @property
    def wait_s(self) -> float:
        """For how long the batch waits before it asks again; 0 where this is the answer."""
        code = self.code
        if code in WAITS:
            return WAITS[code]
        if code == "price_missing":
            return MONEY_S
        busy = self.status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
        return ROOM_S if busy else 0.0

    @property
    def is_of_its_model(self) -> bool:
        """Whether lines of other models need not wait for the same."""
        return self.code in ("price_missing", "no_replica", "overloaded")

    @property
    def runs_elsewhere(self) -> bool:
        """Whether another process has begun the same request and has not ended it."""
        return self.code == RUNS_ELSEWHERE

    @property
    def is_ours(self) -> bool:
        """Whether the platform has failed."""
        return self.status >= HTTPStatus.INTERNAL_SERVER_ERROR and not self.wait_s


async def call(serve: Serve, caller: Caller, action: Action, *, path: str, key: str, body: bytes) -> Answer:
    """Ask until there is an answer that is not a failure of ours, a few times at most.

    With the `key` it is charged once however often it is asked, and by whichever process.
    """
    answer = await _call(serve, caller, action, path=path, key=key, body=body)
    for pause_s in PAUSES_S:
        if not answer.is_ours:
            break
        await asyncio.sleep(pause_s)
        answer = await _call(serve, caller, action, path=path, key=key, body=body)
    return answer


async def _call(serve: Serve, caller: Caller, action: Action, *, path: str, key: str, body: bytes) -> Answer:
    answer, unread = Answer(), [body]

    async def receive() -> Message:
        if unread:
            return {"type": "http.request", "body": unread.pop(), "more_body": False}
        await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            answer.status = message["status"]
        else:
            answer.parts.append(message.get("body", b""))

    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "query_string": b"",
        "headers": [JSON_HEADER, (HEADER, key.encode())],
    }
    # A batch may be of messages in Anthropic's shape; no other shape is known by the path alone.
    form = MessageForm(BATCH) if action is Action.MESSAGES else None
    request = InnerRequest(scope, receive, send, form)
    request.facts["batch"] = key
    await serve(request, caller, action)
    answer.request_id, answer.body = request.id, b"".join(answer.parts)
    answer.outcome = str(request.facts.get("outcome", ""))
    answer.parts = []
    return answer
