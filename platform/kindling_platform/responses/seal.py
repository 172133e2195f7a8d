"""Seals kept responses and what they were asked with (`common.org_seal`)."""

from kindling_platform.common.org_seal import OrgSeal, SealedTooLongError

PURPOSE = b"kindling kept responses"
# In front of what is sealed. Rows of before are JSON, which never begins so.
SEALED = b"\0"


class Seal:
    """Closes and opens the columns of rows with the secret of one installation."""

    def __init__(self, secret: str) -> None:
        self._seal = OrgSeal(secret, PURPOSE)

    def close(self, text: bytes, *, org_id: str, response_id: str, column: str) -> bytes:
        """A column as it is stored."""
        return SEALED + self._seal.close(text, org_id=org_id, row=_row(response_id, column))

    def open(self, stored: bytes, *, org_id: str, response_id: str, column: str, most_bytes: int) -> bytes:
        """A column's text. Errors: SealBrokenError, SealedTooLongError."""
        if stored.startswith(SEALED):
            row, text = _row(response_id, column), stored.removeprefix(SEALED)
            return self._seal.open(text, org_id=org_id, row=row, most_bytes=most_bytes)
        if len(stored) > most_bytes:
            raise SealedTooLongError
        return stored


def _row(response_id: str, column: str) -> bytes:
    return f"{response_id} {column}".encode()
