"""Whether a place of a store can be used: what it takes is there again, and goes when it is deleted."""

import secrets

from kindling_platform.common.objectstore.client import ObjectStore
from kindling_platform.common.objectstore.errors import REFUSED, TAKEN, StoreError
from kindling_platform.common.objectstore.owner import place_owner


def place_check(store: ObjectStore, installation: str | None) -> None:
    """For an installation, or for one that is not made yet. Errors: `StoreError`, with what does not work."""
    if place_owner(store) not in (None, installation):
        raise StoreError(TAKEN)
    key, data = f"checks/{secrets.token_hex(8)}", secrets.token_bytes(32)
    store.put(key, data)
    try:
        if store.get(key, most_bytes=len(data)) != data:
            raise StoreError(REFUSED, message="The object store does not give back what was written to it.")
        if all(one.key != key for one in store.listed("checks")):
            raise StoreError(REFUSED, message="The object store does not list what was written to it.")
    finally:
        store.delete(key)
