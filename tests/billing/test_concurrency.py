"""Many who post at the same moment: one cause posts once, balances stay sums, nobody deadlocks."""

import random
import threading
from collections.abc import Callable

import pytest
from django.db import connections

from kindling_billing.ledger import Posting, postings_post
from kindling_billing.models import LedgerAccount, LedgerTransaction
from kindling_billing.selectors import balance_get, drift_list, ledger_sum
from kindling_billing.services import UsageCharge, credit_grant, usage_post

pytestmark = pytest.mark.django_db(transaction=True)


def together(*works: Callable[[], None]) -> list[BaseException]:
    """Run all at once; gives what went wrong."""
    troubles: list[BaseException] = []
    gate = threading.Barrier(len(works))

    def run(work: Callable[[], None]) -> None:
        try:
            gate.wait(60)
            work()
        except BaseException as error:
            troubles.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return troubles


def test_one_cause_posted_by_eight_at_once_posts_once():
    posted: list[object] = []

    def grant() -> None:
        made = credit_grant(owner_id="org_a", amount_picousd=500, source_id="one", memo="", actor_id="")
        if made:
            posted.append(made)

    assert together(*[grant] * 8) == []
    assert len(posted) == 1
    assert balance_get(owner_id="org_a").picousd == 500
    assert LedgerTransaction.objects.count() == 1
    assert ledger_sum() == 0


def test_batches_in_any_order_neither_deadlock_nor_lose_money():
    owners = [f"org_{number}" for number in range(6)]
    charges = [UsageCharge(owners[n % 6], f"request-{n}", n) for n in range(200)]

    def post(seed: int) -> Callable[[], None]:
        def work() -> None:
            order = charges[:]
            random.Random(seed).shuffle(order)
            for start in range(0, len(order), 25):
                usage_post(order[start : start + 25])

        return work

    assert together(*[post(seed) for seed in range(4)]) == []
    for owner in owners:
        expected = sum(charge.cost_picousd for charge in charges if charge.owner_id == owner)
        assert balance_get(owner_id=owner).picousd == -expected
    assert LedgerTransaction.objects.count() == 200
    assert (ledger_sum(), drift_list()) == (0, [])


def test_versions_grow_with_every_posting_and_never_repeat():
    seen: list[int] = []
    lock = threading.Lock()

    def post(number: int) -> Callable[[], None]:
        def work() -> None:
            for turn in range(10):
                entries = [("wallet", "org_a", 1), ("promo", "", -1)]
                postings_post([Posting("test", f"{number}-{turn}", entries)])
                with lock:
                    seen.append(balance_get(owner_id="org_a").version)

        return work

    assert together(*[post(number) for number in range(4)]) == []
    assert LedgerAccount.objects.get(kind="wallet").version == 40
    assert max(seen) == 40
