"""What drafts of prices would have made of GPU time that was held in a span; nothing is written."""

from collections.abc import Sequence
from datetime import datetime

from django.db.models import Sum

from kindling_billing.book import Version
from kindling_billing.effects import Effect, Usage, effects_of
from kindling_billing.rating import GPU
from kindling_billing.selectors import term_list, version_list
from kindling_platform.deployments.models import GpuHour


def gpu_time_preview(*, drafts: Sequence[Version], start: datetime, end: datetime) -> list[Effect]:
    """What the hours that begin in a span cost, and would have cost at drafts, by organisation and model.

    An hour that waits for a price has cost nothing and is billed at a draft's; one that was given up stays so.
    """
    skus = sorted({version.sku for version in drafts})
    hours = GpuHour.objects.filter(model_id__in=skus, hour__gte=start, hour__lt=end)
    rows = (
        hours.exclude(state=GpuHour.State.GIVEN_UP)
        .values("organisation_id", "model_id")
        .annotate(held=Sum("held_ms"), cost=Sum("cost_picousd"))
    )
    held = [
        Usage(row["organisation_id"], row["model_id"], {GPU: int(row["held"])}, int(row["cost"]))
        for row in rows
    ]
    terms = term_list(owner_ids={used.owner_id for used in held})
    return effects_of(held, drafts=drafts, versions=version_list(skus=skus), terms=terms)
