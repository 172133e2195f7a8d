"""What a receipt for a payment says."""

from kindling_billing.documents.sheet import Sheet, cents_text, day_text
from kindling_billing.errors import BillingError
from kindling_billing.models import Invoice, Payment, Terms
from kindling_billing.terms import terms_get

WHAT = {
    Payment.Purpose.TOPUP: "Credit for usage",
    Payment.Purpose.AUTO_TOPUP: "Credit for usage, topped up automatically",
    Payment.Purpose.INVOICE: "Payment of an invoice",
}


def receipt_pdf(*, owner_id: str, payment_id: str, seller: str) -> bytes:
    """The receipt of a payment that succeeded, as PDF.

    Raises:
        BillingError: `payment_unknown`.
    """
    rows = Payment.objects.filter(id=payment_id, owner_id=owner_id, state=Payment.State.SUCCEEDED)
    payment = rows.first()
    if payment is None:
        raise BillingError("payment_unknown", "There is no such payment.")
    # The library takes a third of a second to import, and few processes ever draw a page.
    from kindling_billing.documents.pdf import sheet_pdf

    return sheet_pdf(receipt_sheet(payment, terms_get(owner_id=owner_id), seller=seller))


def receipt_sheet(payment: Payment, terms: Terms, *, seller: str) -> Sheet:
    """The text of a receipt."""
    what = WHAT[Payment.Purpose(payment.purpose)]
    if payment.invoice_id and (invoice := Invoice.objects.filter(id=payment.invoice_id).first()):
        what = f"Payment of invoice {invoice.name}"
    facts = [
        ("Receipt", payment.id),
        ("Paid", day_text(payment.ended_at)),
        ("Reference", payment.intent_id),
        ("Customer", payment.owner_id),
        ("Tax id", terms.tax_id),
    ]
    sums = [("Tax", cents_text(payment.tax_cents))] if payment.tax_cents else []
    sums.append(("Total paid", cents_text(payment.total_cents)))
    if payment.refunded_cents:
        sums.append(("Refunded since", cents_text(payment.refunded_cents)))
    return Sheet(
        title="Receipt",
        seller=seller,
        buyer=terms.bill_to,
        facts=tuple((name, value) for name, value in facts if value),
        head=("What", "Amount"),
        rows=((what, cents_text(payment.amount_cents)),),
        sums=tuple(sums),
        notes=("Amounts are US dollars; days are UTC.",),
    )
