"""Ids of billing's own rows. Billing imports nothing of ours, so it makes them itself, in the same form."""

import secrets
import time
from functools import lru_cache

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
# Each letter stands eight times, so that a random byte is a random letter. Ids of postings are made by the million.
_LETTERS = (ALPHABET * 8).encode()


def new_billing_id(prefix: str) -> str:
    """A prefix and 26 characters that sort by time: 50 bits of milliseconds, 80 random bits."""
    return f"{prefix}_{_moment(time.time_ns() // 1_000_000)}{_noise(1)}"


def new_billing_ids(prefix: str, count: int) -> list[str]:
    """So many at once, of the same millisecond, in ascending order."""
    begin, noise = f"{prefix}_{_moment(time.time_ns() // 1_000_000)}", _noise(count)
    return sorted(begin + noise[at : at + 16] for at in range(0, len(noise), 16))


@lru_cache(maxsize=1)
def _moment(milliseconds: int) -> str:
    return "".join(ALPHABET[milliseconds >> shift & 31] for shift in range(45, -1, -5))


def _noise(count: int) -> str:
    """16 letters of five bits for each."""
    return secrets.token_bytes(16 * count).translate(_LETTERS).decode()
