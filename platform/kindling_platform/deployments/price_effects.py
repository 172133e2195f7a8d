"""What drafts of prices would have made of requests and GPU time of last month and of the last thirty days."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from kindling_billing.book import Version
from kindling_billing.effects import Effect
from kindling_platform.accounts.selectors import organisation_map
from kindling_platform.common.clock import now
from kindling_platform.deployments.gpu_effects import gpu_time_preview
from kindling_platform.usage.repricing import Preview, prices_preview
from kindling_platform.usage.steps import month_floor

ORGANISATIONS_SHOWN = 50


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a preview's table; its id is a model's or an organisation's."""

    id: str
    name: str
    before_picousd: int
    after_picousd: int

    @property
    def difference_picousd(self) -> int:
        return self.after_picousd - self.before_picousd


@dataclass(frozen=True, slots=True)
class SpanEffect:
    """The effect on one span, by model and by organisation; organisations with the largest differences come first.

    `gpu_time` is the part of the total that is GPU time; the rest is requests.
    """

    label: str
    start: datetime
    end: datetime
    total: Row
    gpu_time: Row
    by_model: list[Row]
    by_organisation: list[Row]
    organisations: int


def price_effects(drafts: Sequence[Version], *, models: dict[str, str]) -> list[SpanEffect]:
    """The effects on last calendar month and on the last thirty days; `models` are names by id.

    Raises:
        KindlingError: `preview_too_long`.
    """
    moment = now()
    this_month = month_floor(moment)
    last_month = (this_month - timedelta(days=1)).replace(day=1)
    spans = [
        (f"{last_month:%B %Y}", last_month, this_month),
        ("The last 30 days", moment - timedelta(days=30), moment),
    ]
    return [
        _shown(
            label,
            prices_preview(drafts=drafts, start=start, end=end),
            gpu_time_preview(drafts=drafts, start=start, end=end),
            models,
        )
        for label, start, end in spans
    ]


def _shown(label: str, preview: Preview, gpu_time: Sequence[Effect], models: dict[str, str]) -> SpanEffect:
    by_model: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    by_owner: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    every = [*preview.effects, *gpu_time]
    for effect in every:
        for sums in (by_model[effect.sku], by_owner[effect.owner_id]):
            sums[0] += effect.before_picousd
            sums[1] += effect.after_picousd
    largest = sorted(by_owner, key=lambda owner: (-abs(by_owner[owner][1] - by_owner[owner][0]), owner))
    largest = largest[:ORGANISATIONS_SHOWN]
    names = organisation_map(organisation_ids=largest)
    return SpanEffect(
        label=label,
        start=preview.start,
        end=preview.end,
        total=_sum("All", every),
        gpu_time=_sum("GPU time", gpu_time),
        by_model=[Row(sku, models.get(sku, sku), *by_model[sku]) for sku in sorted(by_model)],
        by_organisation=[
            Row(owner, names[owner].name if owner in names else owner, *by_owner[owner]) for owner in largest
        ],
        organisations=len(by_owner),
    )


def _sum(name: str, effects: Sequence[Effect]) -> Row:
    return Row(
        "", name, sum(one.before_picousd for one in effects), sum(one.after_picousd for one in effects)
    )
