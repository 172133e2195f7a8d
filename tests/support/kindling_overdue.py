"""An organisation with an invoice that nobody has paid through all reminders."""

from datetime import date, timedelta

from django.test import Client

from kindling_billing.collecting import STAGES, dunning_run
from kindling_billing.models import Invoice
from kindling_fake_stripe import FakeStripe
from kindling_platform.common.clock import now


def make_overdue(owner_id: str, *, cents: int = 1000, number: int = 1) -> Invoice:
    """An invoice behind its last reminder, with which requests stop."""
    invoice = Invoice.objects.create(
        owner_id=owner_id, month=date(2020, number, 1), state="final", year=2026, number=number,
        due_cents=cents, due_at=now() - timedelta(days=30), dunned=len(STAGES) - 1,
    )  # fmt: skip
    assert dunning_run() == 1
    return invoice


def pay_page(stripe: FakeStripe, url: str) -> None:
    """Pay on the provider's page, and take in what it reports."""
    stripe.switch("pay", session=url.rsplit("/", 1)[1])
    for one in stripe.webhooks():
        headers = {"HTTP_STRIPE_SIGNATURE": one["signature"]}
        reply = Client().post("/stripe/webhook", one["payload"], content_type="application/json", **headers)
        assert reply.status_code == 200, reply.content
