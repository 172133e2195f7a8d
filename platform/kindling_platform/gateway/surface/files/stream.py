"""A body that arrives in parts as a stream that aiohttp's multipart reader pulls, so that nothing piles up."""

from collections.abc import AsyncIterator

MAX_LINE_BYTES = 16 * 1024


class BodyStream:
    """What a reader of multipart bodies needs of `aiohttp.StreamReader`, over an iterator of parts."""

    def __init__(self, parts: AsyncIterator[bytes]) -> None:
        self._parts = parts
        self._held = bytearray()
        self._ended = False

    def at_eof(self) -> bool:
        return self._ended and not self._held

    async def read(self, n: int) -> bytes:
        """Up to `n` bytes; none at the end."""
        if not self._held:
            await self._fill()
        return self._take(min(n, len(self._held)))

    async def readline(self, *, max_line_length: int | None = None) -> bytes:
        """A line with its end, or what is left. Errors: ValueError for one that is too long."""
        most = min(max_line_length or MAX_LINE_BYTES, MAX_LINE_BYTES)
        while (end := self._held.find(b"\n", 0, most)) < 0:
            if len(self._held) >= most:
                raise ValueError("a line of the form is too long")
            if not await self._fill():
                return self._take(len(self._held))
        return self._take(end + 1)

    def unread_data(self, data: bytes) -> None:
        """Give back what was read too far."""
        self._held[:0] = data

    async def _fill(self) -> bool:
        part = None if self._ended else await anext(self._parts, None)
        if part is None:
            self._ended = True
            return False
        self._held += part
        return True

    def _take(self, size: int) -> bytes:
        taken = bytes(self._held[:size])
        del self._held[:size]
        return taken
