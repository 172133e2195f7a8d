"""Posts one webhook to the very address that was checked: no second look-up, no redirect, no proxy, no cookies.

TLS is checked against the name; the time for all of it is bounded, however slowly the other side talks.
"""

import asyncio
import ssl
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kindling_platform.common.errors import KindlingError
from kindling_platform.hooks.outbox import Outcome
from kindling_platform.hooks.places import Place, place_check

if TYPE_CHECKING:
    from aiohttp import ClientResponse

TIMEOUT_S = 10.0
KEPT_BYTES = 1024


def hook_post(
    url: str,
    *,
    body: bytes,
    headers: Mapping[str, str],
    timeout_s: float = TIMEOUT_S,
    tls: ssl.SSLContext | None = None,
) -> Outcome:
    """Look the address up, check it and post; what goes wrong is told and not raised."""
    began = time.monotonic()
    try:
        place = place_check(url)
        status, answer = asyncio.run(_post(place, body, headers, timeout_s, tls))
    except KindlingError as error:
        return Outcome(error=error.message, took_ms=_since(began))
    except TimeoutError:
        return Outcome(error=f"No answer within {timeout_s:g} seconds.", took_ms=_since(began))
    except (OSError, ValueError) as error:
        return Outcome(error=_said(error), took_ms=_since(began))
    return Outcome(status_code=status, answer=answer.decode(errors="replace"), took_ms=_since(began))


async def _post(
    place: Place, body: bytes, headers: Mapping[str, str], timeout_s: float, tls: ssl.SSLContext | None
) -> tuple[int, bytes]:
    import aiohttp
    from yarl import URL

    connector = aiohttp.TCPConnector(
        resolver=_resolver(place), use_dns_cache=False, force_close=True, ssl=tls or True
    )
    session = aiohttp.ClientSession(
        connector=connector,
        timeout=aiohttp.ClientTimeout(total=timeout_s),
        trust_env=False,
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        skip_auto_headers=["Accept-Encoding"],
    )
    try:
        async with (
            session,
            session.post(
                URL(place.url, encoded=True), data=body, headers=dict(headers), allow_redirects=False
            ) as reply,
        ):
            return reply.status, await _beginning(reply)
    except aiohttp.ClientError as error:
        raise OSError(_said(error)) from error


async def _beginning(reply: "ClientResponse") -> bytes:
    """The first kilobyte of an answer, or what of it came: who has said a status has answered."""
    import aiohttp

    said = b""
    try:
        while len(said) < KEPT_BYTES and (piece := await reply.content.read(KEPT_BYTES - len(said))):
            said += piece
    except (TimeoutError, aiohttp.ClientError):
        return said
    return said


def _resolver(place: Place) -> Any:
    """One that knows the checked addresses of this place, and nothing else."""
    import socket

    from aiohttp.abc import AbstractResolver, ResolveResult

    class Checked(AbstractResolver):
        async def resolve(
            self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
        ) -> list[ResolveResult]:
            if host.lower() != place.host:
                raise OSError(f"{host} is not what was looked up")
            return [
                ResolveResult(
                    hostname=host, host=address, port=port, proto=0, flags=socket.AI_NUMERICHOST,
                    family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                )
                for address in place.addresses
            ]  # fmt: skip

        async def close(self) -> None:
            return None

    return Checked()


def _since(began: float) -> int:
    return int((time.monotonic() - began) * 1000)


def _said(error: BaseException) -> str:
    text = str(error) or type(error).__name__
    return text[:300]
