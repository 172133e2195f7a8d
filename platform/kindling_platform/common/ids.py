"""Ids that sort by time: a prefix that names the kind and a uuid7 in Crockford's base32."""

import re
import secrets
import time
import uuid

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
ID_CHARS = 26
ID_MAX_CHARS = 32
# What an answer's own id has in front of its request's.
_ANSWER = re.compile(r"^(chatcmpl|cmpl|msg|resp|rerank)[-_]")


def uuid7() -> uuid.UUID:
    """A time-ordered UUID (RFC 9562, version 7): 48 bits of Unix milliseconds, 74 random bits."""
    return uuid.UUID(int=_uuid7())


def uuid7_text() -> str:
    """The text of a new one, for less than half the work."""
    digits = f"{_uuid7():032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def request_id_read(text: str) -> uuid.UUID | None:
    """The id of a request, as ``x-request-id`` had it or as an answer's own id; None when it is neither."""
    try:
        return uuid.UUID(_ANSWER.sub("", text, count=1))
    except ValueError:
        return None


def new_id(prefix: str) -> str:
    """A new id such as `org_01jd…`: the prefix, an underscore and 26 characters."""
    value = uuid7().int
    digits = []
    for _ in range(ID_CHARS):
        value, digit = divmod(value, 32)
        digits.append(ALPHABET[digit])
    return f"{prefix}_{''.join(reversed(digits))}"


def _uuid7() -> int:
    milliseconds = time.time_ns() // 1_000_000
    random = secrets.randbits(74)
    return milliseconds << 80 | 0x7 << 76 | (random >> 62) << 64 | 0b10 << 62 | random & ((1 << 62) - 1)
