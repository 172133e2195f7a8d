"""Payments, their refunds and what they do to the books. Every function is idempotent on its own key.

A payment is opened before anybody's card is asked, in the transaction that enqueues the request, and ends once. The
ledger's rows for it are keyed by the id at the payment provider, so that one intent credits once whoever reports it.
"""

from django.db import IntegrityError, transaction

from kindling_billing.amounts import cents_check, currency_check, id_check, tax_check
from kindling_billing.collecting import invoice_settle
from kindling_billing.errors import BillingError
from kindling_billing.ledger import Posting, accounts_lock
from kindling_billing.models import CreditGrant, FailedRefund, Invoice, LedgerTransaction, Payment, utc_now
from kindling_billing.money import cents_to_pico, round_half_even
from kindling_billing.topup import auto_topup_hold
from kindling_billing.trail import trail_note
from kindling_billing.wallet import WALLET, wallet_post

PAYMENT = "payment"
REFUND = "refund"
CLEARING = "stripe_clearing"
GIVEN_BACK = "Credit was given back to you."


def payment_open(
    *,
    owner_id: str,
    purpose: str,
    amount_cents: int,
    tax_cents: int = 0,
    currency: str = "usd",
    invoice_id: str = "",
) -> Payment:
    """Note that money is about to be asked for: `topup`, `auto_topup` or `invoice`, in cents without and of tax.

    Raises:
        BillingError: `amount_invalid`, `currency_unsupported`, `payment_open` while another automatic top-up of this
            owner, or another payment of this invoice, has not ended.
    """
    cents_check(amount_cents)
    tax_check(tax_cents)
    currency_check(currency)
    try:
        with transaction.atomic():
            return Payment.objects.create(
                owner_id=owner_id,
                purpose=Payment.Purpose(purpose),
                amount_cents=amount_cents,
                tax_cents=tax_cents,
                currency=currency.lower(),
                invoice_id=invoice_id,
            )
    except IntegrityError as error:
        raise BillingError("payment_open", "A payment for this is under way already.") from error


@transaction.atomic
def payment_received(
    *,
    intent_id: str,
    owner_id: str,
    amount_cents: int,
    tax_cents: int = 0,
    currency: str = "usd",
    payment_id: str = "",
    purpose: str = "topup",
    invoice_id: str = "",
    memo: str = "",
) -> bool:
    """Book money that a customer has paid; False when this intent was booked before.

    `amount_cents` goes to the wallet, `tax_cents` were charged on top; of an invoice's payment both go to the invoice.
    Give `payment_id` when the payment was opened here: its purpose and invoice then hold. The amounts are those that
    the provider charged, even where others had been asked for.

    Raises:
        BillingError: `amount_invalid`, `currency_unsupported`, `id_invalid`, `payment_unknown` for a `payment_id`
            that is not there, `payment_mismatch` when it is another owner's or has another intent.
    """
    id_check(intent_id)
    cents_check(amount_cents)
    tax_check(tax_cents)
    currency_check(currency)
    unasked = Payment(
        owner_id=owner_id,
        purpose=Payment.Purpose(purpose),
        amount_cents=amount_cents,
        intent_id=intent_id,
        invoice_id=invoice_id,
    )
    payment = _payment_of(intent_id, payment_id, unasked)
    if payment.owner_id != owner_id or payment.intent_id not in {"", intent_id}:
        raise BillingError("payment_mismatch", f"The payment {payment.id} is not this intent's.")
    if payment.state == Payment.State.SUCCEEDED:
        return False
    before = payment_shown(payment)
    payment.intent_id = intent_id
    payment.amount_cents, payment.tax_cents = amount_cents, tax_cents
    payment.state = Payment.State.SUCCEEDED
    payment.failure_code = payment.failure = ""
    payment.ended_at = utc_now()
    payment.save()
    net, tax = cents_to_pico(amount_cents), cents_to_pico(tax_cents)
    if payment.invoice_id:  # it may be given up in this moment: whoever does holds the same accounts
        accounts_lock({("receivable", owner_id), ("bad_debt", ""), (CLEARING, ""), ("tax", "")})
    target = target_account(payment)
    if target[0] != WALLET:  # an invoice has booked its tax
        net, tax = net + tax, 0
    entries = [(CLEARING, "", -net - tax), (*target, net), ("tax", "", tax)]
    posting = Posting(
        PAYMENT,
        intent_id,
        [entry for entry in entries if entry[2]],
        memo or _memo(payment),
        {"payment": payment.id, "invoice": payment.invoice_id},
    )
    grant = None
    if target[0] == WALLET:
        grant = CreditGrant(
            owner_id=owner_id,
            kind=CreditGrant.Kind.PAID,
            amount_picousd=net,
            source_type=PAYMENT,
            source_id=intent_id,
            memo=posting.memo,
        )
    posted = wallet_post(posting, grant=grant)
    trail_note(
        action="payment.received", owner_id=owner_id, target=payment.id,
        before=before, after=payment_shown(payment),
    )  # fmt: skip
    if payment.invoice_id:
        invoice_settle(invoice_id=payment.invoice_id)
    return posted


@transaction.atomic
def payment_failed(*, payment_id: str, code: str, message: str) -> bool:
    """Note that a payment came to nothing; False when it had ended before. One that succeeds later still counts.

    Raises:
        BillingError: `payment_unknown`.
    """
    payment = Payment.objects.select_for_update().filter(id=payment_id).first()
    if payment is None:
        raise BillingError("payment_unknown", f"There is no payment {payment_id[:64]}.")
    if payment.state != Payment.State.OPEN:
        return False
    before = payment_shown(payment)
    payment.state = Payment.State.FAILED
    payment.failure_code, payment.failure = code[:64], message[:300]
    payment.ended_at = utc_now()
    payment.save(update_fields=["state", "failure_code", "failure", "ended_at"])
    after = payment_shown(payment) | {"reason": payment.failure}
    trail_note(
        action="payment.failed", owner_id=payment.owner_id, target=payment.id, before=before, after=after
    )
    return True


@transaction.atomic
def payment_refunded(
    *, refund_id: str, intent_id: str, amount_cents: int, currency: str = "usd", memo: str = "Refund"
) -> bool:
    """Book money that went back to a customer, tax included in `amount_cents`; False when it was booked before, or has
    failed since.

    It leaves the wallet, from the credit that it had bought before any other; the wallet may fall below zero, since
    the money is gone. A refunded invoice payment is our loss: the invoice stays paid. Tax goes back in proportion.
    Nobody is charged by itself for what was just given back.

    Raises:
        BillingError: `amount_invalid`, `currency_unsupported`, `id_invalid`, `payment_unknown` while the payment itself
            is not booked yet, `refund_too_large`.
    """
    id_check(refund_id)
    cents_check(amount_cents)
    currency_check(currency)
    payment = payment_lock(intent_id)
    if refund_posted(refund_id) or FailedRefund.objects.filter(id=refund_id).exists():
        return False
    if payment.refunded_cents + amount_cents > payment.total_cents:
        raise BillingError("refund_too_large", "More would be given back than was paid.")
    before = payment_shown(payment)
    tax_cents = tax_part(payment, payment.refunded_cents + amount_cents) - payment.refunded_tax_cents
    payment.refunded_cents += amount_cents
    payment.refunded_tax_cents += tax_cents
    payment.save(update_fields=["refunded_cents", "refunded_tax_cents"])
    net, tax = cents_to_pico(amount_cents - tax_cents), cents_to_pico(tax_cents)
    source = target_account(payment)
    if payment.purpose == Payment.Purpose.INVOICE:
        source, net, tax = ("adjustment", ""), net + tax, 0
    entries = [(*source, -net), ("tax", "", -tax), (CLEARING, "", net + tax)]
    posting = Posting(
        REFUND, refund_id, [entry for entry in entries if entry[2]], memo, {"payment": payment.id}
    )
    trail_note(
        action="refund.booked", owner_id=payment.owner_id, target=refund_id,
        before=before, after=payment_shown(payment),
    )  # fmt: skip
    posted = wallet_post(posting, spend_first=bought_with(payment))
    if source[0] == WALLET:
        auto_topup_hold(owner_id=payment.owner_id, reason=GIVEN_BACK)
    return posted


def payment_shown(payment: Payment) -> dict[str, str]:
    """A payment as the record of money actions shows it."""
    return {
        "payment": payment.id,
        "state": str(payment.state),
        "cents": str(payment.total_cents),
        "refunded_cents": str(payment.refunded_cents),
    }


def payment_lock(intent_id: str) -> Payment:
    """The succeeded payment of an intent, locked.

    Raises:
        BillingError: `payment_unknown`.
    """
    rows = Payment.objects.select_for_update().filter(intent_id=intent_id, state=Payment.State.SUCCEEDED)
    payment = rows.first() if intent_id else None
    if payment is None:
        raise BillingError("payment_unknown", f"The payment of {intent_id[:64]!r} is not booked.")
    return payment


def target_account(payment: Payment) -> tuple[str, str]:
    """The account that a payment's money goes to; an invoice that was written off brings back what was lost."""
    if payment.purpose != Payment.Purpose.INVOICE:
        return WALLET, payment.owner_id
    lost = Invoice.objects.filter(id=payment.invoice_id, state=Invoice.State.UNCOLLECTIBLE).exists()
    return ("bad_debt", "") if lost else ("receivable", payment.owner_id)


def tax_part(payment: Payment, cents: int) -> int:
    """How much of the first `cents` of a payment is tax, so that all parts together are the whole tax."""
    return round_half_even(payment.tax_cents * cents, payment.total_cents)


def bought_with(payment: Payment) -> str:
    """The id of the credit that a payment bought, "" when there is none."""
    rows = CreditGrant.objects.filter(source_type=PAYMENT, source_id=payment.intent_id)
    return rows.values_list("id", flat=True).first() or ""


def refund_posted(refund_id: str) -> bool:
    """Whether a refund is booked."""
    return LedgerTransaction.objects.filter(source_type=REFUND, source_id=refund_id).exists()


def _payment_of(intent_id: str, payment_id: str, unasked: Payment) -> Payment:
    """The row of this intent, locked: the one it has, the one that was opened for it, or a new one."""
    rows = Payment.objects.select_for_update()
    payment = rows.filter(intent_id=intent_id).first()
    if payment is None and payment_id:
        payment = rows.filter(id=payment_id).first()
        if payment is None:
            raise BillingError("payment_unknown", f"There is no payment {payment_id[:64]}.")
    if payment is None:
        # Of two who report it at the same moment, one inserts and the other waits here.
        unasked.state = Payment.State.FAILED
        Payment.objects.bulk_create([unasked], ignore_conflicts=True)
        payment = rows.get(intent_id=intent_id)
    return payment


def _memo(payment: Payment) -> str:
    return {
        Payment.Purpose.TOPUP: "Credit bought",
        Payment.Purpose.AUTO_TOPUP: "Automatic top-up",
        Payment.Purpose.INVOICE: "Invoice paid",
    }[Payment.Purpose(payment.purpose)]
