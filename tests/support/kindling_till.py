"""Owners who pay: the books, the stand-in for Stripe, and a clock for both that only goes where it is told."""

import itertools
import random
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from kindling_billing.charging import auto_topup_start, checkout_start, customer_call, customer_id_get
from kindling_billing.fake_stripe.deliveries import signature
from kindling_billing.models import OutboxCall, Payment, utc_now
from kindling_billing.outbox.sending import call_list_due, call_send
from kindling_billing.selectors import balance_get
from kindling_billing.stripe_api.client import StripeApi
from kindling_billing.stripe_api.outcomes import ProviderAway
from kindling_billing.terms import auto_topup_set
from kindling_billing.webhooks.receiving import Receipt, webhook_receive
from kindling_fake_stripe import SECRET, FakeStripe

CENT = 10**10
VISA = "4242424242424242"
NUMBERS = itertools.count(1)


@dataclass(slots=True)
class Till:
    """Everything that money passes through in a test."""

    fake: FakeStripe
    api: StripeApi
    offset: timedelta = timedelta()
    kept: list[dict[str, str]] = field(default_factory=list)

    def now(self) -> datetime:
        """The time, as far as it was moved."""
        return utc_now() + self.offset

    def advance(self, *, hours: float) -> None:
        """Move the clocks of both sides."""
        self.fake.advance(hours=hours)
        self.offset += timedelta(hours=hours)

    def owner(self, *, card: str = VISA, cents: int = 2000) -> str:
        """A new owner who has topped up once with a card that was kept."""
        owner_id = self.stranger()
        if card:
            self.pay(self.checkout(owner_id, cents), card)
            self.deliver()
        return owner_id

    def stranger(self) -> str:
        """A new owner whom the provider knows and who has no card."""
        owner_id = f"org_{next(NUMBERS)}"
        call = customer_call(owner_id=owner_id, email=f"{owner_id}@example.com", name=owner_id)
        assert call is not None
        while not customer_id_get(owner_id=owner_id):
            self.send()
        return owner_id

    def checkout(self, owner_id: str, cents: int = 2000, **more: Any) -> OutboxCall:
        """A page to pay on, once the provider has made it."""
        fields = {"tax_cents": 0, "tax_by_provider": False, "return_url": "http://home/{payment}/"} | more
        call = checkout_start(owner_id=owner_id, amount_cents=cents, now=self.now(), **fields)
        while call.state == OutboxCall.State.WAITING:
            self.send()
            call.refresh_from_db()
        return call

    def pay(self, call: OutboxCall, number: str = VISA) -> Any:
        """Pay on the page."""
        return self.fake.switch("pay", session=call.result_id, number=number)

    def wish(self, owner_id: str, *, threshold: int = 10**7, amount: int = 500, cap: int = 10**8) -> None:
        """Have an owner charged by themselves."""
        auto_topup_set(
            owner_id=owner_id, enabled=True, threshold_cents=threshold, amount_cents=amount,
            monthly_cap_cents=cap,
        )  # fmt: skip

    def auto(self, owner_id: str) -> OutboxCall | None:
        """Charge an owner if it is due, without sending."""
        return auto_topup_start(owner_id=owner_id, tax_cents=0, now=self.now())

    def send(self, times: int = 1) -> None:
        """Let the sender run; between the runs so much time passes that everything is due again."""
        for _ in range(times):
            for call_id in call_list_due(now=self.now()):
                call_send(self.api, call_id=call_id, now=self.now())
            if OutboxCall.objects.filter(state=OutboxCall.State.WAITING).exists():
                self.advance(hours=0.2)

    def take(self) -> list[dict[str, str]]:
        """Fetch the webhooks that wait."""
        self.kept += self.fake.webhooks()
        found, self.kept = self.kept, []
        return found

    def hear(self, one: dict[str, str]) -> Receipt:
        """Hand one webhook in."""
        payload = one["payload"].encode()
        return webhook_receive(
            self.api, payload=payload, header=one["signature"], secret=SECRET, now=self.now()
        )

    def signed_anew(self, one: dict[str, str]) -> dict[str, str]:
        """The webhook as it is sent now: every attempt has a signature of its own time."""
        at = int(self.now().timestamp())
        return one | {"signature": signature(one["payload"], secret=SECRET, at=at)}

    def deliver(self, *, shuffle: random.Random | None = None, copies: int = 1) -> list[Receipt]:
        """Hand in every webhook that waits, so often; what cannot be taken now stays."""
        waiting = self.take() * copies
        if shuffle:
            shuffle.shuffle(waiting)
        receipts = []
        for one in waiting:
            try:
                receipts.append(self.hear(self.signed_anew(one)))
            except ProviderAway:
                self.kept.append(one)
        return receipts

    def wallet(self, owner_id: str) -> int:
        """An owner's balance in cents."""
        return balance_get(owner_id=owner_id).picousd // CENT

    def paid_intents(self) -> list[dict[str, Any]]:
        """The payments that the provider has the money of."""
        return [row for row in self.fake.rows("payment_intents") if row["status"] == "succeeded"]


def payment_of(call: OutboxCall) -> Payment:
    """The payment that a request is for."""
    return Payment.objects.get(id=call.subject)
