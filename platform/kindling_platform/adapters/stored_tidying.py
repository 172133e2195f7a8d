"""Deletes from the object store what no adapter needs any more; may be cut off anywhere, and the next run goes on.

What is found unneeded is marked first and goes an hour later at the earliest, once this disk has it no longer: a
request that still runs may want it until then. Nothing goes while anything is put, and what is needed again loses
its mark.
"""

from dataclasses import dataclass
from datetime import timedelta
from itertools import islice

from django.conf import settings

from kindling_platform.adapters.models import Adapter
from kindling_platform.adapters.storage import blob_folder
from kindling_platform.adapters.stored import object_store
from kindling_platform.adapters.tidying import KEPT_S, blobs_needed
from kindling_platform.common.clock import now
from kindling_platform.common.objectstore.blobs import UNNEEDED, blob_delete, blob_listed, key
from kindling_platform.common.objectstore.client import ObjectStore, Stored
from kindling_platform.common.objectstore.local import HASH_LENGTH, deletion_locked
from kindling_platform.common.objectstore.owner import installation_id, place_claim

# Marks and deletions of one run.
MOST = 1000
LOCK_WITHIN_S = 2.0


@dataclass(slots=True)
class StoredTidied:
    """How many folders of the store a run has marked and deleted."""

    marked: int = 0
    deleted: int = 0


def stored_tidy() -> StoredTidied:
    """As `files_tidy` for the store. Errors: `StoreError`, also where the place is another installation's."""
    store, done = object_store(), StoredTidied()
    if store is None or not Adapter.objects.exists():
        return done
    place_claim(store, installation_id(settings.SECRET_KEY))
    found = (
        (content_hash, objects)
        for content_hash, objects in blob_listed(store)
        if len(content_hash) == HASH_LENGTH and content_hash.isalnum()
    )
    while batch := list(islice(found, MOST)):
        needed = blobs_needed([content_hash for content_hash, _ in batch])
        for content_hash, objects in batch:
            if content_hash in needed:
                if UNNEEDED in objects:
                    store.delete(key(content_hash, UNNEEDED))
            elif done.marked + done.deleted < MOST:
                _unneeded(store, content_hash, objects, done)
    return done


def _unneeded(store: ObjectStore, content_hash: str, objects: dict[str, Stored], done: StoredTidied) -> None:
    old = now() - timedelta(seconds=KEPT_S)
    if blob_folder(content_hash).exists() or any(one.written_at > old for one in objects.values()):
        return
    if UNNEEDED not in objects:
        store.put(key(content_hash, UNNEEDED), b"No adapter needs these files.")
        done.marked += 1
        return
    with deletion_locked(blob_folder(""), within_s=LOCK_WITHIN_S) as alone:
        # Whoever needs it now has said so before it was put.
        if alone and not blobs_needed([content_hash]) and not blob_folder(content_hash).exists():
            blob_delete(store, content_hash, list(objects))
            done.deleted += 1
