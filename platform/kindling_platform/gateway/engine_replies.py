"""What an engine's reply says beside the answer: headers for the client, a prompt's length, whether to ask another."""

import orjson

from kindling_platform.gateway.errors import GatewayError, upstream_failed
from kindling_platform.gateway.limits.deadline import DEADLINE_EXCEEDED, deadline_exceeded
from kindling_platform.gateway.request import Headers
from kindling_platform.gateway.wire.line import Line

RETRIED_CODES = frozenset({"engine_unavailable"})
PROMPT_TOKENS = b"x-kindling-prompt-tokens"
WRITTEN_MS = b"x-kindling-written-ms"
RELAYED_HEADERS = (
    *(b"x-kindling-ignored", b"retry-after"),
    *(PROMPT_TOKENS, b"x-kindling-cached-tokens"),
    *(b"server-timing", b"x-kindling-adapter-hit"),
)


def passed_headers(reply: Line) -> Headers:
    """Headers of the engine's which are meant for the client."""
    return [(name, reply.headers[name]) for name in RELAYED_HEADERS if name in reply.headers]


def prompt_tokens(reply: Line) -> int:
    """How long the prompt of a stream is; 0 where the engine does not say."""
    return _number(reply, PROMPT_TOKENS)


def written_ms(reply: Line) -> int:
    """How long ago the first token of a whole answer came; 0 for a stream, which begins with it."""
    return _number(reply, WRITTEN_MS)


def is_retried(status: int, first: bytes) -> bool:
    """Whether an engine said, before any output, that its core is gone and the request may go elsewhere."""
    if status >= 500:
        return error_code(first) in RETRIED_CODES
    if status == 200 and first.startswith(b'data: {"error":'):
        return error_code(first.partition(b"\n")[0].removeprefix(b"data: ")) in RETRIED_CODES
    return False


def refusal_of(reply: Line, body: bytes) -> GatewayError:
    """What the client is told of a failure of the engine's."""
    if reply.status == 503 and error_code(body) == "overloaded":
        message = "All replicas of this model are busy. Try again in a few seconds."
        after = reply.headers.get(b"retry-after", b"1").decode("latin-1")
        return GatewayError(503, "overloaded", message, headers={"retry-after": after})
    if error_code(body) == DEADLINE_EXCEEDED:  # it was stopped for that, before the engine had begun with it
        return deadline_exceeded()
    return upstream_failed()


def _number(reply: Line, name: bytes) -> int:
    text = reply.headers.get(name, b"")
    return int(text) if text.isdigit() else 0


def error_code(body: bytes) -> str:
    """The code of an OpenAI-shaped error; empty when the body is none."""
    try:
        error = orjson.loads(body)["error"]
        return str(error["code"] or "")
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return ""
