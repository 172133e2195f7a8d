"""Whether to charge an owner by itself now: a pure decision, and the look-up of what it rests on."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db.models import F, Sum

from kindling_billing.models import AutoTopUp, Payment, Terms, utc_now
from kindling_billing.money import cents_to_pico
from kindling_billing.selectors import balance_map
from kindling_billing.terms import auto_topup_pause
from kindling_billing.totals import month_of


@dataclass(frozen=True, slots=True)
class TopUpFacts:
    """An owner's wish and where they stand; amounts are cents, the balance pico-dollars."""

    enabled: bool
    paused_reason: str
    threshold_cents: int
    amount_cents: int
    monthly_cap_cents: int
    balance_picousd: int
    charged_this_month_cents: int
    attempt_open: bool
    pays_later: bool = False


@dataclass(frozen=True, slots=True)
class TopUpDecision:
    """Cents to charge, 0 for none, and why not."""

    amount_cents: int
    reason: str = ""


def auto_topup_decide(facts: TopUpFacts) -> TopUpDecision:
    """Charge when the balance is below the threshold, nothing is under way and the month's cap leaves room.

    One top-up at a time, and never a part of one: an owner whose debt is larger than a top-up is charged again after
    the first has arrived.
    """
    if not facts.enabled:
        return TopUpDecision(0, "off")
    if facts.paused_reason:
        return TopUpDecision(0, "paused")
    if facts.pays_later:
        return TopUpDecision(0, "pays_later")
    if facts.balance_picousd >= cents_to_pico(facts.threshold_cents):
        return TopUpDecision(0, "enough")
    if facts.attempt_open:
        return TopUpDecision(0, "under_way")
    if facts.charged_this_month_cents + facts.amount_cents > facts.monthly_cap_cents:
        return TopUpDecision(0, "cap_reached")
    return TopUpDecision(facts.amount_cents)


def auto_topup_list_due(*, now: datetime | None = None) -> dict[str, TopUpDecision]:
    """The decisions for all owners who want it and are below their threshold; open the payment for those above 0."""
    now = now or utc_now()
    wishes = {row.owner_id: row for row in AutoTopUp.objects.filter(enabled=True, paused_reason="")}
    balances = balance_map(owner_ids=wishes)
    low = {
        owner: wish
        for owner, wish in wishes.items()
        if owner in balances and balances[owner].picousd < cents_to_pico(wish.threshold_cents)
    }
    charged, attempts = charged_this_month(owner_ids=list(low), now=now), _attempts_open(list(low))
    later = set(
        Terms.objects.filter(owner_id__in=low, mode=Terms.Mode.POSTPAID).values_list("owner_id", flat=True)
    )
    return {
        owner: auto_topup_decide(
            TopUpFacts(
                enabled=wish.enabled,
                paused_reason=wish.paused_reason,
                threshold_cents=wish.threshold_cents,
                amount_cents=wish.amount_cents,
                monthly_cap_cents=wish.monthly_cap_cents,
                balance_picousd=balances[owner].picousd,
                charged_this_month_cents=charged.get(owner, 0),
                attempt_open=owner in attempts,
                pays_later=owner in later,
            )
        )
        for owner, wish in low.items()
    }


def auto_topup_hold(*, owner_id: str, reason: str) -> bool:
    """Pause an owner's wish if they are below their threshold now, so that what was given back is not charged again."""
    wish = AutoTopUp.objects.filter(owner_id=owner_id, enabled=True, paused_reason="").first()
    balance = balance_map(owner_ids=[owner_id]).get(owner_id)
    if wish is None or balance is None or balance.picousd >= cents_to_pico(wish.threshold_cents):
        return False
    return auto_topup_pause(owner_id=owner_id, reason=reason)


def charged_this_month(*, owner_ids: Sequence[str], now: datetime | None = None) -> dict[str, int]:
    """Cents that were charged this month (UTC) by themselves, or may still be; owners without any are absent."""
    now = now or utc_now()
    rows = Payment.objects.filter(
        owner_id__in=owner_ids,
        purpose=Payment.Purpose.AUTO_TOPUP,
        state__in=[Payment.State.SUCCEEDED, Payment.State.OPEN],
        created_at__date__gte=month_of(now),
    )
    sums = rows.values("owner_id").annotate(total=Sum(F("amount_cents")))
    return {row["owner_id"]: row["total"] for row in sums}


def _attempts_open(owner_ids: list[str]) -> set[str]:
    rows = Payment.objects.filter(
        owner_id__in=owner_ids, purpose=Payment.Purpose.AUTO_TOPUP, state=Payment.State.OPEN
    )
    return set(rows.values_list("owner_id", flat=True))
