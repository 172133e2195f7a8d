"""What keeps an organisation from being deleted, and what it gives up: each said in words before, and checked again."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from django.db.models import Q, Sum

from kindling_billing.models import CreditGrant, Dispute, FailedRefund, Invoice, OutboxCall, Payment
from kindling_billing.money import cents_to_pico, pico_to_cents, pico_to_usd_text
from kindling_billing.selectors import balance_get
from kindling_platform.accounts.models import Organisation
from kindling_platform.common.clock import now
from kindling_platform.common.errors import KindlingError
from kindling_platform.deployments.accrued import accrued_map

# Whoever has not paid on the provider's page by then will not.
LEFT_AFTER = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Standing:
    """Where an organisation stands that may be deleted.

    `obstacles` are ended by somebody's doing; `paid_left_cents` is money that was paid in and not used: whoever deletes
    gives it up, and has to say so.
    """

    obstacles: tuple[KindlingError, ...]
    paid_left_cents: int
    balance_picousd: int

    @property
    def paid_left_usd(self) -> str:
        """What is given up, in dollars and cents."""
        return pico_to_usd_text(cents_to_pico(self.paid_left_cents), 2)


def standing_get(*, org: Organisation) -> Standing:
    """What speaks against deleting an organisation at this moment, worst first."""
    left = balance_get(owner_id=org.id).picousd - accrued_map(owner_ids=[org.id]).get(org.id, 0)
    return Standing(
        obstacles=tuple(_obstacles(org, left)),
        paid_left_cents=pico_to_cents(max(0, min(left, _paid_left_picousd(org)))),
        balance_picousd=left,
    )


def standing_check(standing: Standing, *, give_up_cents: int) -> None:
    """Refuse while something speaks against it, or while more money is left than is given up.

    Raises:
        KindlingError: the first obstacle, with all of them as `details`; `balance_left`.
    """
    if standing.obstacles:
        first = standing.obstacles[0]
        first.details = [{"code": one.code, "message": one.message} for one in standing.obstacles]
        raise first
    if standing.paid_left_cents > give_up_cents:
        text = (
            f"${standing.paid_left_usd} that was paid in is left. Ask the operator to give it back to the card first, "
            "or say that you give it up."
        )
        details = {"paid_left_usd": standing.paid_left_usd}
        raise KindlingError("balance_left", text, 409, param="give_up_usd", details=details)


def _obstacles(org: Organisation, left_picousd: int) -> Iterator[KindlingError]:
    if org.is_operator:
        text = "The operator's own organisation cannot be deleted: it runs the installation."
        yield KindlingError("operator_organisation", text, 409)
    if org.suspended_at is not None:
        text = (
            "The operator of this platform has suspended the organisation. Ask the operator what ends that."
        )
        yield KindlingError("account_suspended", text, 412)
    yield from _owed(org, left_picousd)
    yield from _moving(org)


def _owed(org: Organisation, left_picousd: int) -> Iterator[KindlingError]:
    invoices = list(Invoice.objects.filter(owner_id=org.id, state=Invoice.State.FINAL).order_by("month"))
    if invoices:
        owed = pico_to_usd_text(cents_to_pico(sum(invoice.open_cents for invoice in invoices)), 2)
        numbers = ", ".join(invoice.name for invoice in invoices)
        text = f"${owed} of invoice{'' if len(invoices) == 1 else 's'} {numbers} is not paid. Pay it under Billing."
        yield KindlingError("invoice_open", text, 409)
    if pico_to_cents(-left_picousd) > 0:
        debt = pico_to_usd_text(-left_picousd, 2)
        text = (
            f"${debt} that was used is not paid yet. Add credit, or pay the invoice that comes for it, "
            "and delete the organisation then."
        )
        yield KindlingError("debt_open", text, 409)


def _moving(org: Organisation) -> Iterator[KindlingError]:
    """Money that is on its way: whose it is, is not known before it has arrived."""
    if Dispute.objects.filter(payment__owner_id=org.id, state=Dispute.State.OPEN).exists():
        text = "A payment is contested at the bank. Wait until the bank has decided."
        yield KindlingError("dispute_open", text, 409)
    charges = Payment.objects.filter(owner_id=org.id, state=Payment.State.OPEN)
    by_hand = Q(purpose=Payment.Purpose.TOPUP, created_at__gt=now() - LEFT_AFTER)
    if charges.filter(by_hand | Q(purpose=Payment.Purpose.AUTO_TOPUP)).exists():
        text = "A top-up is under way. Wait until it has arrived, or for an hour if you left its page without paying."
        yield KindlingError("charge_under_way", text, 409)
    waiting = OutboxCall.objects.filter(
        owner_id=org.id, kind=OutboxCall.Kind.REFUND, state=OutboxCall.State.WAITING
    )
    failed = FailedRefund.objects.filter(payment__owner_id=org.id, state=FailedRefund.State.OPEN)
    if waiting.exists() or failed.exists():
        text = "A refund is under way. Wait until it has arrived; ask the operator if that takes days."
        yield KindlingError("refund_under_way", text, 409)


def _paid_left_picousd(org: Organisation) -> int:
    """What is left of the portions that were paid for; gifts are nobody's money."""
    bought = CreditGrant.objects.filter(owner_id=org.id, expired_at=None).exclude(kind=CreditGrant.Kind.PROMO)
    return int(bought.aggregate(total=Sum("remaining_picousd"))["total"] or 0)
