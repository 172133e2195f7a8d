"""What organisations have left for machine time: their credit less what replicas ran up since they were last billed."""

from collections import defaultdict
from collections.abc import Collection

from kindling_billing.gpu_hours import HOUR_MS, parts_cost_picousd
from kindling_billing.money import pico_to_usd_text
from kindling_billing.selectors import price_map_current, price_of, spendable_map
from kindling_platform.accounts.models import Organisation
from kindling_platform.catalog.models import Model
from kindling_platform.common.errors import KindlingError
from kindling_platform.deployments.gpu_time import interval_rate, intervals_book
from kindling_platform.deployments.models import UNBILLED, ReplicaInterval


def credit_check(*, org: Organisation, model: Model, replicas: int) -> None:
    """Refuse to start so many replicas for an organisation that cannot pay for an hour of them.

    The operator's own are never refused.

    Raises:
        KindlingError: `gpu_price_missing`, `insufficient_credit`.
    """
    if org.is_operator or not replicas:
        return
    version = price_map_current(skus=[model.id], owner_id=org.id).get(model.id)
    price = price_of(version).gpu_ms if version else 0
    if not price:
        text = f"GPU time of {model.ref} has no price yet. The operator of this installation publishes one."
        raise KindlingError("gpu_price_missing", text, 409)
    needed = replicas * HOUR_MS * price
    left = credit_left_map(owner_ids=[org.id])[org.id]
    if left < needed:
        text = (
            f"An hour of {replicas} replica(s) costs ${pico_to_usd_text(needed, 2)}, and"
            f" ${pico_to_usd_text(max(left, 0), 2)} is left. Add credit first."
        )
        raise KindlingError("insufficient_credit", text, 402)


def credit_left_map(*, owner_ids: Collection[str]) -> dict[str, int]:
    """What each of these organisations may still spend, in pico-dollars, hours that are not posted yet taken off."""
    spendable, accrued = spendable_map(owner_ids=owner_ids), accrued_map(owner_ids=owner_ids)
    return {
        owner_id: (spendable[owner_id].picousd if owner_id in spendable else 0) - accrued.get(owner_id, 0)
        for owner_id in owner_ids
    }


def accrued_map(*, owner_ids: Collection[str]) -> dict[str, int]:
    """What replicas ran up since their last posting, by organisation; time without a price counts nothing."""
    intervals = list(ReplicaInterval.objects.filter(UNBILLED, organisation_id__in=list(owner_ids)))
    book = intervals_book(intervals)
    accrued: dict[str, int] = defaultdict(int)
    for interval in intervals:
        since = interval.billed_until or interval.started_at
        parts = interval_rate(interval, book, since, interval.last_seen_at)
        accrued[interval.organisation_id] += parts_cost_picousd(parts or ())
    return dict(accrued)
