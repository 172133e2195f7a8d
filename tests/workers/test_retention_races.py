"""Deleting what is old against runs that rate anew: whoever comes second waits, and sees what the first has done."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection, transaction

from kindling_billing.invoicing import invoice_finalise
from kindling_billing.models.prices import Rerating
from kindling_platform.common.actors import SYSTEM
from kindling_platform.common.clock import now
from kindling_platform.common.errors import KindlingError
from kindling_platform.usage import retention
from kindling_platform.usage.models import RetiredUsage, UsageEvent
from kindling_platform.usage.rerating import rerating_start, rerating_step
from kindling_platform.usage.retention import usage_retire
from kindling_platform.usage.services import usage_ingest
from kindling_rows import Shop, make_shop

pytestmark = pytest.mark.django_db(transaction=True)
OLD = 200
WAIT_S = 60


@pytest.fixture(autouse=True)
def kept_for_days(settings) -> None:
    settings.KINDLING_ENV = replace(settings.KINDLING_ENV, keep_requests_days=70)


@pytest.fixture
def shop() -> Shop:
    """With four requests that are old enough, on an invoice that is final."""
    shop = make_shop()
    at = int((now() - timedelta(days=OLD)).timestamp() * 1000)
    records = [shop.record(started_ms=at, first_token_ms=at, finished_ms=at) for _ in range(4)]
    usage_ingest(source=shop.replica, log_id="log", after=0, records=records, next_offset=4)
    month = (now().astimezone(UTC).date().replace(day=1) - timedelta(days=1)).replace(day=1)
    invoice_finalise(owner_id=shop.org.id, month=month, now=datetime(2100, 1, 1, tzinfo=UTC))
    return shop


@pytest.fixture
def beside() -> Iterator[Callable[[Callable[[], object]], list[object]]]:
    """Does something on a connection of its own; gives the list that its answer or refusal will be in."""
    threads: list[threading.Thread] = []

    def begin(work: Callable[[], object]) -> list[object]:
        answers: list[object] = []

        def run() -> None:
            try:
                answers.append(work())
            except KindlingError as error:
                answers.append(error.code)
            finally:
                connection.close()

        threads.append(threading.Thread(target=run))
        threads[-1].start()
        return answers

    yield begin
    for thread in threads:
        thread.join(timeout=WAIT_S)
        assert not thread.is_alive()


def rate_anew(shop: Shop) -> Rerating:
    span = {"start": now() - timedelta(days=OLD + 1), "end": now()}
    return rerating_start(sku=shop.model.id, reason="A mistake", actor=SYSTEM, **span)


def until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT_S
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.01)


def somebody_waits() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
        return cursor.fetchone() == (1,)


def test_nothing_is_deleted_under_a_run_that_is_being_begun(shop: Shop, beside):
    with transaction.atomic():
        run = rate_anew(shop)
        deleted = beside(usage_retire)
        until(somebody_waits)
    until(lambda: bool(deleted))
    assert deleted[0].requests == 0
    while rerating_step(run_id=run.id, limit=2):
        assert usage_retire().requests == 0
    run.refresh_from_db()
    assert (run.seen, UsageEvent.objects.count()) == (4, 4)
    assert usage_retire().requests == 4


def test_no_run_begins_over_what_is_being_deleted(shop: Shop, beside):
    with transaction.atomic():
        assert retention._step(shop.org.id, now(), 2) == 2
        refused = beside(lambda: rate_anew(shop))
        until(somebody_waits)
    until(lambda: bool(refused))
    assert refused == ["span_not_kept"]
    assert not Rerating.objects.exists()
    assert usage_retire().requests == 2


def test_a_run_that_is_begun_between_two_steps_ends_the_deleting(shop: Shop, monkeypatch):
    step = retention._step

    def one_then_a_run(owner_id: str, before: datetime, limit: int) -> int:
        deleted = step(owner_id, before, 1)
        Rerating.objects.create(
            sku="of-another-model", start=now() - timedelta(days=1), end=now(), reason="A mistake"
        )
        return deleted

    monkeypatch.setattr(retention, "_step", one_then_a_run)
    assert usage_retire().requests == 1
    assert sum(row.requests for row in RetiredUsage.objects.all()) == 1


def test_both_at_once_again_and_again(shop: Shop, beside, monkeypatch):
    monkeypatch.setattr(retention, "STEP_ROWS", 1)
    start = threading.Barrier(2)

    def begin_a_run() -> int:
        start.wait(timeout=WAIT_S)
        return rate_anew(shop).id

    def delete() -> int:
        start.wait(timeout=WAIT_S)
        return usage_retire(most=4).requests

    begun, deleted = beside(begin_a_run), beside(delete)
    until(lambda: bool(begun and deleted))
    if begun == ["span_not_kept"]:
        assert deleted[0] > 0
    else:
        assert (deleted, UsageEvent.objects.count()) == ([0], 4)
