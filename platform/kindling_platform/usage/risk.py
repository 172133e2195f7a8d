"""Which organisations may not pay, or may soon be unable to go on, and why; for the operator."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from kindling_billing.gpu_time import gpu_time_charged
from kindling_billing.risk import Standing, owner_list_exposed, standing_map
from kindling_platform.accounts.models import Organisation
from kindling_platform.accounts.selectors import organisation_map
from kindling_platform.common.clock import now
from kindling_platform.usage.overview import usage_burnt

BURN_SPAN = timedelta(days=7)
SOON_DAYS = 7
CARD_EXPIRES_DAYS = 30
NEAR_LIMIT_PERCENT = 80
# What is listed first is what should be looked at first.
KINDS: tuple[tuple[str, str], ...] = (
    ("suspended", "Stopped"),
    ("overdue", "Overdue"),
    ("dispute", "Dispute"),
    ("topup_failed", "Top-up failed"),
    ("at_limit", "Near its credit limit"),
    ("runs_out", "Runs out soon"),
    ("low", "Low balance"),
    ("card", "Card expires"),
)
ORDER = {kind: place for place, (kind, _) in enumerate(KINDS)}
SEVERE = {"suspended", "overdue", "dispute", "topup_failed"}


@dataclass(frozen=True, slots=True)
class Risk:
    """One reason to look at an organisation, in a sentence, and what to do about it."""

    kind: str
    text: str
    next_step: str

    @property
    def is_severe(self) -> bool:
        return self.kind in SEVERE


@dataclass(slots=True)
class RiskRow:
    """An organisation at risk; `days_left` is its spendable money by what it spent a day of late."""

    org: Organisation
    standing: Standing
    burn_picousd_per_day: int
    days_left: float | None
    risks: list[Risk] = field(default_factory=list)


def risk_list(*, moment: datetime | None = None, kind: str = "") -> list[RiskRow]:
    """Every organisation at risk, the most severe first; with `kind` those that have it among their reasons."""
    moment = moment or now()
    burns, cards_until = _burns(moment), moment + timedelta(days=CARD_EXPIRES_DAYS)
    # Whoever neither spends nor is exposed has no risk: of many organisations most.
    orgs = organisation_map(organisation_ids=owner_list_exposed(cards_until=cards_until) | burns.keys())
    standings = standing_map(owner_ids=orgs, now=moment)
    rows = []
    for owner_id, standing in standings.items():
        burn = burns.get(owner_id, 0)
        left = standing.spendable_picousd / burn if burn > 0 else None
        row = RiskRow(orgs[owner_id], standing, burn, None if left is None else max(left, 0.0))
        row.risks = sorted(_risks(row, moment), key=lambda risk: ORDER[risk.kind])
        if row.risks and (not kind or any(risk.kind == kind for risk in row.risks)):
            rows.append(row)
    return sorted(rows, key=lambda row: (ORDER[row.risks[0].kind], -row.standing.open_cents, row.org.slug))


def risk_counts(rows: Iterable[RiskRow]) -> dict[str, int]:
    """How many organisations have each reason."""
    counts: dict[str, int] = defaultdict(int)
    for row in rows:
        for kind in {risk.kind for risk in row.risks}:
            counts[kind] += 1
    return dict(counts)


def _burns(moment: datetime) -> dict[str, int]:
    """Pico-dollars a day over the last seven days, for requests and for GPU time."""
    spent = Counter(usage_burnt(start=moment - BURN_SPAN, end=moment))
    spent.update(gpu_time_charged(start=moment - BURN_SPAN, end=moment))
    return {owner_id: total // BURN_SPAN.days for owner_id, total in spent.items()}


def _risks(row: RiskRow, moment: datetime) -> Iterable[Risk]:
    standing = row.standing
    if standing.suspended_reason:
        yield Risk("suspended", standing.suspended_reason, "It goes on by itself once the invoices are paid.")
    if standing.overdue:
        days = max((moment - one.due_at).days for one in standing.overdue if one.due_at)
        stage = max(one.dunned for one in standing.overdue)
        text = (
            f"{_count(len(standing.overdue), 'invoice')} overdue, {_count(days, 'day')} at most; "
            f"reminder {stage} of 3."
        )
        yield Risk("overdue", text, "Call them. What will not come can be given up below.")
    if standing.disputes:
        text = f"{_count(standing.disputes, 'payment')} contested by the cardholder's bank."
        yield Risk(
            "dispute", text, "Answer in Stripe's dashboard before its date; the amount is frozen until then."
        )
    if standing.topup_trouble:
        yield Risk(
            "topup_failed", f"Automatic top-up is paused: {standing.topup_trouble}", "They were written to."
        )
    yield from _money_risks(row)
    if standing.card_expires_at is not None and standing.card_expires_at < moment + timedelta(
        days=CARD_EXPIRES_DAYS
    ):
        word = (
            "has expired"
            if standing.card_expires_at <= moment
            else f"expires {standing.card_expires_at:%-d %b %Y}"
        )
        step = "Automatic top-ups and invoices will fail: ask for another card."
        yield Risk("card", f"The card ending in {standing.card_last4} {word}.", step)


def _money_risks(row: RiskRow) -> Iterable[Risk]:
    standing = row.standing
    if standing.is_postpaid:
        limit, used = standing.credit_limit_picousd, standing.credit_used_picousd
        if limit and used * 100 >= limit * NEAR_LIMIT_PERCENT:
            text = f"{used * 100 // limit} % of the credit limit is used."
            yield Risk(
                "at_limit", text, "Raise the limit under the organisation's terms, or ask for a payment."
            )
        return
    if standing.suspended_reason:
        return
    if row.days_left is not None and row.days_left < SOON_DAYS and not standing.tops_up:
        left = f"{row.days_left:.1f} days" if row.days_left >= 1 else f"{row.days_left * 24:.0f} hours"
        yield Risk("runs_out", f"Nothing is left in {left} at the pace of the last week.", "Offer a top-up.")
    elif standing.balance_picousd < standing.low_balance_picousd and row.burn_picousd_per_day:
        yield Risk("low", "The balance is below what they want to be warned at.", "They were written to.")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
