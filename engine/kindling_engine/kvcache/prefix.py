"""Hash chain that gives a block of tokens its identity.

A block's hash covers everything its KV values depend on: the weights, the adapter's content, the tenant's
salt, the dtype in the cache, and every token up to the block's end. Names never enter it, so that a renamed
or replaced adapter cannot meet stale blocks, and the salt keeps one tenant from timing another's prompts.
"""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

from kindling_engine.kvcache.states import TextStates

_DIGEST_SIZE = 16


@dataclass(frozen=True, slots=True)
class Prefix:
    """What is cached of a text: the first of its ``blocks``, and what comes of its ``states``.

    While somebody computes what has one of the hashes ``awaited``, more of it will be there soon; whoever goes on from
    here will make known what has the hashes ``promised``.
    """

    blocks: Sequence[int] = ()
    awaited: Sequence[bytes] = ()
    promised: Sequence[bytes] = ()
    states: TextStates | None = None


UNKNOWN = Prefix()


def chain_seed(*, revision: str, adapter: str, salt: str, kv_dtype: str) -> bytes:
    """First link of a chain; fields are length-prefixed, so no two field lists collide by concatenation."""
    digest = blake2b(digest_size=_DIGEST_SIZE, person=b"kindling-kv")
    for field in (revision, adapter, salt, kv_dtype):
        raw = field.encode()
        digest.update(len(raw).to_bytes(8, "little"))
        digest.update(raw)
    return digest.digest()


def chain_next(previous: bytes, tokens: Sequence[int]) -> bytes:
    """Hash of the block that holds ``tokens`` and follows the block with hash ``previous``."""
    return blake2b(previous + array("I", tokens).tobytes(), digest_size=_DIGEST_SIZE).digest()
