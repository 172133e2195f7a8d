"""What an invoice says."""

from collections.abc import Sequence
from decimal import Decimal

from kindling_billing.documents.sheet import Sheet, cents_text, day_text, pico_text
from kindling_billing.errors import BillingError
from kindling_billing.gpu_hours import HOUR_MS
from kindling_billing.models import Invoice, InvoiceLine
from kindling_billing.rating import BATCH, CACHED, GPU, OUTPUT, PROMPT, REASONING
from kindling_billing.usage import UNEXPLAINED

MILLION = 10**6
UNITS = {
    PROMPT: "prompt tokens",
    CACHED: "cached prompt tokens",
    REASONING: "reasoning tokens",
    OUTPUT: "output tokens",
    GPU: "GPU time",
    UNEXPLAINED: "requests",
}


def invoice_pdf(*, owner_id: str, invoice_id: str, seller: str) -> bytes:
    """An owner's invoice, or its draft, as PDF; `seller` is the name and address of who sends it.

    Raises:
        BillingError: `invoice_unknown`.
    """
    invoice = Invoice.objects.filter(id=invoice_id, owner_id=owner_id).first()
    if invoice is None:
        raise BillingError("invoice_unknown", "There is no such invoice.")
    # The library takes a third of a second to import, and few processes ever draw a page.
    from kindling_billing.documents.pdf import sheet_pdf

    return sheet_pdf(invoice_sheet(invoice, list(invoice.lines.order_by("position")), seller=seller))


def invoice_sheet(invoice: Invoice, lines: Sequence[InvoiceLine], *, seller: str) -> Sheet:
    """The text of an invoice and its lines."""
    facts = [
        ("Invoice", invoice.name or "draft"),
        ("Period", f"{invoice.month:%B %Y}"),
        ("Issued", day_text(invoice.issued_at)),
        ("Due", day_text(invoice.due_at) if invoice.total_cents else ""),
        ("State", invoice.state),
        ("Customer", invoice.owner_id),
        ("Tax id", invoice.tax_id),
    ]
    return Sheet(
        title=f"Invoice {invoice.name}" if invoice.name else "Draft of an invoice",
        seller=seller,
        buyer=invoice.bill_to,
        facts=tuple((name, value) for name, value in facts if value),
        head=("Usage", "Quantity", "Price per million", "Amount"),
        rows=tuple(_row(invoice, line) for line in lines),
        sums=_sums(invoice),
        notes=_notes(invoice),
    )


def _row(invoice: Invoice, line: InvoiceLine) -> tuple[str, ...]:
    unit = line.unit.removeprefix(BATCH)
    what = f"{line.label or line.sku}: {UNITS.get(unit, unit)}{' in batches' if unit != line.unit else ''}"
    if line.used_month != invoice.month:
        what += f" ({'correction of ' if line.quantity < 0 else ''}{line.used_month:%B %Y})"
    if unit == GPU:
        hours = f"{Decimal(int(line.quantity)) / HOUR_MS:,.4f} hours"
        return (
            what,
            hours,
            f"{pico_text(line.unit_price_picousd * HOUR_MS)} per hour",
            cents_text(line.amount_cents),
        )
    price = pico_text(line.unit_price_picousd * MILLION) if line.unit_price_picousd else ""
    return what, f"{int(line.quantity):,}", price, cents_text(line.amount_cents)


def _sums(invoice: Invoice) -> tuple[tuple[str, str], ...]:
    sums = [("Usage", cents_text(invoice.subtotal_cents))]
    covered = invoice.subtotal_cents - invoice.due_cents
    if covered:
        sums.append(("Paid from your balance", cents_text(-covered)))
    if invoice.tax_cents:
        sums.append(("Tax", cents_text(invoice.tax_cents)))
    sums.append(("Total due", cents_text(invoice.total_cents)))
    if invoice.paid_cents:
        sums.append(("Paid", cents_text(invoice.paid_cents)))
    return tuple(sums)


def _notes(invoice: Invoice) -> tuple[str, ...]:
    exact = f"The usage came to exactly {pico_text(int(invoice.exact_picousd))}; a line is rounded once, half to even."
    return (exact, "Amounts are US dollars; months and days are UTC.")
