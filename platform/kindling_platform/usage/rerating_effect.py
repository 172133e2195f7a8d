"""What a run that rates anew would change: exact, by organisation, from one aggregate, and nothing is written.

Prices of a moment hold until the next version or plan begins, and a line is quantity × price. So usage is summed
between those moments, and each sum is rated once.
"""

from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime

from django.db import OperationalError, connection, transaction
from django.db.models import QuerySet

from kindling_billing.book import PriceBook
from kindling_billing.models import PlanTerm, PriceVersion
from kindling_billing.models.prices import Rerating
from kindling_billing.rating import Price, Used, usage_rate
from kindling_billing.selectors import price_book, price_map, price_of
from kindling_platform.common.errors import KindlingError, not_found

LIMIT_S = 20
EVER = datetime(1970, 1, 1, tzinfo=UTC)
GROUPS = """
    SELECT organisation_id, price_version_id, width_bucket(started_at, %s::timestamptz[]), count(*), sum(cost_picousd),
           sum(prompt_tokens), sum(cached_tokens), sum(completion_tokens), sum(reasoning_tokens), batch
    FROM usage_usageevent
    WHERE model_id = %s AND billable AND finished_at >= %s AND finished_at < %s AND (%s = '' OR organisation_id = %s)
    GROUP BY 1, 2, 3, batch
"""


@dataclass(frozen=True, slots=True)
class OwnersEffect:
    """What one organisation's requests cost, and what they will have cost; `gaps` have no price at their time."""

    owner_id: str
    requests: int
    changed: int
    gaps: int
    before_picousd: int
    after_picousd: int

    @property
    def difference_picousd(self) -> int:
        return self.after_picousd - self.before_picousd


@dataclass(frozen=True, slots=True)
class _Group:
    owner_id: str
    version_id: str
    moment: datetime
    requests: int
    cost_picousd: int
    used: Used


def rerating_preview(*, sku: str, start: datetime, end: datetime, owner_id: str = "") -> list[OwnersEffect]:
    """What a run over this span would do, the largest difference first.

    Raises:
        KindlingError: `span_invalid`, `preview_too_long`.
    """
    if not start < end:
        raise KindlingError("span_invalid", "The span must end after its start.", param="end")
    groups = _groups(sku, start, end, owner_id)
    book = price_book(skus=[sku], owner_ids={group.owner_id for group in groups})
    old = {
        id_: price_of(version) for id_, version in price_map(price_ids={g.version_id for g in groups}).items()
    }
    by_owner: dict[str, list[_Group]] = defaultdict(list)
    for group in groups:
        by_owner[group.owner_id].append(group)
    effects = [_effect(owner, rows, sku, book, old) for owner, rows in by_owner.items()]
    return sorted(effects, key=lambda effect: (-abs(effect.difference_picousd), effect.owner_id))


def rerating_list(*, limit: int = 50) -> list[Rerating]:
    """The last runs, newest first."""
    return list(Rerating.objects.order_by("-id")[:limit])


def rerating_find() -> QuerySet[Rerating]:
    """Every run, newest first."""
    return Rerating.objects.order_by("-created_at", "-id")


def rerating_get(*, rerating_id: str) -> Rerating:
    """One run.

    Raises:
        KindlingError: `not_found`.
    """
    is_number = rerating_id.isascii() and rerating_id.isdigit() and len(rerating_id) < 19
    found = Rerating.objects.filter(id=int(rerating_id)).first() if is_number else None
    if found is None:
        raise not_found("run")
    return found


def _groups(sku: str, start: datetime, end: datetime, owner_id: str) -> list[_Group]:
    moments = sorted(
        {EVER}
        | set(PriceVersion.objects.filter(sku=sku).values_list("valid_from", flat=True))
        | set(PlanTerm.objects.values_list("valid_from", flat=True))
    )
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT set_config('statement_timeout', %s, true)", [f"{LIMIT_S}s"])
            cursor.execute(GROUPS, [moments, sku, start, end, owner_id, owner_id])
            rows = cursor.fetchall()
    except OperationalError as error:
        if "timeout" not in str(error):
            raise
        text = f"Going through the usage of this span takes more than {LIMIT_S} seconds. Nothing was changed."
        raise KindlingError("preview_too_long", text, 503) from error
    return [
        _Group(owner, version, moments[max(place - 1, 0)], int(requests), int(cost), _used(counts))
        for owner, version, place, requests, cost, *counts in rows
    ]


def _used(counts: list[int]) -> Used:
    *tokens, batch = counts
    prompt, cached, completion, reasoning = map(int, tokens)
    return Used(prompt, cached, completion, reasoning, batch=bool(batch))


def _effect(
    owner_id: str, groups: list[_Group], sku: str, book: PriceBook, old: dict[str, Price]
) -> OwnersEffect:
    requests = changed = gaps = before = after = 0
    for group in groups:
        requests += group.requests
        before += group.cost_picousd
        version = book.find(owner_id, sku, group.moment)
        if version is None or group.version_id not in old:
            gaps += group.requests
            after += group.cost_picousd
        elif version.id == group.version_id:
            after += group.cost_picousd
        else:
            changed += group.requests
            after += sum(line.amount_picousd for line in usage_rate(version.price, group.used))
    return OwnersEffect(owner_id, requests, changed, gaps, before, after)
