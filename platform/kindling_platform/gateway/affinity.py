"""Which replica is likely to know a prompt's beginning: a key of the request, and an order of replicas by it."""

from collections.abc import Iterable, Mapping
from hashlib import blake2b

SESSION_HEADERS = (b"x-session-affinity", b"x-prompt-cache-isolation-key")
STARTS = (b'"messages"', b'"prompt"', b'"input"')
# A shorter prompt is computed faster than a busy replica is waited for. About 250 tokens.
PREFIX_BYTES = 1024


def affinity_key(headers: Mapping[bytes, bytes], body: bytes) -> bytes:
    """What requests that share a beginning have in common; empty when there is nothing to gain.

    A client may say it itself by header. Else it is the first kilobyte of the messages, if there is so much.
    """
    for name in SESSION_HEADERS:
        if value := headers.get(name):
            return value
    for start in STARTS:
        at = body.find(start)
        if at >= 0 and len(body) - at > PREFIX_BYTES:
            return body[at : at + PREFIX_BYTES]
    return b""


def favourite(key: bytes, names: Iterable[str]) -> str:
    """The name that this key prefers; when others come and go, few keys change theirs (rendezvous hashing)."""
    return max(names, key=lambda name: blake2b(key, digest_size=8, key=name.encode()[:64]).digest())
