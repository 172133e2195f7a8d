"""Where owners stand with their money: what they owe, for how long, and what may stop them. Reads only."""

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from django.db.models import Q

from kindling_billing.models import AutoTopUp, Dispute, Invoice, SavedCard, Terms, utc_now
from kindling_billing.selectors import Balance, balance_map, spendable_map

NOTHING = Balance(0, 0)
AGES: tuple[tuple[str, int | None], ...] = (
    ("not due yet", 0), ("up to 30 days", 30), ("31 to 60 days", 60), ("61 to 90 days", 90), ("over 90 days", None),
)  # fmt: skip


@dataclass(slots=True)
class Standing:
    """One owner; cents are of unpaid invoices, everything else is pico-dollars."""

    balance_picousd: int = 0
    spendable_picousd: int = 0
    is_postpaid: bool = False
    credit_limit_picousd: int = 0
    low_balance_picousd: int = 0
    suspended_reason: str = ""
    open_cents: int = 0
    overdue: list[Invoice] = field(default_factory=list)
    disputes: int = 0
    disputed_cents: int = 0
    tops_up: bool = False
    topup_trouble: str = ""
    card_last4: str = ""
    card_expires_at: datetime | None = None

    @property
    def credit_used_picousd(self) -> int:
        """How much of the credit limit is used, unpaid invoices included."""
        return max(self.credit_limit_picousd - self.spendable_picousd, 0)


@dataclass(frozen=True, slots=True)
class Age:
    """Unpaid invoices of one age: how many, and what is open of them."""

    label: str
    invoices: int
    open_cents: int


def owner_list_exposed(*, cards_until: datetime) -> set[str]:
    """Owners who may be at risk whether or not they spend: they owe, were stopped, pay later, contest a payment, or
    have an automatic top-up that is paused or a card that may end before a moment; the few of many others.
    """
    agreed = Q(suspended_at__isnull=False) | Q(mode=Terms.Mode.POSTPAID, credit_limit_picousd__gt=0)
    cards = SavedCard.objects.filter(removed_at=None, is_default=True, exp_year__lte=cards_until.year)
    wishes = AutoTopUp.objects.filter(enabled=True).exclude(paused_reason="")
    found = (
        Terms.objects.filter(agreed).values_list("owner_id", flat=True),
        Invoice.objects.filter(state=Invoice.State.FINAL).values_list("owner_id", flat=True),
        Dispute.objects.filter(state=Dispute.State.OPEN).values_list("payment__owner_id", flat=True),
        wishes.values_list("owner_id", flat=True),
        cards.values_list("owner_id", flat=True),
    )
    return {owner_id for rows in found for owner_id in rows}


def standing_map(*, owner_ids: Collection[str], now: datetime | None = None) -> dict[str, Standing]:
    """Where each of these owners stands."""
    now = now or utc_now()
    ids = list(owner_ids)
    standings = {owner_id: Standing() for owner_id in ids}
    terms = {row.owner_id: row for row in Terms.objects.filter(owner_id__in=ids)}
    balances, spendable = balance_map(owner_ids=ids), spendable_map(owner_ids=ids)
    for owner_id, standing in standings.items():
        agreed = terms.get(owner_id) or Terms(owner_id=owner_id)
        standing.balance_picousd = balances.get(owner_id, NOTHING).picousd
        standing.spendable_picousd = spendable.get(owner_id, balances.get(owner_id, NOTHING)).picousd
        standing.is_postpaid = agreed.mode == Terms.Mode.POSTPAID
        standing.credit_limit_picousd = agreed.credit_limit_picousd
        standing.low_balance_picousd = agreed.low_balance_picousd
        standing.suspended_reason = agreed.suspended_reason if agreed.suspended_at else ""
    for invoice in invoice_list_unpaid():
        if owing := standings.get(invoice.owner_id):
            owing.open_cents += invoice.total_cents - invoice.paid_cents
            if invoice.due_at is not None and invoice.due_at <= now:
                owing.overdue.append(invoice)
    _disputes_add(standings)
    _cards_add(standings)
    return standings


def invoice_list_unpaid() -> list[Invoice]:
    """Every final invoice of which something is open, the longest due first."""
    return list(Invoice.objects.filter(state=Invoice.State.FINAL).order_by("due_at", "id"))


def invoice_ages(invoices: Iterable[Invoice], *, now: datetime | None = None) -> list[Age]:
    """What is open by how long it has been due."""
    now = now or utc_now()
    sums: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for invoice in invoices:
        days = -1 if invoice.due_at is None or invoice.due_at > now else (now - invoice.due_at).days
        label = next(name for name, most in AGES if most is None or days < most + bool(most))
        sums[label][0] += 1
        sums[label][1] += invoice.total_cents - invoice.paid_cents
    return [Age(label, *sums[label]) for label, _ in AGES]


def _disputes_add(standings: dict[str, Standing]) -> None:
    for dispute in Dispute.objects.filter(state=Dispute.State.OPEN).select_related("payment"):
        if standing := standings.get(dispute.payment.owner_id):
            standing.disputes += 1
            standing.disputed_cents += dispute.amount_cents + dispute.tax_cents


def _cards_add(standings: dict[str, Standing]) -> None:
    for wish in AutoTopUp.objects.filter(enabled=True):
        if standing := standings.get(wish.owner_id):
            standing.tops_up = not wish.paused_reason
            standing.topup_trouble = wish.paused_reason
    for card in SavedCard.objects.filter(removed_at=None, is_default=True):
        if standing := standings.get(card.owner_id):
            standing.card_last4 = card.last4
            standing.card_expires_at = expiry_of(card)


def expiry_of(card: SavedCard) -> datetime | None:
    """When a card stops working: at the end of its month; None for one whose date is not known."""
    if not (1 <= card.exp_month <= 12 and card.exp_year):
        return None
    return datetime(card.exp_year + card.exp_month // 12, card.exp_month % 12 + 1, 1, tzinfo=UTC)
