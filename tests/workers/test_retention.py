"""What is old is deleted in steps, never what an invoice or a run still needs, and the books prove all the while."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from django.db import DatabaseError, connection, transaction

from kindling_billing.invoicing import invoice_finalise
from kindling_billing.models import LedgerTransaction, StripeEvent
from kindling_billing.models.prices import Rerating
from kindling_billing.selectors import balance_get
from kindling_people import make_customer
from kindling_platform.accounts.invitations import invitation_create, invitation_withdraw
from kindling_platform.accounts.models import Invitation
from kindling_platform.audit.models import AuditEvent
from kindling_platform.audit.retention import audit_purge
from kindling_platform.audit.services import audit_record
from kindling_platform.common.actors import SYSTEM
from kindling_platform.common.clock import now
from kindling_platform.common.errors import KindlingError
from kindling_platform.deployments.models import DeploymentEvent
from kindling_platform.deployments.proofs import platform_prove
from kindling_platform.usage.models import RetiredUsage, UsageCursor, UsageEvent
from kindling_platform.usage.rerating import rerating_start
from kindling_platform.usage.retention import usage_retire
from kindling_platform.usage.services import usage_ingest
from kindling_rows import RECORD_COST_PICOUSD, Shop, make_shop
from kindling_workers.retention import Swept, retention_sweep

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def kept_for_days(settings) -> None:
    settings.KINDLING_ENV = replace(
        settings.KINDLING_ENV, keep_requests_days=70, keep_audit_days=100, keep_events_days=90
    )


def used(shop: Shop, *days_ago: int):
    """Records of requests that many days ago."""
    times = [int((now() - timedelta(days=days)).timestamp() * 1000) for days in days_ago]
    return [shop.record(started_ms=at, first_token_ms=at, finished_ms=at) for at in times]


def book(shop: Shop, records, *, after: int = 0) -> int:
    end = after + len(records)
    return usage_ingest(
        source=shop.replica, log_id="log", after=after, records=records, next_offset=end
    ).inserted


def invoice(shop: Shop, *, months_back: int) -> None:
    month = now().astimezone(UTC).date().replace(day=1)
    for _ in range(months_back):
        month = (month - timedelta(days=1)).replace(day=1)
    invoice_finalise(owner_id=shop.org.id, month=month, now=datetime(2100, 1, 1, tzinfo=UTC))


def test_requests_go_when_their_invoice_is_final_and_their_cost_stays():
    shop = make_shop()
    book(shop, used(shop, 200, 200, 190, 1))
    before = balance_get(owner_id=shop.org.id)
    assert usage_retire().requests == 0  # no month is on an invoice yet
    invoice(shop, months_back=1)
    assert usage_retire().requests == 3
    assert UsageEvent.objects.count() == 1
    assert sum(row.requests for row in RetiredUsage.objects.all()) == 3
    assert sum(int(row.cost_picousd) for row in RetiredUsage.objects.all()) == 3 * RECORD_COST_PICOUSD
    assert balance_get(owner_id=shop.org.id) == before
    assert platform_prove().findings == []
    assert usage_retire().requests == 0


def test_what_came_late_stays_until_the_invoice_that_it_is_on_is_final():
    shop = make_shop()
    book(shop, used(shop, 200))
    invoice(shop, months_back=5)
    book(shop, used(shop, 200), after=1)
    assert usage_retire().requests == 0
    invoice(shop, months_back=1)
    assert usage_retire().requests == 2


def test_a_span_of_deleted_requests_is_not_rated_anew():
    shop, between = make_shop(), now() - timedelta(days=150)
    book(shop, used(shop, 200, 1))
    invoice(shop, months_back=1)
    assert usage_retire().requests == 1

    def start(days_ago: int, owner_id: str = "") -> Rerating:
        span = {"start": now() - timedelta(days=days_ago), "end": between if days_ago > 150 else now()}
        return rerating_start(sku=shop.model.id, reason="A mistake", actor=SYSTEM, owner_id=owner_id, **span)

    for owner_id in ("", shop.org.id):
        with pytest.raises(KindlingError) as refused:
            start(201, owner_id)
        assert (refused.value.code, refused.value.status) == ("span_not_kept", 409)
    assert not Rerating.objects.exists()
    assert start(201, "org_other").owner_id == "org_other"  # of whom nothing was deleted
    assert start(100).done_at is None


def test_a_log_that_is_read_again_brings_nothing_back():
    shop = make_shop()
    records = used(shop, 200, 1)
    book(shop, records)
    invoice(shop, months_back=1)
    assert usage_retire().requests == 1
    UsageCursor.objects.all().delete()
    assert book(shop, records) == 0
    assert UsageEvent.objects.count() == 1
    assert LedgerTransaction.objects.filter(source_type="usage").count() == 2
    assert platform_prove().findings == []


def test_steps_are_bounded_and_a_run_goes_on_where_the_last_one_ended():
    shop, other = make_shop(), make_shop()
    for one in (shop, other):
        book(one, used(one, *[100] * 4))
        invoice(one, months_back=1)
    assert (usage_retire(most=3).requests, usage_retire(most=3).more) == (3, True)
    assert usage_retire(most=3).requests == 2
    assert sum(row.requests for row in RetiredUsage.objects.all()) == 8


def test_a_step_deletes_no_more_than_it_may_whatever_the_plan():
    shop = make_shop()
    book(shop, used(shop, *[100] * 4))
    invoice(shop, months_back=1)
    for _ in range(4):
        aged(audit_record(actor=SYSTEM, action="test.done", target="old"), 200)
    with connection.cursor() as cursor:
        # What is left is a loop over the table, which would ask anew for each row what is old.
        for plan in ("hashjoin", "mergejoin", "material", "hashagg", "sort", "memoize"):
            cursor.execute(f"SET LOCAL enable_{plan} = off")
    assert usage_retire(most=3).requests == 3
    assert audit_purge(limit=3) == 3
    assert (UsageEvent.objects.count(), AuditEvent.objects.filter(target="old").count()) == (1, 1)


def test_nothing_goes_while_a_run_rates_anew_or_where_requests_are_kept_for_ever(settings):
    shop = make_shop()
    book(shop, used(shop, 200))
    invoice(shop, months_back=1)
    run = rerating_start(
        sku=shop.model.id, start=now() - timedelta(days=300), end=now(), reason="A slip", actor=SYSTEM
    )
    assert usage_retire().requests == 0
    run.done_at = now()
    run.save()
    settings.KINDLING_ENV = replace(settings.KINDLING_ENV, keep_requests_days=0)
    assert usage_retire().requests == 0


def test_the_audit_log_loses_its_beginning_by_that_one_way_alone():
    old, middle, new = (
        audit_record(actor=SYSTEM, action="test.done", target=name) for name in ("old", "middle", "new")
    )
    aged(old, 200)
    aged(middle, 95)
    assert audit_purge() == 1
    assert set(AuditEvent.objects.values_list("target", flat=True)) >= {"middle", "new"}
    for kept_from in ("", (now() + timedelta(days=1)).isoformat()):
        with pytest.raises(DatabaseError), transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT set_config('kindling.audit_kept_from', %s, true)", [kept_from])
            cursor.execute("DELETE FROM audit_auditevent WHERE id = %s", [new.id])


def aged(event: AuditEvent, days: int) -> None:
    """Make an event older than it is, which no way of the product's can."""
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE audit_auditevent DISABLE TRIGGER audit_auditevent_rows_stay")
        cursor.execute(
            "UPDATE audit_auditevent SET created_at = now() - make_interval(days => %s) WHERE id = %s",
            [days, event.id],
        )
        cursor.execute("ALTER TABLE audit_auditevent ENABLE TRIGGER audit_auditevent_rows_stay")


def test_events_of_the_provider_are_forgotten_but_for_parked_ones():
    old, young = now() - timedelta(days=91), now() - timedelta(days=1)
    for name, state, heard in (("a", "applied", old), ("b", "parked", old), ("c", "applied", young)):
        StripeEvent.objects.create(id=name, type="x", state=state, happened_at=heard, heard_at=heard)
    assert retention_sweep() == Swept(requests=0, audit=0, events=1, invitations=0, happenings=0)
    assert set(StripeEvent.objects.values_list("id", flat=True)) == {"b", "c"}
    assert retention_sweep() == Swept(requests=0, audit=0, events=0, invitations=0, happenings=0)


def test_what_happened_to_deployments_goes_after_ninety_days():
    shop = make_shop()
    for kind, days in (("old", 91), ("older", 400), ("young", 89)):
        made = DeploymentEvent.objects.create(deployment=shop.deployment, kind=kind, message=kind)
        DeploymentEvent.objects.filter(id=made.id).update(created_at=now() - timedelta(days=days))
    assert retention_sweep() == Swept(requests=0, audit=0, events=0, invitations=0, happenings=2)
    assert "young" in DeploymentEvent.objects.values_list("kind", flat=True)
    assert not DeploymentEvent.objects.filter(kind__startswith="old").exists()


def test_invitations_go_long_after_they_have_expired():
    inviter = make_customer("ada")
    for name in ("old", "withdrawn", "young"):
        invitation_create(org=inviter.org, email=f"{name}@example.com", role="developer", actor=inviter.actor)
    made = {one.email.partition("@")[0]: one for one in Invitation.objects.all()}
    invitation_withdraw(org=inviter.org, invitation_id=made["withdrawn"].id, actor=inviter.actor)
    for name in ("old", "withdrawn"):
        Invitation.objects.filter(id=made[name].id).update(expires_at=now() - timedelta(days=31))
    assert retention_sweep() == Swept(requests=0, audit=0, events=0, invitations=2, happenings=0)
    assert list(Invitation.objects.values_list("id", flat=True)) == [made["young"].id]
    assert AuditEvent.objects.filter(action="invitation.created").count() == 3
