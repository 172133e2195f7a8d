"""Charges for the time of replicas: one ledger transaction for each hour of each, the month's totals beside it.

They are of their own kind: what rates requests anew never reaches them, and proofs hold them apart.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

from django.db import transaction
from django.db.models import Sum

from kindling_billing.gpu_hours import HeldPart, parts_cost_picousd
from kindling_billing.ledger import Posting
from kindling_billing.models import LedgerEntry, UsageTotal
from kindling_billing.notices import low_balance_note
from kindling_billing.rating import GPU
from kindling_billing.totals import TotalChange, totals_add
from kindling_billing.wallet import WALLET, wallets_post

GPU_TIME = "gpu_time"


@dataclass(frozen=True, slots=True)
class GpuCharge:
    """An hour of one replica: whose it is, its cause, its deployment's id and name, when, and what was held of it."""

    owner_id: str
    source_id: str
    deployment_id: str
    label: str
    used_at: datetime
    parts: tuple[HeldPart, ...]

    @property
    def cost_picousd(self) -> int:
        return parts_cost_picousd(self.parts)


def gpu_time_post(charges: Sequence[GpuCharge]) -> set[str]:
    """Charge hours, one transaction each; gives the causes that had not been charged before."""
    first = {charge.source_id: charge for charge in reversed(charges)}
    with transaction.atomic():
        posted = {source_id for _, source_id in wallets_post([_posting(one) for one in first.values()])}
        new = [charge for source_id, charge in first.items() if source_id in posted]
        totals_add([_change(charge) for charge in new])
        low_balance_note(_spent(new))
    return posted


def gpu_time_charged(*, start: datetime, end: datetime) -> dict[str, int]:
    """What each owner was charged in a span, by the time of posting; those that were not are absent."""
    rows = LedgerEntry.objects.filter(
        account__kind=WALLET,
        transaction__source_type=GPU_TIME,
        transaction__posted_at__gte=start,
        transaction__posted_at__lt=end,
    )
    sums = rows.values("account__owner_id").annotate(total=Sum("amount_picousd"))
    return {row["account__owner_id"]: -int(row["total"]) for row in sums}


def gpu_time_before(*, owner_id: str, month: date) -> int:
    """What an owner was charged for the time of all months before one, in pico-dollars."""
    rows = UsageTotal.objects.filter(owner_id=owner_id, unit=GPU, used_month__lt=month)
    return int(rows.aggregate(total=Sum("amount_picousd"))["total"] or 0)


def _posting(charge: GpuCharge) -> Posting:
    entries = [(WALLET, charge.owner_id, -charge.cost_picousd), ("revenue", "", charge.cost_picousd)]
    memo = f"GPU time of {charge.label}, {charge.used_at:%Y-%m-%d %H:00} UTC"
    return Posting(GPU_TIME, charge.source_id, entries, memo, {"deployment": charge.deployment_id})


def _change(charge: GpuCharge) -> TotalChange:
    lines = tuple(part.line for part in charge.parts)
    return TotalChange(charge.owner_id, charge.used_at, charge.deployment_id, charge.label, lines, 1)


def _spent(charges: Sequence[GpuCharge]) -> dict[str, int]:
    spent: dict[str, int] = {}
    for charge in charges:
        spent[charge.owner_id] = spent.get(charge.owner_id, 0) + charge.cost_picousd
    return spent
