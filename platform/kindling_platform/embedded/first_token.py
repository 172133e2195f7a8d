"""The proof that a start worked: one request on the public path, and the bill for it."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any

from kindling_platform.embedded.errors import EmbeddedError
from kindling_platform.embedded.rest import Reply, call, error_code, error_text, stream

MESSAGE = "Tell me a story about a fox."
# What a base model goes on with.
BEGINNING = "Once upon a time there was a fox who"
MAX_TOKENS, MAX_TOKENS_SHOWN = 24, 120
# Fits the shortest context, and needs no template.
WORD = "Hello"
MAX_TOKENS_OF_WORD = 4
# Of requests that a template does not take, or for which a context is too short.
TOO_MUCH = {"invalid_value", "context_length_exceeded"}
PATHS = {"chat": "/v1/chat/completions", "completions": "/v1/completions", "embeddings": "/v1/embeddings"}
# Gateway and worker may be up a moment before they see the replica that the agent already reports.
RETRIED = {0, 404, 502, 503}


@dataclass(frozen=True, slots=True)
class FirstToken:
    """A request that was answered; `at` is the monotonic time of its first text, or of its end where it has none.

    `path` and `body` are what else the model answers, to be shown; `refused` says why it did not answer the usual
    request, where that was so.
    """

    request_id: str
    at: float
    path: str = ""
    body: dict[str, object] = field(default_factory=dict)
    refused: str = ""


def example_body(model: str, surface: str, *, max_tokens: int = MAX_TOKENS) -> dict[str, object]:
    """A request that a model answers; `surface` is one of PATHS."""
    if surface == "embeddings":
        return {"model": model, "input": [MESSAGE]}
    asked = (
        {"messages": [{"role": "user", "content": MESSAGE}]} if surface == "chat" else {"prompt": BEGINNING}
    )
    return {"model": model, **asked, "max_tokens": max_tokens}


def first_token_get(*, url: str, key: str, model: str, timeout_s: float, surface: str = "chat") -> FirstToken:
    """Ask until an answer comes; a word is asked where the usual request is too much for a template or a context.

    Errors: `first_token_failed` with what the gateway said.
    """
    deadline = time.monotonic() + timeout_s
    path, body = PATHS[surface], example_body(model, surface)
    shown, refused = example_body(model, surface, max_tokens=MAX_TOKENS_SHOWN), ""
    while True:
        reply, lines = stream(url + path, token=key, body=body | _options(surface))
        if reply.status == 200:
            found = _vector_read(reply, lines) if surface == "embeddings" else _text_read(reply, lines)
            return FirstToken(*found, path, shown, refused)
        if reply.status == 400 and not refused and error_code(reply) in TOO_MUCH:
            refused = error_text(reply)
            path, surface, body = _word(model, surface)
            shown = body
            continue
        if reply.status not in RETRIED or time.monotonic() > deadline:
            text = f"The first request was not answered: {refused or error_text(reply)}"
            raise EmbeddedError("first_token_failed", text)
        time.sleep(0.1)


def _options(surface: str) -> dict[str, object]:
    if surface == "embeddings":
        return {}
    return {"stream": True, "stream_options": {"include_usage": True}}


def _word(model: str, surface: str) -> tuple[str, str, dict[str, object]]:
    """Path, surface and body of the least that a model can be asked."""
    if surface == "embeddings":
        return PATHS[surface], surface, {"model": model, "input": [WORD]}
    body: dict[str, object] = {"model": model, "prompt": WORD, "max_tokens": MAX_TOKENS_OF_WORD}
    return PATHS["completions"], "completions", body


def bill_wait(*, url: str, key: str, request_id: str, timeout_s: float) -> int:
    """The cost of the request in pico-dollars, once it is on the bill. Errors: `not_billed`."""
    deadline = time.monotonic() + timeout_s
    while True:
        reply = call(f"{url}/api/v1/usage/requests/{request_id}", token=key)
        if reply.status == 200:
            return int(reply.body["cost_picousd"])
        if time.monotonic() > deadline:
            raise EmbeddedError(
                "not_billed",
                f"A token was generated, but its bill did not arrive in {timeout_s:.0f} s "
                f"({error_text(reply)}); the worker's log may say why.",
            )
        time.sleep(0.05)


def _vector_read(reply: Reply, lines: Iterator[bytes]) -> tuple[str, float]:
    with _breaking_off():
        answer = json.loads(b"".join(lines))
    if not answer.get("data"):
        raise EmbeddedError("first_token_failed", "The engine answered without a vector.")
    return _id_of(reply), time.monotonic()


def _text_read(reply: Reply, lines: Iterator[bytes]) -> tuple[str, float]:
    at, tokens = 0.0, 0
    with _breaking_off():
        for line in lines:
            chunk = json.loads(line[6:]) if line.startswith(b"data: {") else {}
            if "error" in chunk:
                message = f"The answer broke off: {chunk['error'].get('message')}"
                raise EmbeddedError("first_token_failed", message)
            if not at and _says_something(chunk):
                at = time.monotonic()
            tokens = (chunk.get("usage") or {}).get("completion_tokens", tokens)
    if not at and not tokens:
        raise EmbeddedError("first_token_failed", "The engine answered without a single token.")
    return _id_of(reply), at or time.monotonic()


def _says_something(chunk: dict[str, Any]) -> bool:
    """Text of an answer, or of the thoughts before it, which may be all that a few tokens are enough for."""
    for choice in chunk.get("choices") or ():
        said = choice.get("delta") or choice
        if any(said.get(name) for name in ("content", "reasoning_content", "text")):
            return True
    return False


@contextmanager
def _breaking_off() -> Iterator[None]:
    try:
        yield
    except (OSError, HTTPException, ValueError) as error:
        raise EmbeddedError("first_token_failed", f"The answer broke off: {error}") from error


def _id_of(reply: Reply) -> str:
    return reply.headers.get("x-request-id", "")
