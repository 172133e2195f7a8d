"""Bounds on what bodies cost this process before anything is known of their requests: memory, and time to parse."""

from collections.abc import Iterator
from contextlib import contextmanager

from kindling_platform.gateway.errors import GatewayError

MOST_BYTES = 512 * 1024 * 1024
SHARES = 4
# Smaller ones are as many as there may be connections.
SMALL_BYTES = 64 * 1024
# Each takes a parser up to 250 ns, in which nothing else of the process runs.
MOST_NODES = 500_000


class BodyUnreadError(GatewayError):
    """A refusal in the midst of a body; the rest of it still has to be thrown away."""


@contextmanager
def refused_unread(applies: bool) -> Iterator[None]:
    """Where it applies, a refusal comes before a large body was read, and its client is heard out."""
    try:
        yield
    except GatewayError as error:
        if not applies or isinstance(error, BodyUnreadError):
            raise
        unread = BodyUnreadError(error.status, error.code, error.message, param=error.param)
        unread.headers = error.headers
        raise unread from error


class Bodies:
    """Counts the bytes of the larger bodies that a process holds, up to a bound; nobody has more than a quarter."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._held: dict[str, int] = {}

    @property
    def held_bytes(self) -> int:
        return sum(self._held.values())

    def take(self, size: int, org_id: str) -> None:
        """Make room for bytes of an organisation; raises 503 `overloaded` where there is none."""
        held = self._held.get(org_id, 0) + size
        if held > self._most_bytes // SHARES or self.held_bytes + size > self._most_bytes:
            message = "Many large requests are being worked on. Try again in a few seconds."
            raise BodyUnreadError(503, "overloaded", message, headers={"retry-after": "2"})
        self._held[org_id] = held

    def give(self, size: int, org_id: str) -> None:
        """Bytes that are no longer held."""
        left = self._held.get(org_id, 0) - size
        if left > 0:
            self._held[org_id] = left
        else:
            self._held.pop(org_id, None)


def nodes_check(raw: bytes) -> None:
    """Refuse what takes long to parse for what it says: 400 `invalid_json`."""
    if len(raw) > MOST_NODES and sum(raw.count(mark) for mark in (b"{", b"[", b":")) > MOST_NODES:
        message = f"The request body has more than {MOST_NODES:,} objects, lists and fields."
        raise GatewayError(400, "invalid_json", message)
