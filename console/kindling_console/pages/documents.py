"""Invoices and receipts as PDF."""

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse

from kindling_billing.documents.invoice import invoice_pdf
from kindling_billing.documents.receipt import receipt_pdf
from kindling_billing.errors import BillingError
from kindling_billing.invoicing import invoice_draft
from kindling_console.access import Visitor, page
from kindling_console.answers import private
from kindling_platform.common.clock import now


@page("billing.read")
def invoice(request: HttpRequest, visitor: Visitor, invoice_id: str) -> HttpResponse:
    """An invoice, or the draft of this month's."""
    try:
        content = invoice_pdf(
            owner_id=visitor.org.id, invoice_id=invoice_id, seller=settings.KINDLING_ENV.seller
        )
    except BillingError as error:
        raise Http404(error.message) from error
    return _pdf(content, f"invoice-{invoice_id}.pdf")


@page("billing.read")
def invoice_so_far(request: HttpRequest, visitor: Visitor) -> HttpResponse:
    """The draft of this month's invoice, with the figures of this moment."""
    month = now().date().replace(day=1)
    try:
        draft = invoice_draft(owner_id=visitor.org.id, month=month)
    except BillingError as error:
        raise Http404(error.message) from error
    content = invoice_pdf(owner_id=visitor.org.id, invoice_id=draft.id, seller=settings.KINDLING_ENV.seller)
    return _pdf(content, f"invoice-{month:%Y-%m}-draft.pdf")


@page("billing.read")
def receipt(request: HttpRequest, visitor: Visitor, payment_id: str) -> HttpResponse:
    """The receipt of a payment."""
    try:
        content = receipt_pdf(
            owner_id=visitor.org.id, payment_id=payment_id, seller=settings.KINDLING_ENV.seller
        )
    except BillingError as error:
        raise Http404(error.message) from error
    return _pdf(content, f"receipt-{payment_id}.pdf")


def _pdf(content: bytes, name: str) -> HttpResponse:
    response = HttpResponse(content, content_type="application/pdf")
    response["Content-Disposition"] = f'inline; filename="{name}"'
    return private(response)
