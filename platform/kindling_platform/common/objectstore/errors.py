"""Why the object store did not do it, in sentences without its address or anything that is secret."""

import re

AWAY = "object_store_away"
REFUSED = "object_store_refused"
NO_BUCKET = "object_store_no_bucket"
TAKEN = "object_store_taken"
MISSING = "object_store_missing"
DAMAGED = "object_store_damaged"
DISK_FULL = "object_store_disk_full"
SLOW = "object_store_slow"

MESSAGES = {
    AWAY: "The object store does not answer, or answers with errors of its own.",
    REFUSED: "The object store refuses the credentials, or does not let them do this.",
    NO_BUCKET: "The object store has no such bucket, or not in this region.",
    TAKEN: "Another installation keeps its files at this place of the object store.",
    MISSING: "The object store does not have these files whole.",
    DAMAGED: "The files in the object store are not what their hash says.",
    DISK_FULL: "The disk of this host has no room for these files.",
    SLOW: "The object store did not send these files in time.",
}
PASSING = {AWAY, SLOW, DISK_FULL}
"""What may be over in a moment, with nobody's help or with room on the disk."""

_STATUS = re.compile(r"status code: (\d{3})|<Code>([A-Za-z.]{1,60})</Code>|\bkind: ([A-Za-z]{1,30})")
_REFUSALS = re.compile(
    r"AccessDenied|InvalidAccessKeyId|SignatureDoesNotMatch|AllAccessDisabled|ExpiredToken|InvalidToken|"
    r"AuthorizationHeaderMalformed|status code: 40[13]"
)


class StoreError(Exception):
    """A code of the above, its sentence, and for the log what was answered: a status and a name, never a header."""

    def __init__(self, code: str, detail: str = "", message: str = "") -> None:
        super().__init__(message or MESSAGES[code])
        self.code = code
        self.message = message or MESSAGES[code]
        self.detail = detail

    @property
    def is_passing(self) -> bool:
        return self.code in PASSING


def store_error(error: Exception) -> StoreError:
    """What the library's exception means. Its own text has addresses and access keys in it, and goes nowhere."""
    text = str(error)
    detail = " ".join(dict.fromkeys(part for found in _STATUS.findall(text) for part in found if part))
    if "NoSuchBucket" in text or "incorrectly configured region" in text:
        code = NO_BUCKET
    elif isinstance(error, PermissionError) or _REFUSALS.search(text):
        code = REFUSED
    elif isinstance(error, FileNotFoundError):
        code = MISSING
    elif type(error).__name__ in ("PermissionDeniedError", "UnauthenticatedError"):
        code = REFUSED
    elif "status code: 416" in text:  # it ends before what was asked for begins
        code = DAMAGED
    else:
        code = AWAY
    return StoreError(code, detail or type(error).__name__)
