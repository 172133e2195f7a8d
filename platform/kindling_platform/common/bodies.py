"""How a streamed body travels from the server's edge to the view that reads it."""

from typing import Protocol

SCOPE_KEY = "kindling.body"


class Body(Protocol):
    """Anything that is read block by block."""

    def read(self, size: int, /) -> bytes: ...
