"""Seals what a request and its answer said (`common.org_seal`)."""

from dataclasses import dataclass
from uuid import UUID

import msgspec

from kindling_platform.common.org_seal import OrgSeal, SealBrokenError, SealedTooLongError

PURPOSE = b"kindling request log"
# More than a body and an answer have, both as far as they are kept.
MOST_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Said:
    """A body and its answer, each as it was on the wire and as far as it was kept."""

    prompt: bytes
    answer: bytes
    answer_type: str
    prompt_bytes: int
    answer_bytes: int

    @property
    def is_cut(self) -> bool:
        """Whether there was more of either."""
        return self.prompt_bytes > len(self.prompt) or self.answer_bytes > len(self.answer)


class Seal:
    """Closes and opens with the secret of one installation."""

    def __init__(self, secret: str) -> None:
        self._seal = OrgSeal(secret, PURPOSE)

    def close(self, said: Said, *, org_id: str, request_id: UUID) -> bytes:
        """What was said, sealed."""
        return self._seal.close(msgspec.msgpack.encode(said), org_id=org_id, row=request_id.bytes)

    def open(self, sealed: bytes, *, org_id: str, request_id: UUID) -> Said:
        """What was said. Errors: SealBrokenError."""
        try:
            packed = self._seal.open(sealed, org_id=org_id, row=request_id.bytes, most_bytes=MOST_BYTES)
        except SealedTooLongError as error:
            raise SealBrokenError from error
        try:
            return msgspec.msgpack.decode(packed, type=Said)
        except ValueError as error:
            raise SealBrokenError from error
