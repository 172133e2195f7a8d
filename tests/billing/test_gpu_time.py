"""Charges for GPU time: once per cause, on the invoice with hours and name, apart from requests in every proof."""

from dataclasses import replace
from datetime import timedelta

import pytest

from kindling_billing.documents.invoice import invoice_sheet
from kindling_billing.gpu_hours import HeldPart
from kindling_billing.gpu_time import GpuCharge, gpu_time_charged, gpu_time_post
from kindling_billing.invoicing import invoice_finalise
from kindling_billing.models import CreditGrant, Invoice, LedgerTransaction, Notice, UsageTotal, utc_now
from kindling_billing.proofs import books_prove
from kindling_billing.selectors import (
    balance_get,
    ledger_list_gpu_time,
    ledger_list_usage,
    spendable_map,
)
from kindling_billing.services import credit_grant, usage_post
from kindling_billing.settlements import account_sum
from kindling_billing.takings import takings_over_time
from kindling_billing.terms import terms_set
from kindling_books_rig import MARCH, OWNER, USD, charge, moment

pytestmark = pytest.mark.django_db
HOUR_MS = 3_600_000
# 2.5 dollars an hour, as closely as whole pico-dollars of a millisecond can say it.
PRICE = 694_444


def hour(
    source_id: str, *, ms: int = HOUR_MS, price: int = PRICE, day: int = 15, month: int = 3
) -> GpuCharge:
    return GpuCharge(
        owner_id=OWNER,
        source_id=source_id,
        deployment_id="dep_a",
        label="night-shift",
        used_at=moment(month, day),
        parts=(HeldPart("prc_a", ms, price),),
    )


def newest(owner_id: str, count: int, until: str = "") -> list[str]:
    lines = ledger_list_gpu_time(owner_id=owner_id, newest=count, until=until)
    return [line.transaction.source_id for line in lines]


def grant(amount: int, name: str = "gift") -> None:
    credit_grant(owner_id=OWNER, amount_picousd=amount, source_id=name, memo="", actor_id="")


def test_an_hour_is_charged_once():
    grant(10 * USD)
    assert gpu_time_post([hour("1:a"), hour("1:a")]) == {"1:a"}
    assert gpu_time_post([hour("1:a"), hour("1:b")]) == {"1:b"}
    assert balance_get(owner_id=OWNER).picousd == 10 * USD - 2 * HOUR_MS * PRICE
    assert account_sum("revenue") == 2 * HOUR_MS * PRICE
    posted = LedgerTransaction.objects.get(source_type="gpu_time", source_id="1:a")
    assert posted.memo == "GPU time of night-shift, 2026-03-15 12:00 UTC"
    assert posted.data == {"deployment": "dep_a"}
    total = UsageTotal.objects.get()
    assert (total.sku, total.unit, int(total.quantity)) == ("dep_a", "gpu_ms", 2 * HOUR_MS)


def test_its_lines_are_found_by_owner_and_kind_newest_first():
    grant(10 * USD)
    other = replace(hour("2:a"), owner_id="org_other", deployment_id="dep_b")
    gpu_time_post([hour("1:a"), other])
    usage_post([charge("r1")])
    gpu_time_post([replace(hour("1:b"), deployment_id="dep_c"), hour("1:c")])
    assert newest(OWNER, 9) == ["1:c", "1:b", "1:a"]
    assert newest("org_other", 9) == ["2:a"]
    assert newest("org_nobody", 9) == []
    assert [line.transaction.source_type for line in ledger_list_usage(owner_id=OWNER)] == ["usage"]


def test_the_newest_lines_are_found_up_to_one_without_reading_the_others():
    grant(100 * USD)
    # Two deployments by turns, so that the newest of both stand among each other.
    for number in range(12):
        gpu_time_post([replace(hour(f"1:{number:02}"), deployment_id=f"dep_{number % 2}")])
    assert newest(OWNER, 3) == ["1:11", "1:10", "1:09"]
    until = LedgerTransaction.objects.get(source_id="1:05").id
    assert newest(OWNER, 4, until) == ["1:05", "1:04", "1:03", "1:02"]
    assert newest(OWNER, 99, until) == [f"1:{number:02}" for number in range(5, -1, -1)]


def test_lines_of_one_posting_stand_in_the_order_of_its_hours():
    grant(100 * USD)
    gpu_time_post([hour(f"1:{number:02}") for number in range(20)])
    assert newest(OWNER, 99) == [f"1:{number:02}" for number in range(19, -1, -1)]


def test_it_burns_credit_in_the_order_in_which_requests_do():
    grant(USD)
    grant(5 * USD, "second")
    gpu_time_post([hour("1:a")])
    left = CreditGrant.objects.order_by("created_at").values_list("remaining_picousd", flat=True)
    assert [int(one) for one in left] == [0, 6 * USD - HOUR_MS * PRICE]
    assert books_prove().sound


def test_a_low_balance_is_told_of():
    terms_set(owner_id=OWNER, low_balance_picousd=USD)
    grant(3 * USD)
    gpu_time_post([hour("1:a")])
    assert Notice.objects.get(kind="balance.low").owner_id == OWNER


def test_a_postpaid_invoice_says_hours_and_the_deployment():
    terms_set(owner_id=OWNER, mode="postpaid", credit_limit_picousd=50 * USD)
    gpu_time_post([hour("1:a"), hour("1:b", ms=HOUR_MS // 2), hour("1:c", month=4, day=2)])
    usage_post([charge("r1")])
    left = spendable_map(owner_ids=[OWNER])[OWNER].picousd
    assert left == 50 * USD - HOUR_MS * PRICE * 5 // 2 - charge("r1").cost_picousd
    invoice = invoice_finalise(owner_id=OWNER, month=MARCH, now=moment(4, 10))
    sheet = invoice_sheet(invoice, list(invoice.lines.order_by("position")), seller="Us")
    assert ("night-shift: GPU time", "1.5000 hours", "$2.4999984 per hour", "$3.75") in sheet.rows
    assert int(invoice.exact_picousd) == HOUR_MS * PRICE * 3 // 2 + charge("r1").cost_picousd
    assert books_prove().sound


def test_an_hour_that_comes_late_is_on_the_next_invoice():
    terms_set(owner_id=OWNER, mode="postpaid", credit_limit_picousd=50 * USD)
    gpu_time_post([hour("1:a")])
    invoice_finalise(owner_id=OWNER, month=MARCH, now=moment(4, 10))
    gpu_time_post([hour("1:b")])
    late = UsageTotal.objects.get(billed_month="2026-04-01")
    assert (late.used_month, int(late.quantity)) == (MARCH, HOUR_MS)
    assert Invoice.objects.count() == 1
    assert books_prove().sound


def test_it_is_among_the_takings():
    gpu_time_post([hour("1:a")])
    day = takings_over_time(start=moment(1, 1), end=moment(12, 31).replace(year=2030), step="day")
    assert [one.gpu_time for one in day.values()] == [HOUR_MS * PRICE]
    spans = ((-1, 1), (-3, -2))
    charged = [
        gpu_time_charged(start=utc_now() + timedelta(days=since), end=utc_now() + timedelta(days=until))
        for since, until in spans
    ]
    assert charged == [{OWNER: HOUR_MS * PRICE}, {}]


def test_each_kind_of_months_totals_is_proved_by_itself():
    gpu_time_post([hour("1:a")])
    usage_post([charge("r1", prompt=10, made=0)])
    assert books_prove().sound
    # As much as one gained the other lost: only together do they still sum up.
    UsageTotal.objects.filter(unit="gpu_ms").update(amount_picousd=HOUR_MS * PRICE - 5)
    UsageTotal.objects.filter(unit="prompt").update(
        amount_picousd=charge("r1", prompt=10, made=0).cost_picousd + 5
    )
    found = {one["check"] for one in books_prove().findings}
    assert found == {"months' totals are the ledger's usage", "months' GPU time is the ledger's"}
