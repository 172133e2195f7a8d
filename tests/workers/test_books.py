"""The books by themselves: months become invoices, credit expires, a wrong clock stops deadlines, failures are seen."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from structlog.testing import capture_logs

from kindling_billing import clocks
from kindling_billing.models import CreditGrant, Invoice, Notice, Proof
from kindling_billing.selectors import balance_get
from kindling_billing.services import credit_grant, price_publish
from kindling_platform.common.actors import SYSTEM
from kindling_platform.common.clock import now
from kindling_platform.usage.models import UsageEvent
from kindling_platform.usage.rerating import rerating_list_open, rerating_start
from kindling_platform.usage.services import usage_ingest
from kindling_rows import DOLLAR, RECORD_COST_PICOUSD, Shop, make_shop
from kindling_workers import books, jumps

pytestmark = pytest.mark.django_db
MARCH = int(datetime(2026, 3, 20, tzinfo=UTC).timestamp() * 1000)


def ingest(shop: Shop, *times_ms: int) -> None:
    records = [
        shop.record(started_ms=time_ms, first_token_ms=time_ms, finished_ms=time_ms) for time_ms in times_ms
    ]
    usage_ingest(source=shop.replica, log_id="log", after=0, records=records, next_offset=len(records))


def test_an_ended_month_is_a_draft_then_final_once():
    shop = make_shop()
    ingest(shop, MARCH, MARCH)
    early, late = datetime(2026, 4, 1, 6, tzinfo=UTC), datetime(2026, 4, 3, tzinfo=UTC)
    assert books.invoices_make(moment=early).drafts == 1
    assert Invoice.objects.get().state == "draft"
    assert books.invoices_make(moment=late).final == 1
    assert books.invoices_make(moment=late) == books.Invoiced()
    invoice = Invoice.objects.get()
    assert (invoice.exact_picousd, invoice.name) == (2 * RECORD_COST_PICOUSD, "2026-000001")
    assert books.books_check().sound


def test_credit_ends_after_its_day_and_what_was_burnt_stays_burnt():
    shop = make_shop()
    expires = now() + timedelta(hours=1)
    credit_grant(
        owner_id=shop.org.id, amount_picousd=DOLLAR, source_id="x", memo="", actor_id="", expires_at=expires
    )
    ingest(shop, MARCH)
    assert books.credit_expire() == 0
    CreditGrant.objects.filter(source_id="x").update(expires_at=now() - timedelta(minutes=6))
    assert [books.credit_expire(), books.credit_expire()] == [1, 0]
    # The expiring dollar was burnt first, so all but the request's cost ended.
    assert balance_get(owner_id=shop.org.id).picousd == DOLLAR
    assert books.books_check().sound


def test_a_clock_that_is_wrong_stops_deadlines(monkeypatch: pytest.MonkeyPatch):
    assert books.deadlines_hold()
    monkeypatch.setattr(clocks, "utc_now", lambda: datetime.now(UTC) + timedelta(days=40))
    assert not books.deadlines_hold()
    monkeypatch.setattr(clocks, "utc_now", lambda: datetime.now(UTC) - timedelta(days=40))
    assert not books.deadlines_hold()


def test_a_clock_that_jumped_with_the_databases_is_believed_after_a_while(monkeypatch: pytest.MonkeyPatch):
    passed = [500.0]
    monkeypatch.setattr(jumps, "time", SimpleNamespace(monotonic=lambda: passed[0]))
    monkeypatch.setattr(books, "jump", jumps.Jump())
    assert books.deadlines_hold(), "a new installation has no ledger"
    ingest(make_shop(), MARCH)
    assert books.deadlines_hold()
    monkeypatch.setattr(jumps, "now", lambda: now() + timedelta(days=4))
    assert not books.deadlines_hold()
    with monkeypatch.context() as mended:
        mended.setattr(jumps, "now", now)
        assert books.deadlines_hold()
    assert not books.deadlines_hold()
    passed[0] += jumps.BELIEVED_AFTER_S
    assert books.deadlines_hold(), "it was off for long"


def test_books_that_do_not_hold_are_kept_logged_and_noted():
    shop = make_shop()
    ingest(shop, MARCH)
    UsageEvent.objects.update(cost_picousd=1)
    with capture_logs() as logs:
        proof = books.books_check()
    assert not proof.sound
    assert [line["event"] for line in logs if line["log_level"] == "error"] == ["books.unsound"]
    assert Proof.objects.get(id=proof.id).findings
    assert Notice.objects.get(kind="books.unsound").data["findings"] == len(proof.findings)


def test_a_run_of_rating_anew_goes_on_until_it_is_through():
    shop = make_shop()
    ingest(shop, *[MARCH] * 3)
    moment = datetime.fromtimestamp(MARCH / 1000, UTC)
    price_publish(
        sku=shop.model.id, input_picousd=0, cached_input_picousd=0, output_picousd=0, valid_from=moment
    )
    rerating_start(
        sku=shop.model.id, start=moment, end=moment + timedelta(days=1), reason="A gift", actor=SYSTEM
    )
    assert [books.rerating_run(), books.rerating_run()] == [1, 0]
    assert (balance_get(owner_id=shop.org.id).picousd, rerating_list_open()) == (DOLLAR, [])
    assert books.books_check().sound
