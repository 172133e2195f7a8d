"""The way to a Valkey of this machine over its Unix socket, which takes less time and CPU than the loopback.

Nobody has to set it: the server that the URL leads to says where its socket is. A path may mean another server, in a
container say, so it is taken only where the same one answers. A port that is not the server's own belongs to somebody
who stands between on purpose.
"""

from collections.abc import Awaitable
from typing import Any, Protocol

LOOPBACK = ("127.0.0.1", "::1", "localhost")
RUN_ID = b"run_id:"


class Asked(Protocol):
    """A connection that takes commands."""

    def ask(self, *command: str | bytes) -> Awaitable[Any]: ...


async def socket_find(server: Asked, host: str, port: int) -> str:
    """The path of a server's Unix socket; empty when it has none, does not say, or is not the one at this address."""
    if host not in LOOPBACK:
        return ""
    reply = await server.ask("CONFIG", "GET", "unixsocket", "port")
    if not isinstance(reply, list):  # it lets nobody read its settings
        return ""
    told = dict(zip(reply[::2], reply[1::2], strict=False))
    path = told.get(b"unixsocket", b"")
    return path.decode() if told.get(b"port") == str(port).encode() else ""


async def is_same_server(one: Asked, other: Asked) -> bool:
    """Whether two connections lead to one running server."""
    first, second = [await _run_id(server) for server in (one, other)]
    return first is not None and first == second


async def _run_id(server: Asked) -> bytes | None:
    reply = await server.ask("INFO", "server")
    lines = reply.split(b"\r\n") if isinstance(reply, bytes) else []
    return next((line for line in lines if line.startswith(RUN_ID)), None)
