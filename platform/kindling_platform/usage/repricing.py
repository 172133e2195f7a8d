"""What prices that are not published yet would have made of the usage of a span; nothing is written.

Usage by organisation and model comes from the sums of whole days and from the single requests before the first and
behind the last of them. Where reasoning has a price of its own, or these models have done batch work in the span, all
requests are read, since sums do not tell them apart; a statement that takes too long is given up.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import OperationalError, connection, transaction

from kindling_billing.book import Term, Version
from kindling_billing.effects import Effect, Usage, effects_of
from kindling_billing.rating import BATCH, CACHED, OUTPUT, PROMPT, REASONING
from kindling_billing.selectors import term_list, version_list
from kindling_platform.common.errors import KindlingError
from kindling_platform.usage.models import UsageEvent
from kindling_platform.usage.steps import day_ceil, day_floor
from kindling_platform.usage.witnesses import FAILED

LIMIT_S = 20
UNITS = (PROMPT, CACHED, REASONING, OUTPUT)
REQUESTS = """
    SELECT organisation_id, model_id, batch, sum(prompt_tokens - cached_tokens), sum(cached_tokens),
           sum(reasoning_tokens), sum(completion_tokens - reasoning_tokens), sum(cost_picousd)
    FROM usage_usageevent
    WHERE billable AND finished_at >= %s AND finished_at < %s AND model_id = ANY(%s)
    GROUP BY organisation_id, model_id, batch
"""
DAYS_AND_REQUESTS = """
    SELECT organisation_id, model_id, false, sum(prompt_tokens - cached_tokens), sum(cached_tokens), 0,
           sum(completion_tokens), sum(cost_picousd)
    FROM (
        SELECT organisation_id, model_id, requests, prompt_tokens, cached_tokens, completion_tokens, cost_picousd
        FROM usage_usageday WHERE finish <> %s AND day >= %s AND day < %s AND model_id = ANY(%s)
        UNION ALL
        SELECT organisation_id, model_id, 1, prompt_tokens, cached_tokens, completion_tokens, cost_picousd
        FROM usage_usageevent
        WHERE billable AND model_id = ANY(%s) AND finished_at >= %s AND finished_at < %s
        UNION ALL
        SELECT organisation_id, model_id, 1, prompt_tokens, cached_tokens, completion_tokens, cost_picousd
        FROM usage_usageevent
        WHERE billable AND model_id = ANY(%s) AND finished_at >= %s AND finished_at < %s
    ) part
    GROUP BY organisation_id, model_id HAVING sum(requests) > 0
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
        KindlingError: `preview_too_long`.
    """
    skus = sorted({version.sku for version in drafts})
    split = any(version.price.reasoning is not None for version in drafts) or _has_batches(skus, start, end)
    usage = quantities_sum(skus=skus, start=start, end=end, split=split)
    owners = {used.owner_id for used in usage}
    versions: list[Version] = version_list(skus=skus)
    terms: list[Term] = term_list(owner_ids=owners)
    effects = effects_of(usage, drafts=drafts, versions=versions, terms=terms)
    effects.sort(key=lambda effect: (-abs(effect.difference_picousd), effect.sku, effect.owner_id))
    return Preview(start, end, effects)


def quantities_sum(*, skus: Sequence[str], start: datetime, end: datetime, split: bool) -> list[Usage]:
    """Billable quantities and charges of a span by organisation and model.

    Unless it is to `split` them, reasoning counts as output and batch work as any other.

    Raises:
        KindlingError: `preview_too_long`.
    """
    first, last = day_ceil(start), day_floor(end)
    query = REQUESTS
    arguments: list[Any] = [start, end, list(skus)]
    if not split and first < last:
        wanted = list(skus)
        query = DAYS_AND_REQUESTS
        arguments = [FAILED, first, last, wanted, wanted, start, first, wanted, last, end]
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT set_config('statement_timeout', %s, true)", [f"{LIMIT_S}s"])
            cursor.execute(query, arguments)
            rows = cursor.fetchall()
    except OperationalError as error:
        if "timeout" not in str(error):
            raise
        text = f"Going through the usage of this span takes more than {LIMIT_S} seconds. Nothing was changed."
        raise KindlingError("preview_too_long", text, 503) from error
    return [
        Usage(owner, sku, dict(zip(_units(batch), map(int, counts[:-1]), strict=True)), int(counts[-1]))
        for owner, sku, batch, *counts in rows
    ]


def _units(batch: bool) -> tuple[str, ...]:
    return tuple(BATCH + unit for unit in UNITS) if batch else UNITS


def _has_batches(skus: Sequence[str], start: datetime, end: datetime) -> bool:
    rows = UsageEvent.objects.filter(
        batch=True, model_id__in=skus, finished_at__gte=start, finished_at__lt=end
    )
    return rows.exists()
