"""What a program asks for with an idempotency key: the same request again finds what the first one did."""

import hashlib

from kindling_platform.common.errors import KindlingError

HEADER = "Idempotency-Key"
MOST_KEY_CHARS = 255


def key_check(key: str, *, what: str) -> None:
    """Refuse what is no key; `what` is done once for one ends the refusal.

    Raises:
        KindlingError: `idempotency_key_invalid` for all but 1 to 255 printable characters.
    """
    if not (0 < len(key) <= MOST_KEY_CHARS and key.isascii() and key.isprintable()):
        text = f"Send a header {HEADER} of 1 to {MOST_KEY_CHARS} printable characters: {what}"
        raise KindlingError("idempotency_key_invalid", text, param=HEADER)


def once_id(key: str, *, chars: int, what: str) -> str:
    """A name for what is done once for a key, `chars` long behind its beginning; `what` is done ends the refusal.

    Raises:
        KindlingError: `idempotency_key_invalid` without a key of 1 to 255 printable characters.
    """
    key_check(key, what=what)
    return f"once:{hashlib.sha256(key.encode()).hexdigest()[:chars]}"


def key_reused(what: str) -> KindlingError:
    """The refusal of another request under a key that was used."""
    text = f"This {HEADER} was used with another {what}. Use a new one for each."
    return KindlingError("idempotency_key_reused", text, param=HEADER)
