"""What replicas ran up since their last posting: what is owed already and no ledger line says yet."""

from collections import defaultdict
from collections.abc import Collection
from datetime import datetime

from kindling_billing.gpu_hours import parts_cost_picousd
from kindling_platform.deployments.gpu_time import interval_rate, intervals_book
from kindling_platform.deployments.models import UNBILLED, ReplicaInterval


def accrued_map(*, owner_ids: Collection[str], since: datetime | None = None) -> dict[str, int]:
    """What is not posted yet, in pico-dollars by organisation, of the time from `since` on or of all.

    Time without a price counts nothing.
    """
    intervals = list(ReplicaInterval.objects.filter(UNBILLED, organisation_id__in=list(owner_ids)))
    book = intervals_book(intervals)
    accrued: dict[str, int] = defaultdict(int)
    for interval in intervals:
        start = interval.billed_until or interval.billed_from
        start = max(start, since) if since else start
        parts = interval_rate(interval, book, start, max(start, interval.last_seen_at))
        accrued[interval.organisation_id] += parts_cost_picousd(parts or ())
    return dict(accrued)
