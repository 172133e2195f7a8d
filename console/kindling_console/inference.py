"""Calls the gateway the way a customer's program does, so that limits, refusals and the bill are the same."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp
from django.conf import settings

CONNECT_S = 5
SILENCE_S = 120
SAMPLING_FIELDS = (
    "model", "max_tokens", "temperature", "top_p", "top_k", "min_p", "seed", "stop",
    "frequency_penalty", "presence_penalty", "repetition_penalty",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Ask:
    """A request: where it goes, and its body."""

    path: str
    body: dict[str, Any]


class Upstream:
    """An open reply of the gateway; close it to make the engine stop."""

    def __init__(self, session: aiohttp.ClientSession, response: aiohttp.ClientResponse) -> None:
        self._session = session
        self._response = response

    @property
    def status(self) -> int:
        """The gateway's status."""
        return self._response.status

    @property
    def content_type(self) -> str:
        """What the body is."""
        return self._response.headers.get("content-type", "application/json")

    @property
    def request_id(self) -> str:
        """The id under which the request is billed."""
        return self._response.headers.get("x-request-id", "")

    async def body(self) -> bytes:
        """The whole body, for an answer that is not streamed or a refusal."""
        try:
            return await self._response.read()
        finally:
            await self.close()

    async def chunks(self) -> AsyncIterator[bytes]:
        """Pieces as they come. When the browser leaves, the connection is closed and the engine stops."""
        try:
            async for piece in self._response.content.iter_any():
                yield piece
        except aiohttp.ClientError:
            # The cut stream has no final chunk; the page says so.
            return
        finally:
            await self.close()

    async def close(self) -> None:
        """Cut the connection."""
        self._response.close()
        await self._session.close()


def gateway_url() -> str:
    """The gateway's own address: this process's port, unless settings name another."""
    named = getattr(settings, "KINDLING_GATEWAY_URL", "")
    return str(named or f"http://127.0.0.1:{settings.KINDLING_ENV.port}")


def chat_ask(fields: dict[str, Any], *, stream: bool) -> Ask:
    """A conversation that the page sent."""
    return _ask("/v1/chat/completions", "messages", fields, stream=stream)


def completion_ask(fields: dict[str, Any], *, stream: bool) -> Ask:
    """A text that the page wants continued."""
    return _ask("/v1/completions", "prompt", fields, stream=stream)


async def ask_open(ask: Ask, *, key: str) -> Upstream:
    """Send a request; returns as soon as the gateway has answered with a status.

    Raises:
        aiohttp.ClientError, TimeoutError: the gateway cannot be reached.
    """
    timeout = aiohttp.ClientTimeout(total=None, connect=CONNECT_S, sock_read=SILENCE_S)
    session = aiohttp.ClientSession(timeout=timeout)
    try:
        response = await session.post(
            f"{gateway_url()}{ask.path}", json=ask.body, headers={"Authorization": f"Bearer {key}"}
        )
    except BaseException:
        await session.close()
        raise
    return Upstream(session, response)


def _ask(path: str, text: str, fields: dict[str, Any], *, stream: bool) -> Ask:
    """Known fields alone, nothing that is empty; ``text`` is the field of what is said."""
    known = (*SAMPLING_FIELDS, text)
    body = {name: fields[name] for name in known if fields.get(name) not in (None, "", [])}
    # A long conversation gets shorter answers rather than a refusal.
    body |= {"stream": stream, "context_length_exceeded_behavior": "truncate"}
    if stream:
        body["stream_options"] = {"include_usage": True}
    return Ask(path, body)
