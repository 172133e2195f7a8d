"""Invoices and receipts as PDF: every sum is said, foreign text does no harm, the same books give the same bytes."""

from unicodedata import normalize

import pytest

from kindling_billing.documents.fonts import drawable, missing_characters
from kindling_billing.documents.invoice import invoice_pdf, invoice_sheet
from kindling_billing.documents.receipt import receipt_pdf, receipt_sheet
from kindling_billing.documents.sheet import cents_text, pico_text
from kindling_billing.invoicing import invoice_draft, invoice_finalise
from kindling_billing.models import Payment
from kindling_billing.payments import payment_received, payment_refunded
from kindling_billing.rating import Price
from kindling_billing.selectors import balance_get
from kindling_billing.services import credit_grant, usage_post
from kindling_billing.terms import terms_get, terms_set
from kindling_books_rig import MARCH, OWNER, USD, charge, moment, refused

pytestmark = pytest.mark.django_db
SELLER = "Kindling Ltd\n1 Ash Lane"


@pytest.fixture
def used(db: None) -> None:
    terms_set(
        owner_id=OWNER,
        mode="postpaid",
        tax_basis_points=2000,
        bill_to="Zoë & <Söhne> 木\nBerlin",
        tax_id="DE1",
    )
    credit_grant(owner_id=OWNER, amount_picousd=USD, source_id="gift", memo="", actor_id="")
    usage_post(
        [charge(f"r{n}", prompt=1_000_000, cached=400_000, made=800_000, sku=f"m{n:02}") for n in range(40)]
    )


def test_an_invoice_says_its_lines_and_sums(used: None):
    invoice = invoice_finalise(owner_id=OWNER, month=MARCH, now=moment(4, 10))
    sheet = invoice_sheet(invoice, list(invoice.lines.order_by("position")), seller=SELLER)
    assert sheet.title == "Invoice 2026-000001"
    assert len(sheet.rows) == 120
    assert sheet.rows[0] == ("m00: cached prompt tokens", "400,000", "$0.05", "$0.02")
    assert sheet.rows[1] == ("m00: output tokens", "800,000", "$0.40", "$0.32")
    assert sheet.sums == (
        ("Usage", "$16.00"), ("Paid from your balance", "-$1.00"), ("Tax", "$3.00"), ("Total due", "$18.00"),
    )  # fmt: skip
    pdf = invoice_pdf(owner_id=OWNER, invoice_id=invoice.id, seller=SELLER)
    assert pdf.startswith(b"%PDF-")
    assert pdf.count(b"/Type /Page\n") >= 3
    assert pdf == invoice_pdf(owner_id=OWNER, invoice_id=invoice.id, seller=SELLER)


def test_batch_work_has_lines_of_its_own_at_its_part_of_the_price(db: None):
    terms_set(owner_id=OWNER, mode="postpaid")
    used = {"prompt": 30_000_000, "cached": 10_000_000, "made": 20_000_000}
    price = Price(100_001, 50_001, 400_001, batch_percent=33)  # a part that is no whole number is rounded
    usage_post([charge(name, price=price, batch=name != "alone", **used) for name in ("alone", "b1", "b2")])
    invoice = invoice_finalise(owner_id=OWNER, month=MARCH, now=moment(4, 10))
    sheet = invoice_sheet(invoice, list(invoice.lines.order_by("position")), seller=SELLER)
    assert sorted(sheet.rows) == [
        ("mdl_a: cached prompt tokens", "10,000,000", "$0.050001", "$0.50"),
        ("mdl_a: cached prompt tokens in batches", "20,000,000", "$0.0165", "$0.33"),
        ("mdl_a: output tokens", "20,000,000", "$0.400001", "$8.00"),
        ("mdl_a: output tokens in batches", "40,000,000", "$0.132", "$5.28"),
        ("mdl_a: prompt tokens", "20,000,000", "$0.100001", "$2.00"),
        ("mdl_a: prompt tokens in batches", "40,000,000", "$0.033", "$1.32"),
    ]
    assert dict(sheet.sums) == {"Usage": "$17.43", "Total due": "$17.43"}
    assert "exactly $17.43005;" in sheet.notes[0]
    assert balance_get(owner_id=OWNER).picousd == 0


def test_a_draft_can_be_looked_at_and_others_see_none_of_it(used: None):
    draft = invoice_draft(owner_id=OWNER, month=MARCH)
    assert invoice_pdf(owner_id=OWNER, invoice_id=draft.id, seller=SELLER).startswith(b"%PDF-")
    with refused("invoice_unknown"):
        invoice_pdf(owner_id="org_b", invoice_id=draft.id, seller=SELLER)


def test_a_receipt_says_what_was_paid_and_what_went_back(used: None):
    payment_received(intent_id="pi_1", owner_id=OWNER, amount_cents=2000, tax_cents=400)
    payment_refunded(refund_id="re_1", intent_id="pi_1", amount_cents=600)
    payment = Payment.objects.get()
    sheet = receipt_sheet(payment, terms_get(owner_id=OWNER), seller=SELLER)
    assert sheet.rows == (("Credit for usage", "$20.00"),)
    assert sheet.sums == (("Tax", "$4.00"), ("Total paid", "$24.00"), ("Refunded since", "$6.00"))
    assert receipt_pdf(owner_id=OWNER, payment_id=payment.id, seller=SELLER).startswith(b"%PDF-")
    with refused("payment_unknown"):
        receipt_pdf(owner_id="org_b", payment_id=payment.id, seller=SELLER)


@pytest.mark.parametrize(
    ("pico", "text"), [(0, "$0.00"), (1, "$0.000000000001"), (-15 * 10**11, "-$1.50"), (10**15, "$1,000.00")]
)
def test_exact_amounts_keep_their_digits(pico: int, text: str):
    assert pico_text(pico) == text


def test_cents_have_their_sign_before_the_dollar():
    assert [cents_text(cents) for cents in (0, -5, 123_456_789)] == ["$0.00", "-$0.05", "$1,234,567.89"]


@pytest.mark.parametrize(
    "text", ["Łódź\n1 Ash Lane", "Москва, ул. Ленина", "Αθήνα", "Söhne & <Zoë>", "Å", "€ 5 № 7"]
)
def test_letters_of_europe_are_printed(text: str):
    assert missing_characters(text) == ""
    assert drawable(text) == normalize("NFC", text)


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("東京都, 東京", "東京都"), ("Tel Aviv תל", "תל"), ("دبي", "دبي"), ("A \U0001f3e0", "\U0001f3e0"),
        ("a\tb", "\t"), ("a\x1fb", "\x1f"),
    ],
)  # fmt: skip
def test_what_cannot_be_printed_is_named(text: str, missing: str):
    assert missing_characters(text) == missing
    assert "?" in drawable(text)


def test_what_is_not_seen_is_neither_taken_nor_printed():
    unseen = "\u200b\u202e\u00ad\u2028\u2029"
    assert missing_characters(f"Ash{unseen}Lane") == unseen
    assert drawable(f"Ash{unseen}Lane") == "AshLane"


def test_a_documents_letters_are_those_of_its_font(used: None):
    terms_set(owner_id=OWNER, bill_to="Łódź, Москва")
    invoice = invoice_finalise(owner_id=OWNER, month=MARCH, now=moment(4, 10))
    pdf = invoice_pdf(owner_id=OWNER, invoice_id=invoice.id, seller=SELLER)
    assert b"DejaVuSans" in pdf and len(pdf) < 200_000
