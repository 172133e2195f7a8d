"""One place of a store belongs to one installation: another's sweep would delete what it knows no adapter for."""

import hashlib
import hmac

import msgspec

from kindling_platform.common.objectstore.client import ObjectStore
from kindling_platform.common.objectstore.errors import REFUSED, TAKEN, StoreError

KEY = "installation.json"
MOST_BYTES = 4096


class _Owner(msgspec.Struct):
    installation: str


def installation_id(secret_key: str) -> str:
    """The same after a restore; says nothing of the secret."""
    return hmac.new(secret_key.encode(), b"kindling object store", hashlib.sha256).hexdigest()[:32]


def place_owner(store: ObjectStore) -> str | None:
    """Whose place it is; None while it is nobody's, and nothing for whom we cannot read. Errors: `StoreError`."""
    found = store.get(KEY, most_bytes=MOST_BYTES)
    if found is None:
        return None
    try:
        return msgspec.json.decode(found, type=_Owner).installation
    except msgspec.DecodeError:
        return ""


def place_claim(store: ObjectStore, installation: str) -> None:
    """Make the place ours, or see that it is. Errors: `StoreError`, when it is another's."""
    owner = place_owner(store)
    if owner is None:
        # Of two that do it at the same moment one is told no, and reads whose it is.
        store.put_new(KEY, msgspec.json.encode(_Owner(installation)))
        owner = place_owner(store)
    if owner is None:
        raise StoreError(REFUSED, "what was written cannot be read")
    if owner != installation:
        raise StoreError(TAKEN)
