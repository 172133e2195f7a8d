"""Seals files and results of batches (`common.org_seal`), each piece bound to its place."""

from kindling_platform.common.org_seal import OrgSeal

PURPOSE = b"kindling batch files"


class Seal:
    """Closes and opens pieces with the secret of one installation."""

    def __init__(self, secret: str) -> None:
        self._seal = OrgSeal(secret, PURPOSE)

    def close(self, text: bytes, *, org_id: str, owner: str, number: int) -> bytes:
        """A piece as it is stored; `owner` is the id of its file or its batch."""
        return self._seal.close(text, org_id=org_id, row=_row(owner, number))

    def open(self, sealed: bytes, *, org_id: str, owner: str, number: int, most_bytes: int) -> bytes:
        """A piece's text. Errors: SealBrokenError, SealedTooLongError."""
        return self._seal.open(sealed, org_id=org_id, row=_row(owner, number), most_bytes=most_bytes)


def _row(owner: str, number: int) -> bytes:
    return f"{owner} {number}".encode()
