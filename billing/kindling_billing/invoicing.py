"""Monthly invoices from our own rating: a draft that follows the month's totals, then one that never changes again."""

from datetime import UTC, date, datetime, time, timedelta

from django.db import connection, transaction
from django.db.models import QuerySet, Sum

from kindling_billing.errors import BillingError
from kindling_billing.figures import Figures, covered_of, figures_of
from kindling_billing.ledger import Posting, accounts_lock
from kindling_billing.models import Invoice, InvoiceLine, Terms, UsageTotal, utc_now
from kindling_billing.money import cents_to_pico, pico_to_cents
from kindling_billing.notices import notice_add
from kindling_billing.selectors import balance_get
from kindling_billing.terms import terms_get
from kindling_billing.totals import month_after, months_closed
from kindling_billing.trail import trail_note
from kindling_billing.wallet import WALLET, wallet_post

INVOICE = "invoice"
ISSUED = "invoice.issued"
# So long a month waits for its late events before its invoice becomes final; later ones go on the next invoice.
GRACE = timedelta(days=2)
NEXT_NUMBER = """
    INSERT INTO billing_invoiceseries AS series (year, next_number) VALUES (%s, 2)
    ON CONFLICT (year) DO UPDATE SET next_number = series.next_number + 1 RETURNING next_number - 1
"""


def invoice_list(*, owner_id: str) -> QuerySet[Invoice]:
    """An owner's invoices, newest first, drafts included."""
    return Invoice.objects.filter(owner_id=owner_id).order_by("-month")


def invoice_find(*, owner_id: str = "", state: str = "") -> QuerySet[Invoice]:
    """Everybody's invoices, one owner's or those in a state, newest first; for the operator."""
    rows = Invoice.objects.order_by("-created_at", "-id")
    rows = rows.filter(owner_id=owner_id) if owner_id else rows
    return rows.filter(state=state) if state else rows


def month_list_due(*, now: datetime) -> list[tuple[str, date]]:
    """Owners and months whose invoice can become final, oldest month first."""
    rows = UsageTotal.objects.filter(billed_month__lt=_first_open_month(now - GRACE))
    seen = sorted(set(rows.values_list("billed_month", "owner_id")))
    closed = months_closed({owner for _, owner in seen})
    return [(owner, month) for month, owner in seen if owner not in closed or month > closed[owner]]


@transaction.atomic
def invoice_draft(*, owner_id: str, month: date) -> Invoice:
    """The draft of a month with the figures of this moment; an invoice that is final is left as it is.

    Raises:
        BillingError: `month_invalid`, `month_closed`.
    """
    closed = _month_check(owner_id, month)
    invoice = _locked(owner_id, month)
    if invoice.state == Invoice.State.DRAFT:
        _fill(invoice, _totals(owner_id, month, closed), terms_get(owner_id=owner_id))
        invoice.save()
    return invoice


@transaction.atomic
def invoice_finalise(*, owner_id: str, month: date, now: datetime | None = None) -> Invoice:
    """Number a month's invoice and move what it demands from the wallet to the receivables; a repeat finds it done.

    A prepaid owner owes nothing: their wallet has paid. For one who was post-paid in that month or later, the wallet's
    debt of this month is what is due; the cents that rounding adds are posted to the rounding account.

    Raises:
        BillingError: `month_invalid`, `month_open` until the month and its grace are over, `month_closed` when a later
            month is final already.
    """
    now = now or utc_now()
    made = Invoice.objects.filter(owner_id=owner_id, month=month).first()
    if made is not None and made.state != Invoice.State.DRAFT:
        return made
    _month_check(owner_id, month)
    if now < _month_end(month) + GRACE:
        raise BillingError(
            "month_open", f"{month:%Y-%m} still takes usage until {_month_end(month) + GRACE:%Y-%m-%d}."
        )
    accounts_lock({(WALLET, owner_id), ("receivable", owner_id), ("rounding", ""), ("tax", "")})
    invoice = _locked(owner_id, month)
    if invoice.state != Invoice.State.DRAFT:
        return invoice
    terms = terms_get(owner_id=owner_id)
    closed = months_closed([owner_id]).get(owner_id)
    figures = _fill(invoice, _totals(owner_id, month, closed), terms)
    _post(invoice, figures)
    _number(invoice, terms, now)
    notice_add(
        kind=ISSUED, key=invoice.id, owner_id=owner_id, data={"invoice": invoice.id, "number": invoice.name}
    )
    after = {"number": invoice.name, "state": str(invoice.state), "total_cents": str(invoice.total_cents)}
    trail_note(
        action="invoice.finalised", owner_id=owner_id, target=invoice.id,
        before={"month": f"{month:%Y-%m}", "state": "draft"}, after=after,
    )  # fmt: skip
    return invoice


def _month_check(owner_id: str, month: date) -> date | None:
    """The last month whose invoice is final; it may be another one by the time that the wallet is locked."""
    if month.day != 1:
        raise BillingError("month_invalid", "A month is named by its first day.")
    closed = months_closed([owner_id]).get(owner_id)
    made = Invoice.objects.filter(owner_id=owner_id, month=month).exclude(state=Invoice.State.DRAFT)
    if closed and month < closed and not made.exists():
        raise BillingError("month_closed", f"The invoice of {closed:%Y-%m} is final already.")
    return closed


def _locked(owner_id: str, month: date) -> Invoice:
    # Of two who make it at the same moment, one inserts and the other waits here.
    Invoice.objects.bulk_create([Invoice(owner_id=owner_id, month=month)], ignore_conflicts=True)
    return Invoice.objects.select_for_update().get(owner_id=owner_id, month=month)


def _totals(owner_id: str, month: date, closed: date | None) -> list[UsageTotal]:
    """What no earlier invoice has taken, up to this month."""
    rows = UsageTotal.objects.filter(owner_id=owner_id, billed_month__lte=month)
    if closed:
        rows = rows.filter(billed_month__gt=closed)
    rows = rows.exclude(quantity=0, amount_picousd=0)
    return list(rows.order_by("used_month", "label", "sku", "unit", "unit_price_picousd", "billed_month"))


def _fill(invoice: Invoice, totals: list[UsageTotal], terms: Terms) -> Figures:
    exact = sum(int(total.amount_picousd) for total in totals)
    later_rows = UsageTotal.objects.filter(owner_id=invoice.owner_id, billed_month__gt=invoice.month)
    later = int(later_rows.aggregate(total=Sum("amount_picousd"))["total"] or 0)
    wallet = balance_get(owner_id=invoice.owner_id).picousd
    covered = covered_of(exact_picousd=exact, later_picousd=later, wallet_picousd=wallet)
    if not _pays_later(terms, invoice.month):
        covered = exact
    figures = figures_of(
        [int(total.amount_picousd) for total in totals],
        covered_picousd=covered,
        tax_basis_points=terms.tax_basis_points,
    )
    InvoiceLine.objects.filter(invoice=invoice).delete()
    InvoiceLine.objects.bulk_create(
        InvoiceLine(
            invoice=invoice,
            position=position,
            used_month=total.used_month,
            sku=total.sku,
            label=total.label,
            unit=total.unit,
            unit_price_picousd=total.unit_price_picousd,
            quantity=total.quantity,
            amount_picousd=total.amount_picousd,
            amount_cents=pico_to_cents(int(total.amount_picousd)),
        )
        for position, total in enumerate(totals, start=1)
    )
    for name in Figures.__dataclass_fields__:
        setattr(invoice, name, getattr(figures, name))
    invoice.bill_to, invoice.tax_id = terms.bill_to, terms.tax_id
    return figures


def _pays_later(terms: Terms, month: date) -> bool:
    until = terms.postpaid_until
    return terms.mode == Terms.Mode.POSTPAID or (
        until is not None and until > datetime.combine(month, time(), UTC)
    )


def _post(invoice: Invoice, figures: Figures) -> None:
    due_exact = figures.exact_picousd - figures.covered_picousd
    if due_exact <= 0:
        return
    tax = cents_to_pico(figures.tax_cents)
    entries = [
        (WALLET, invoice.owner_id, due_exact),
        ("receivable", invoice.owner_id, -cents_to_pico(figures.due_cents) - tax),
        ("rounding", "", figures.rounding_picousd),
        ("tax", "", tax),
    ]
    memo = f"Invoice of {invoice.month:%Y-%m}"
    wallet_post(Posting(INVOICE, invoice.id, [entry for entry in entries if entry[2]], memo))


def _number(invoice: Invoice, terms: Terms, now: datetime) -> None:
    """Last of all, so that the series, which everybody shares, is held no longer than a commit takes."""
    with connection.cursor() as cursor:
        cursor.execute(NEXT_NUMBER, [now.year])
        invoice.year, invoice.number = now.year, cursor.fetchone()[0]
    invoice.issued_at = now
    invoice.due_at = now + timedelta(days=terms.net_days)
    invoice.state = Invoice.State.FINAL if invoice.total_cents else Invoice.State.PAID
    invoice.closed_at = None if invoice.total_cents else now
    invoice.save()


def _month_end(month: date) -> datetime:
    return datetime.combine(month_after(month), time(), UTC)


def _first_open_month(moment: datetime) -> date:
    return moment.astimezone(UTC).date().replace(day=1)
