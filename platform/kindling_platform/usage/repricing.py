"""What prices that are not published yet would have made of the usage of a span; nothing is written.

Usage by organisation and model comes from the sums of whole days and from the single requests before the first and
behind the last of them. Batch work, which those sums do not tell from other work, is read request by request and taken
out of them. Where reasoning has a price of its own all requests are read. A statement that takes too long is given up.

Days whose requests were deleted are as exact as others: what they used is kept by model, batch work and reasoning
apart. Where that is not enough the span is refused: it begins or ends within such a day, or reasoning has a price of
its own and the requests were deleted before they were kept by model.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import OperationalError, connection, transaction
from django.db.models import Q

from kindling_billing.book import Term, Version
from kindling_billing.effects import Effect, Usage, effects_of
from kindling_billing.rating import BATCH, CACHED, OUTPUT, PROMPT, REASONING
from kindling_billing.selectors import term_list, version_list
from kindling_platform.common.errors import KindlingError
from kindling_platform.usage.models import RetiredUsage
from kindling_platform.usage.steps import day_ceil, day_floor
from kindling_platform.usage.witnesses import FAILED

LIMIT_S = 20
UNITS = (PROMPT, CACHED, REASONING, OUTPUT)
# All of them are billable; a row of sums may have become one of nothing.
REQUESTS = """
    SELECT organisation_id, model_id, batch, sum(prompt_tokens - cached_tokens), sum(cached_tokens),
           sum(reasoning_tokens), sum(completion_tokens - reasoning_tokens), sum(cost_picousd)
    FROM (
        SELECT organisation_id, model_id, batch, count(*) AS requests, sum(prompt_tokens) AS prompt_tokens,
               sum(cached_tokens) AS cached_tokens, sum(completion_tokens) AS completion_tokens,
               sum(reasoning_tokens) AS reasoning_tokens, sum(cost_picousd) AS cost_picousd
        FROM usage_usageevent
        WHERE billable AND model_id = ANY(%(skus)s) AND finished_at >= %(start)s AND finished_at < %(end)s
        GROUP BY 1, 2, 3
        UNION ALL
        SELECT organisation_id, model_id, batch, requests - failed, prompt_tokens, cached_tokens, completion_tokens,
               reasoning_tokens, cost_picousd
        FROM usage_retiredusage
        WHERE model_id = ANY(%(skus)s) AND day >= %(first_day)s AND day < %(last_day)s
    ) part
    GROUP BY organisation_id, model_id, batch HAVING sum(requests) > 0
"""
# Batch work is read once, for itself and to be taken out of the sums of whole days.
DAYS_AND_REQUESTS = """
    WITH batched AS MATERIALIZED (
        SELECT organisation_id, model_id, finished_at >= %(first)s AND finished_at < %(last)s AS in_days,
               count(*) AS requests, sum(prompt_tokens) AS prompt_tokens, sum(cached_tokens) AS cached_tokens,
               sum(completion_tokens) AS completion_tokens, sum(cost_picousd) AS cost_picousd
        FROM usage_usageevent
        WHERE batch AND billable AND model_id = ANY(%(skus)s) AND finished_at >= %(start)s AND finished_at < %(end)s
        GROUP BY 1, 2, 3
        UNION ALL
        SELECT organisation_id, model_id, true, requests - failed, prompt_tokens, cached_tokens, completion_tokens,
               cost_picousd
        FROM usage_retiredusage
        WHERE batch AND model_id = ANY(%(skus)s) AND day >= %(first_day)s AND day < %(last_day)s
    )
    SELECT organisation_id, model_id, batch, sum(prompt_tokens - cached_tokens), sum(cached_tokens), 0,
           sum(completion_tokens), sum(cost_picousd)
    FROM (
        SELECT organisation_id, model_id, false AS batch, requests, prompt_tokens, cached_tokens, completion_tokens,
               cost_picousd
        FROM usage_usageday
        WHERE finish <> %(failed)s AND model_id = ANY(%(skus)s) AND day >= %(first)s AND day < %(last)s
        UNION ALL
        SELECT organisation_id, model_id, false, -requests, -prompt_tokens, -cached_tokens, -completion_tokens,
               -cost_picousd
        FROM batched WHERE in_days
        UNION ALL
        SELECT organisation_id, model_id, true, requests, prompt_tokens, cached_tokens, completion_tokens, cost_picousd
        FROM batched
        UNION ALL
        SELECT organisation_id, model_id, false, 1, prompt_tokens, cached_tokens, completion_tokens, cost_picousd
        FROM usage_usageevent
        WHERE billable AND NOT batch AND model_id = ANY(%(skus)s)
            AND finished_at >= %(start)s AND finished_at < %(first)s
        UNION ALL
        SELECT organisation_id, model_id, false, 1, prompt_tokens, cached_tokens, completion_tokens, cost_picousd
        FROM usage_usageevent
        WHERE billable AND NOT batch AND model_id = ANY(%(skus)s)
            AND finished_at >= %(last)s AND finished_at < %(end)s
    ) part
    GROUP BY organisation_id, model_id, batch HAVING sum(requests) > 0
"""


@dataclass(frozen=True, slots=True)
class Preview:
    """The effects of drafts on a span, largest difference first."""

    start: datetime
    end: datetime
    effects: list[Effect]

    @property
    def before_picousd(self) -> int:
        return sum(effect.before_picousd for effect in self.effects)

    @property
    def after_picousd(self) -> int:
        return sum(effect.after_picousd for effect in self.effects)

    @property
    def difference_picousd(self) -> int:
        return self.after_picousd - self.before_picousd


def prices_preview(*, drafts: Sequence[Version], start: datetime, end: datetime) -> Preview:
    """What the usage of a span cost, and what it would have cost at drafts, by organisation and model.

    Raises:
        KindlingError: `preview_too_long`, `span_not_kept`.
    """
    skus = sorted({version.sku for version in drafts})
    split = any(version.price.reasoning is not None for version in drafts)
    usage = quantities_sum(skus=skus, start=start, end=end, split=split)
    owners = {used.owner_id for used in usage}
    versions: list[Version] = version_list(skus=skus)
    terms: list[Term] = term_list(owner_ids=owners)
    effects = effects_of(usage, drafts=drafts, versions=versions, terms=terms)
    effects.sort(key=lambda effect: (-abs(effect.difference_picousd), effect.sku, effect.owner_id))
    return Preview(start, end, effects)


def quantities_sum(*, skus: Sequence[str], start: datetime, end: datetime, split: bool) -> list[Usage]:
    """Billable quantities and charges of a span by organisation and model, batch work under names of its own.

    Unless it is to `split` it, reasoning counts as output.

    Raises:
        KindlingError: `preview_too_long`, `span_not_kept`.
    """
    start, end = start.astimezone(UTC), end.astimezone(UTC)
    first, last = day_ceil(start), day_floor(end)
    arguments: dict[str, Any] = {
        "skus": list(skus), "start": start, "end": end, "first": first, "last": last, "failed": FAILED,
        "first_day": first.date(), "last_day": last.date(),
    }  # fmt: skip
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT set_config('statement_timeout', %s, true)", [f"{LIMIT_S}s"])
            cursor.execute(REQUESTS if split or first >= last else DAYS_AND_REQUESTS, arguments)
            rows = cursor.fetchall()
    except OperationalError as error:
        if "timeout" not in str(error):
            raise
        text = f"Going through the usage of this span takes more than {LIMIT_S} seconds. Nothing was changed."
        raise KindlingError("preview_too_long", text, 503) from error
    # Asked behind the reading, so that what was deleted before it is not missed.
    if _is_unknown(skus, start, end, split=split):
        text = "Requests of this span were deleted, as they were old enough. Begin the span after their last day."
        raise KindlingError("span_not_kept", text, 409, param="start")
    return [
        Usage(owner, sku, dict(zip(_units(batch), map(int, counts[:-1]), strict=True)), int(counts[-1]))
        for owner, sku, batch, *counts in rows
    ]


def _units(batch: bool) -> tuple[str, ...]:
    return tuple(BATCH + unit for unit in UNITS) if batch else UNITS


def _is_unknown(skus: Sequence[str], start: datetime, end: datetime, *, split: bool) -> bool:
    """Whether deleted requests may lie in the span of which what is needed is not kept."""
    in_part = Q(day__lt=day_ceil(start).date()) | Q(day__gte=day_floor(end).date())
    until = (end - timedelta(microseconds=1)).date()
    rows = RetiredUsage.objects.filter(model_id__in=["", *skus], day__gte=start.date(), day__lte=until)
    return rows.filter(in_part | Q(model_id="") if split else in_part).exists()
