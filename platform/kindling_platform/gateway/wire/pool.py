"""Kept connections to engines, by where they lead."""

import asyncio
import ssl
from dataclasses import dataclass
from time import monotonic
from urllib.parse import urlsplit

from kindling_platform.gateway.wire.line import Line, NotSentError

CONNECT_TIMEOUT_S = 2.0
SILENCE_TIMEOUT_S = 600.0
KEEP_ALIVE_S = 20.0
LOOK_EVERY_S = 5.0
PORTS = {"http": 80, "https": 443}
MOST_KNOWN = 10_000


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """Where a URL leads: a host, and what stands in front of each path there."""

    host: str
    port: int
    secure: bool
    name: bytes
    base: bytes

    @classmethod
    def of(cls, url: str) -> "Place":
        """Take a URL apart. Errors: NotSentError for what is none of an engine's."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port or PORTS[parts.scheme]
            name, base = (
                parts.netloc.rpartition("@")[2].encode("ascii"),
                parts.path.rstrip("/").encode("ascii"),
            )
        except (ValueError, KeyError) as error:
            raise NotSentError(f"{url} is no URL of an engine") from error
        if not host:
            raise NotSentError(f"{url} is no URL of an engine")
        return cls(host, port, parts.scheme == "https", name, base)


class Lines:
    """Gives a line to each request, one that is free where there is one; the newest first, so that others end."""

    def __init__(self, *, keep_alive_s: float = KEEP_ALIVE_S, silence_s: float = SILENCE_TIMEOUT_S) -> None:
        self._keep_alive_s = keep_alive_s
        self._silence_s = silence_s
        self._places: dict[str, Place] = {}
        self._free: dict[Place, list[Line]] = {}
        self._busy: dict[Line, Place] = {}
        self._looker: asyncio.Task[None] | None = None
        self._tls: ssl.SSLContext | None = None

    def open(self) -> None:
        """Start to end lines that nobody needs and those that an engine has forgotten."""
        self._looker = asyncio.create_task(self._look())

    def close(self) -> None:
        """Hang up everywhere."""
        looker, self._looker = self._looker, None
        if looker:
            looker.cancel()
        for line in (*self._busy, *(line for free in self._free.values() for line in free)):
            line.abort()
        self._free.clear()

    def place(self, url: str) -> Place:
        """Where an engine's URL leads. Errors: NotSentError."""
        place = self._places.get(url)
        if place is None:
            if len(self._places) >= MOST_KNOWN:
                self._places.clear()
            place = self._places[url] = Place.of(url)
        return place

    async def take(self, place: Place) -> Line:
        """A line for one request; it comes back when it is closed. Errors: NotSentError."""
        if self._looker is None:
            raise NotSentError("the client is not open")
        free = self._free.get(place)
        while free:
            line = free.pop()
            if line.is_usable:
                self._busy[line], line.silence_s = place, None
                return line
        line = await self._connect(place)
        self._busy[line] = place
        return line

    async def _connect(self, place: Place) -> Line:
        if place.secure and self._tls is None:
            self._tls = ssl.create_default_context()
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                _, line = await loop.create_connection(
                    lambda: Line(self._done),
                    place.host,
                    place.port,
                    ssl=self._tls if place.secure else None,
                )
        except OSError as error:
            raise NotSentError(type(error).__name__) from error
        return line

    def _done(self, line: Line) -> None:
        place = self._busy.pop(line, None)
        if place is not None and line.is_usable and self._looker:
            line.free_since = monotonic()
            self._free.setdefault(place, []).append(line)
        elif place is not None:
            line.abort()

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(min(LOOK_EVERY_S, self._keep_alive_s / 4, self._silence_s / 4))
            now = monotonic()
            for line in [
                one for one in self._busy if now - one.heard_at > (one.silence_s or self._silence_s)
            ]:
                line.abort()
            for place, free in list(self._free.items()):
                self._end_old(free, now)
                if not free:
                    del self._free[place]

    def _end_old(self, free: list[Line], now: float) -> None:
        for line in [one for one in free if not one.is_usable or now - one.free_since > self._keep_alive_s]:
            free.remove(line)
            line.abort()
