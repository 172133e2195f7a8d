"""What one client sends and gets, as far as it is kept while the request runs."""

import time
from collections.abc import Callable

from kindling_platform.requestlog.seal import Said

PROMPT_BYTES = 256 * 1024
ANSWER_BYTES = 256 * 1024


class Copy:
    """Of body and answer as much as the bounds allow; `room` is asked before more memory is taken.

    `bytes` is what it holds of that memory. A copy that got no room is `lost`, and whoever made it counts it.
    """

    __slots__ = (
        *("_answer", "_body", "_room", "answer_bytes", "answer_type", "at_s", "body_bytes", "bytes"),
        *("key_id", "lost", "org_id", "route"),
    )

    def __init__(
        self, body: bytes, *, org_id: str, key_id: str, route: str, room: Callable[[int], bool]
    ) -> None:
        self.org_id = org_id
        self.key_id = key_id
        self.route = route
        self.at_s = time.time()
        self.answer_type = ""
        self.body_bytes = len(body)
        self.answer_bytes = 0
        self.bytes = 0
        self.lost = False
        self._room = room
        self._answer: list[bytes] = []
        kept = body[:PROMPT_BYTES]
        self._body = kept if self._take(len(kept)) else b""

    def begin(self, content_type: bytes) -> None:
        """The answer begins."""
        self.answer_type = content_type.decode("latin-1")[:80]

    def hear(self, part: bytes) -> None:
        """Another part of the answer goes to the client."""
        kept = part[: max(0, ANSWER_BYTES - self.answer_bytes)]
        self.answer_bytes += len(part)
        if kept and not self.lost and self._take(len(kept)):
            self._answer.append(kept)

    def said(self) -> Said:
        """What was kept."""
        return Said(
            prompt=self._body,
            answer=b"".join(self._answer),
            answer_type=self.answer_type,
            prompt_bytes=self.body_bytes,
            answer_bytes=self.answer_bytes,
        )

    def _take(self, size: int) -> bool:
        if not self._room(size):
            self.lost = True
            return False
        self.bytes += size
        return True
