"""The text of an API key: `kd_<tag>_`, 30 random characters, a checksum; and the digest that is stored.

Scanners can decide offline whether a text is a key: it matches PATTERN and its checksum holds.
"""

import hmac
import re
import secrets
import string
import zlib

BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase
RANDOM_CHARS = 30  # 178 bits
CHECKSUM_CHARS = 6
PATTERN = re.compile(r"kd_[a-z]{1,12}_([0-9A-Za-z]{30})([0-9A-Za-z]{6})")
PREFIX_CHARS = 12


def generate(scope_tag: str = "live") -> str:
    """A new key's text, to be shown once."""
    random = "".join(secrets.choice(BASE62) for _ in range(RANDOM_CHARS))
    return f"kd_{scope_tag}_{random}{_checksum(random)}"


def is_wellformed(text: str) -> bool:
    """Whether the checksum holds; says nothing about whether the key was ever issued."""
    match = PATTERN.fullmatch(text)
    return match is not None and hmac.compare_digest(_checksum(match[1]), match[2])


def digest(text: str, pepper: str) -> bytes:
    """The 32 bytes that are stored: HMAC-SHA256 of the key under the installation's pepper."""
    return hmac.digest(pepper.encode(), text.encode(), "sha256")


def _checksum(random: str) -> str:
    value = zlib.crc32(random.encode())
    digits = []
    for _ in range(CHECKSUM_CHARS):
        value, digit = divmod(value, 62)
        digits.append(BASE62[digit])
    return "".join(reversed(digits))
