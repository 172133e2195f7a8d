"""A state machine over the books: whatever is done in whatever order, the books prove and a plain model agrees.

The model is a dictionary of whole amounts; it knows nothing of portions, locks, keys or months.
"""

from collections import defaultdict
from datetime import timedelta

from django.apps import apps
from django.db import connection, transaction
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from kindling_billing.credits import grants_expire
from kindling_billing.disputes import dispute_closed, dispute_opened
from kindling_billing.errors import BillingError
from kindling_billing.invoicing import invoice_finalise
from kindling_billing.models import CreditGrant, Dispute, Invoice, utc_now
from kindling_billing.money import cents_to_pico
from kindling_billing.payments import payment_received, payment_refunded
from kindling_billing.proofs import books_prove
from kindling_billing.rating import Price
from kindling_billing.selectors import balance_map
from kindling_billing.services import Correction, UsageCharge, credit_grant, usage_correct, usage_post
from kindling_billing.settlements import account_sum, settlement_received
from kindling_billing.terms import terms_set
from kindling_books_rig import charge, moment

OWNERS = ("org_a", "org_b")
owners = st.sampled_from(OWNERS)
cents = st.sampled_from([1, 2, 99, 250, 1000, 12345])
prices = st.builds(Price, st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6))
LAST_MONTH = 12
PROVED_EVERY = 4
SWEPT_EVERY = 100


class LedgerMachine(RuleBasedStateMachine):
    """Everything that moves money, for two owners of whom one pays after use.

    Each walk is a transaction that is rolled back, or a savepoint where the test has a transaction already. The first
    is what many walks want: their dead rows can be swept, where in one transaction each walk would wade through them.
    """

    walks = 0

    @initialize()
    def begin(self) -> None:
        self.walk = transaction.atomic()
        self.walk.__enter__()
        self.serial = self.steps = self.closed_step = 0
        self.wallets: dict[str, int] = defaultdict(int)
        self.charges: list[UsageCharge] = []
        self.payments: list[tuple[str, str, int, int]] = []
        self.month = 3
        self.runs = 0
        terms_set(owner_id="org_b", mode="postpaid", credit_limit_picousd=10**15, tax_basis_points=700)

    def teardown(self) -> None:
        if hasattr(self, "walk"):
            try:
                self.prove()
            finally:
                transaction.set_rollback(True)
                self.walk.__exit__(None, None, None)
                self.sweep()

    @classmethod
    def sweep(cls) -> None:
        """Take away what earlier walks have rolled back."""
        cls.walks += 1
        if cls.walks % SWEPT_EVERY == 0 and not connection.in_atomic_block:
            tables = ", ".join(model._meta.db_table for model in apps.get_app_config("billing").get_models())
            with connection.cursor() as cursor:
                cursor.execute(f"VACUUM {tables}")

    @rule(owner=owners, amount=cents, expires=st.booleans(), again=st.booleans())
    def grant(self, owner: str, amount: int, expires: bool, again: bool) -> None:
        expiry = utc_now() + timedelta(days=1) if expires else None
        for turn in range(1 + again):
            made = credit_grant(
                owner_id=owner, amount_picousd=cents_to_pico(amount), source_id=f"g{self.number(turn)}", memo="",
                actor_id="", expires_at=expiry,
            )  # fmt: skip
            assert (made is not None) is (turn == 0)
        self.wallets[owner] += cents_to_pico(amount)

    @rule(owner=owners, amount=cents, tax=st.sampled_from([0, 1, 77]), again=st.booleans())
    def pay(self, owner: str, amount: int, tax: int, again: bool) -> None:
        for turn in range(1 + again):
            intent = f"pi_{self.number(turn)}"
            booked = payment_received(intent_id=intent, owner_id=owner, amount_cents=amount, tax_cents=tax)
            settlement_received(settlement_id=f"t_{intent}", amount_cents=amount + tax, fee_cents=1)
            assert booked is (turn == 0)
        self.wallets[owner] += cents_to_pico(amount)
        self.payments.append((intent, owner, amount, tax))

    @rule(
        made=st.lists(st.tuples(owners, st.integers(0, 10**6), st.integers(0, 10**5), prices), min_size=1, max_size=4),
        again=st.booleans(), back=st.integers(0, 2),
    )  # fmt: skip
    def use(self, made: list[tuple[str, int, int, Price]], again: bool, back: int) -> None:
        at = moment(max(1, self.month - back))
        charges = [
            charge(f"r{self.number()}", owner=owner, prompt=prompt, made=tokens, price=price, at=at)
            for owner, prompt, tokens, price in made
        ]
        assert usage_post(charges + charges[:1]) == {one.request_id for one in charges}
        if again:
            assert usage_post(charges) == set()
        for one in charges:
            self.wallets[one.owner_id] -= one.cost_picousd
        self.charges += charges

    @precondition(lambda self: self.charges)
    @rule(place=st.integers(0, 10**6), price=prices, again=st.booleans())
    def rate_anew(self, place: int, price: Price, again: bool) -> None:
        place %= len(self.charges)
        before = self.charges[place]
        after = charge(
            before.request_id, owner=before.owner_id, price=price, at=before.used_at,
            prompt=_quantity(before, "prompt"), made=_quantity(before, "output"),
        )  # fmt: skip
        self.runs += 1
        assert usage_correct([Correction(before, after, self.runs)]) == 1
        if again:
            assert usage_correct([Correction(before, after, self.runs)]) == 0
        self.wallets[before.owner_id] += before.cost_picousd - after.cost_picousd
        self.charges[place] = after

    @precondition(lambda self: self.payments)
    @rule(place=st.integers(0, 10**6), part=st.integers(1, 100), again=st.booleans())
    def refund(self, place: int, part: int, again: bool) -> None:
        intent, owner, amount, tax = self.payments[place % len(self.payments)]
        wanted = max(1, (amount + tax) * part // 100)
        before = account_sum("tax")
        for turn in range(1 + again):
            refund = f"re_{self.number(turn)}"
            try:
                booked = payment_refunded(refund_id=refund, intent_id=intent, amount_cents=wanted)
            except BillingError as error:
                assert error.code == "refund_too_large"
                return
            settlement_received(settlement_id=f"t_{refund}", amount_cents=-wanted)
            assert booked is (turn == 0)
        tax_back = before - account_sum("tax")
        self.wallets[owner] -= cents_to_pico(wanted) - tax_back

    @precondition(lambda self: self.payments)
    @rule(place=st.integers(0, 10**6), won=st.booleans(), again=st.booleans())
    def dispute(self, place: int, won: bool, again: bool) -> None:
        intent, owner, amount, tax = self.payments[place % len(self.payments)]
        dispute = f"dp_{self.number()}"
        for turn in range(1 + again):
            opened = dispute_opened(dispute_id=dispute, intent_id=intent, amount_cents=amount + tax)
            assert opened is (turn == 0)
        settlement_received(settlement_id=f"t_{dispute}", amount_cents=-amount - tax)
        assert Dispute.objects.get(id=dispute).amount_cents == amount
        assert account_sum("disputed") == cents_to_pico(amount)
        for turn in range(1 + again):
            assert dispute_closed(dispute_id=dispute, won=won) is (turn == 0)
        if won:
            settlement_received(settlement_id=f"w_{dispute}", amount_cents=amount + tax)
        else:
            self.wallets[owner] -= cents_to_pico(amount)

    @rule()
    def expire(self) -> None:
        due = CreditGrant.objects.filter(expires_at__isnull=False, expired_at=None)
        left = dict.fromkeys(OWNERS, 0)
        for portion in due:
            left[portion.owner_id] += int(portion.remaining_picousd)
        grants_expire(now=utc_now() + timedelta(days=2))
        for owner, amount in left.items():
            self.wallets[owner] -= amount

    # Months in which nothing happened are closed too, but one after another they would be half of every walk.
    @precondition(lambda self: self.month < LAST_MONTH and self.steps > self.closed_step)
    @rule()
    def close_month(self) -> None:
        self.closed_step = self.steps + 1
        for owner in OWNERS:
            month = moment(self.month).date().replace(day=1)
            invoice = invoice_finalise(owner_id=owner, month=month, now=moment(self.month + 1, 10))
            again = invoice_finalise(owner_id=owner, month=month, now=moment(self.month + 1, 11))
            assert (again.id, again.number) == (invoice.id, invoice.number)
            if owner == "org_b":
                self.wallets[owner] += int(invoice.exact_picousd) - int(invoice.covered_picousd)
            else:
                assert invoice.total_cents == 0
        self.month += 1

    @rule(part=st.integers(1, 100))
    def pay_invoice(self, part: int) -> None:
        invoice = Invoice.objects.filter(owner_id="org_b", state="final").first()
        if invoice is None:
            return
        amount = max(1, (invoice.total_cents - invoice.paid_cents) * part // 100)
        intent = f"pi_{self.number()}"
        payment_received(
            intent_id=intent, owner_id="org_b", amount_cents=amount, purpose="invoice", invoice_id=invoice.id
        )
        settlement_received(settlement_id=f"t_{intent}", amount_cents=amount)

    @invariant()
    def wallets_are_the_models(self) -> None:
        if not hasattr(self, "wallets"):
            return
        found = balance_map(owner_ids=OWNERS)
        held = {owner: found[owner].picousd if owner in found else 0 for owner in OWNERS}
        assert held == {owner: self.wallets[owner] for owner in OWNERS}
        self.steps += 1
        if self.steps % PROVED_EVERY == 0:
            self.prove()

    def prove(self) -> None:
        """Every transaction balances, every proof holds, and nothing is left between us and the provider."""
        with connection.cursor() as cursor:
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
            cursor.execute("SET CONSTRAINTS ALL DEFERRED")
        assert books_prove().findings == []
        assert account_sum("stripe_clearing") == 0

    def number(self, turn: int = 0) -> int:
        """A new number, or the last one again."""
        self.serial += turn == 0
        return self.serial


def _quantity(one: UsageCharge, unit: str) -> int:
    return sum(line.quantity for line in one.lines if line.unit == unit)
