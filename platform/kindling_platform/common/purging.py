"""Deletes rows in bounded batches, each a transaction of its own: however many are old, nobody waits for long."""

from typing import Any

from django.db.models import QuerySet


def purged(old: "QuerySet[Any]", *, limit: int, batches: int) -> int:
    """Delete up to `batches` times `limit` of these rows; gives their number. The rest is the next run's."""
    total = 0
    for _ in range(batches):
        keys = list(old.values_list("pk", flat=True)[:limit])
        old.filter(pk__in=keys).delete()  # what was used anew meanwhile stays
        total += len(keys)
        if len(keys) < limit:
            break
    return total
