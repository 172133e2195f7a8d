"""Webhooks: which events are written with what they tell of, secrets and signatures, tries on a clock that is held."""

from datetime import timedelta
from typing import Any

import openai
import pytest
from django.db import transaction

from kindling_billing.budgets import Spent
from kindling_billing.models import Notice
from kindling_billing.notices import notice_add
from kindling_billing.payment_selectors import payment_list
from kindling_billing.payments import payment_received
from kindling_hooks import deliveries, hook
from kindling_people import Customer, make_customer, make_model
from kindling_platform.accounts.letters import letter_of, recipient_map
from kindling_platform.adapters.models import Adapter
from kindling_platform.adapters.services import adapter_validation_store
from kindling_platform.audit.models import AuditEvent
from kindling_platform.batches.models import Batch
from kindling_platform.common import clock, leases
from kindling_platform.common.errors import KindlingError
from kindling_platform.departures.steps import webhooks_forget
from kindling_platform.deployments.models import Deployment
from kindling_platform.deployments.services import deployment_apply, deployment_lease
from kindling_platform.hooks import ending, outbox, secret, services
from kindling_platform.hooks.batches import batch_events_write
from kindling_platform.hooks.kinds import KINDS
from kindling_platform.hooks.models import Delivery, Endpoint, Event
from kindling_platform.hooks.outbox import AGAIN_AFTER, Attempt, Outcome, attempt_begin, attempt_settle
from kindling_platform.hooks.services import Wanted
from kindling_platform.keys.alerts import alerts_note
from kindling_platform.keys.models import LimitSet
from kindling_platform.keys.playground import playground_key_make
from kindling_platform.keys.services import key_create, key_revoke
from kindling_stored_batches import stored_batch

pytestmark = pytest.mark.django_db


class Clock:
    """The time, as everything in `hooks` sees it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.at = clock.now()
        for module in ("outbox", "services", "ending", "writing", "batches"):
            monkeypatch.setattr(f"kindling_platform.hooks.{module}.now", lambda: self.at)
        monkeypatch.setattr("kindling_platform.common.leases.now", lambda: self.at)

    def on(self, **time: float) -> None:
        self.at += timedelta(**time)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def told(owner: Customer) -> list[tuple[str, dict[str, Any]]]:
    return [(row.type, row.data) for row in Event.objects.for_org(owner.org).order_by("created_at", "id")]


def begun(endpoint: Endpoint) -> Attempt:
    found = attempt_begin(delivery_id=deliveries(endpoint)[-1].id)
    assert found
    return found


def settled(attempt: Attempt, **outcome: Any) -> Delivery:
    assert attempt_settle(delivery_id=attempt.delivery_id, token=attempt.token, outcome=Outcome(**outcome))
    return Delivery.objects.select_related("endpoint").get(id=attempt.delivery_id)


def verified(attempt: Attempt, text: str) -> bool:
    client = openai.OpenAI(api_key="none")
    try:
        client.webhooks.verify_signature(attempt.body, attempt.headers, secret=text)
    except openai.InvalidWebhookSignatureError:
        return False
    return True


def test_an_event_is_written_with_its_cause_or_not_at_all(ada: Customer):
    endpoint, _ = hook(ada)
    with pytest.raises(RuntimeError), transaction.atomic():
        key_create(org=ada.org, name="never", scopes=["read"], actor=ada.actor)
        raise RuntimeError
    key, text = key_create(org=ada.org, name="ci", scopes=["read"], actor=ada.actor)
    key_revoke(org=ada.org, key_id=key.id, actor=ada.actor)
    # Those that the console makes for itself concern nobody.
    playground_key_make(org=ada.org, user=ada.user, lifetime=timedelta(hours=1), actor=ada.actor)
    said = {"id": key.id, "name": "ci", "scopes": ["read"]}
    assert told(ada) == [("key.created", said), ("key.revoked", said)]
    assert [row.state for row in deliveries(endpoint)] == ["waiting", "waiting"]
    assert text not in str(told(ada))


def test_only_what_is_wanted_is_written_and_only_for_whom_it_concerns(ada: Customer, bob: Customer):
    chosen, _ = hook(ada, events=["key.revoked"])
    off, _ = hook(ada, enabled=False)
    theirs, _ = hook(bob)
    key, _ = key_create(org=ada.org, name="ci", scopes=["read"], actor=ada.actor)
    assert told(ada) == told(bob) == []
    key_revoke(org=ada.org, key_id=key.id, actor=ada.actor)
    assert [kind for kind, _ in told(ada)] == ["key.revoked"] and told(bob) == []
    assert (len(deliveries(chosen)), deliveries(off), deliveries(theirs)) == (1, [], [])


def test_states_of_adapters_deployments_and_money(ada: Customer, operator: Customer):
    hook(ada)
    model = make_model(operator)
    row = Adapter.objects.create(organisation=ada.org, base=model, name="mine", state="validating")
    token, org_id = leases.lease_take(Adapter.objects, pk=row.id, ttl_s=5), ada.org.id
    assert token
    refused = {"error_code": "rank", "error": "The rank is 0."}
    assert adapter_validation_store(adapter_id=row.id, token=token, report={}, **refused)
    run = Deployment.objects.create(organisation=ada.org, model=model, name="d")
    for state in ("starting", "live", "live", "degraded"):
        token = deployment_lease(deployment_id=run.id, ttl_s=5)
        assert token and deployment_apply(deployment_id=run.id, token=token, state=state, reason="")
    payment_received(intent_id="pi_1", owner_id=org_id, amount_cents=500)
    paid = payment_list(owner_id=org_id).get()
    limits = LimitSet.objects.create(organisation=ada.org, budget_month_picousd=10**13, alert_percents=[80])
    spent = Spent(day_picousd=0, month_picousd=8 * 10**12, total_picousd=0, version=1)
    assert alerts_note(limits=limits, spent=spent, moment=clock.now())
    low = {"balance_picousd": str(10**12), "threshold_picousd": str(5 * 10**12)}
    for _ in range(2):
        notice_add(kind="balance.low", key="once", owner_id=org_id, data=low)
    assert told(ada) == [
        ("adapter.rejected", {
            "id": row.id, "name": "mine", "state": "rejected",
            "reasons": [{"code": "rank", "message": "The rank is 0."}],
        }),
        ("deployment.live", {"id": run.id, "name": "d", "state": "live", "reason": ""}),
        ("deployment.degraded", {"id": run.id, "name": "d", "state": "degraded", "reason": ""}),
        ("payment.succeeded", {"id": paid.id, "amount_cents": "500", "state": "succeeded"}),
        ("budget.alert", {"id": org_id, "spent_usd": "8.00", "period": f"{clock.now():%Y%m}", "percent": 80}),
        ("balance.low", {"organisation_id": org_id, "balance_usd": "1.00", "threshold_usd": "5.00"}),
    ]  # fmt: skip
    assert {kind for kind, _ in told(ada)} <= KINDS.keys()


def test_a_batch_that_has_ended_is_told_of_once(ada: Customer, bob: Customer, held: Clock):
    before = stored_batch(ada.org)
    Batch.objects.filter(id=before.id).update(status="completed", ended_at=held.at - timedelta(minutes=1))
    endpoint, _ = hook(ada)
    batch, theirs = stored_batch(ada.org), stored_batch(bob.org)
    ended = {
        "status": "failed",
        "ended_at": held.at + timedelta(seconds=1),
        "total": 3,
        "completed": 1,
        "failed": 2,
    }
    Batch.objects.filter(id__in=[batch.id, theirs.id]).update(**ended)
    held.on(seconds=5)
    assert [batch_events_write(), batch_events_write()] == [1, 0]
    ((kind, data),) = told(ada)
    assert (kind, data["id"], data["status"]) == ("batch.failed", batch.id, "failed")
    assert data["request_counts"] == {"total": 3, "completed": 1, "failed": 2}
    assert len(deliveries(endpoint)) == 1 and told(bob) == []


def test_an_independent_library_verifies_what_is_signed(ada: Customer):
    endpoint, text = hook(ada)
    services.endpoint_test(org=ada.org, endpoint_id=endpoint.id, actor=ada.actor)
    attempt = begun(endpoint)
    event = openai.OpenAI(api_key="none").webhooks.unwrap(attempt.body, attempt.headers, secret=text)
    assert (event.id, event.type) == (attempt.headers["webhook-id"], "webhook.test")
    assert not verified(attempt, secret.secret_make())
    changed = Attempt(attempt.delivery_id, attempt.token, attempt.url, attempt.body + b" ", attempt.headers)
    assert not verified(changed, text)
    # At rest and in what is logged there is nothing of it, and nothing of the address but its host.
    row = Endpoint.objects.get(id=endpoint.id)
    assert text.encode() not in bytes(row.secret_sealed) and text not in repr(attempt)
    said = str(list(AuditEvent.objects.filter(target=endpoint.id).values_list("data", flat=True)))
    assert text not in said and "/in" not in said and "hooks.example.com" in said


def test_for_a_day_both_secrets_sign(ada: Customer, held: Clock):
    endpoint, old = hook(ada)
    _, new = services.endpoint_rotate(org=ada.org, endpoint_id=endpoint.id, actor=ada.actor)
    with pytest.raises(KindlingError, match="Rotate again after that") as refused:
        services.endpoint_rotate(org=ada.org, endpoint_id=endpoint.id, actor=ada.actor)
    assert refused.value.code == "webhook_rotated"
    services.endpoint_test(org=ada.org, endpoint_id=endpoint.id, actor=ada.actor)
    attempt = begun(endpoint)
    assert verified(attempt, old) and verified(attempt, new)
    assert settled(attempt, status_code=500).state == "waiting"
    held.at = clock.now() + timedelta(hours=24, seconds=1)
    attempt = begun(endpoint)
    timestamp = int(attempt.headers["webhook-timestamp"])
    expected = secret.signature(
        new, event_id=attempt.headers["webhook-id"], timestamp=timestamp, body=attempt.body
    )
    assert attempt.headers["webhook-signature"] == expected
    assert services.endpoint_secret_show(org=ada.org, endpoint_id=endpoint.id, actor=ada.actor)[1] == new


def test_it_is_tried_again_and_given_up(ada: Customer, held: Clock):
    endpoint, _ = hook(ada)
    services.endpoint_test(org=ada.org, endpoint_id=endpoint.id, actor=ada.actor)
    ids, waits = [], []
    while deliveries(endpoint)[0].state == "waiting":
        attempt = begun(endpoint)
        # Nobody else sends it meanwhile, and before its time nobody does.
        assert attempt_begin(delivery_id=attempt.delivery_id) is None
        ids.append((attempt.headers["webhook-id"], attempt.body))
        row = settled(attempt, status_code=503, answer="busy\0")
        if row.state == "waiting":
            waits.append(row.due_at - held.at)
            assert attempt_begin(delivery_id=row.id) is None and outbox.delivery_list_due() == []
            held.at = row.due_at
    assert waits == list(AGAIN_AFTER) and len(set(ids)) == 1 and len(ids) == 9
    assert (row.state, row.attempts, row.status_code, row.answer) == ("failed", 9, 503, "busy")
    # By hand it goes again, under the same id.
    held.on(minutes=2)
    services.delivery_again(org=ada.org, endpoint_id=endpoint.id, delivery_id=row.id, actor=ada.actor)
    attempt = begun(endpoint)
    assert (attempt.headers["webhook-id"], attempt.body) == ids[0]
    assert settled(attempt, status_code=204).state == "delivered"
    assert Endpoint.objects.get(id=endpoint.id).failing_since is None


def test_whoever_dies_between_sending_and_settling_leaves_it_to_the_next(ada: Customer, held: Clock):
    endpoint, _ = hook(ada)
    services.endpoint_test(org=ada.org, endpoint_id=endpoint.id, actor=ada.actor)
    lost = begun(endpoint)
    assert outbox.delivery_list_due() == []
    held.on(seconds=outbox.LEASE_S + 1)
    assert [due.delivery_id for due in outbox.delivery_list_due()] == [lost.delivery_id]
    again = begun(endpoint)
    assert again.headers["webhook-id"] == lost.headers["webhook-id"] and again.body == lost.body
    # The first one comes to life: its word counts no more.
    late = Outcome(status_code=200)
    assert not attempt_settle(delivery_id=lost.delivery_id, token=lost.token, outcome=late)
    assert settled(again, status_code=200).attempts == 1


def test_410_switches_it_off_with_a_letter(ada: Customer):
    endpoint, _ = hook(ada)
    for _ in range(2):
        services.endpoint_test(org=ada.org, endpoint_id=endpoint.id, actor=ada.actor)
    row = settled(begun(endpoint), status_code=410)
    assert (row.state, row.endpoint.enabled) == ("failed", False)
    assert "410" in row.endpoint.off_reason
    assert {one.state for one in deliveries(endpoint)} == {"failed"}
    notice = Notice.objects.get(kind="webhook.switched_off")
    assert recipient_map([notice])[notice.id] == [ada.user.email]
    written = letter_of(notice, ada.org, hour_cost=lambda org: 0)
    assert written and "hooks.example.com" in written[1] and "/in" not in written[1]
    with pytest.raises(KindlingError, match="Switch it on first"):
        services.endpoint_test(org=ada.org, endpoint_id=endpoint.id, actor=ada.actor)


def test_after_five_days_of_failures_it_is_switched_off(ada: Customer, held: Clock):
    endpoint, _ = hook(ada)
    for days in (0, 4.9, 0.2):
        held.on(days=days)
        services.endpoint_test(org=ada.org, endpoint_id=endpoint.id, actor=ada.actor)
        row = settled(begun(endpoint), error="No answer.")
        assert row.endpoint.enabled is (days != 0.2)
    changed = services.endpoint_change(
        org=ada.org, endpoint_id=endpoint.id, wanted=Wanted(enabled=True), actor=ada.actor
    )
    assert (changed.enabled, changed.off_reason, changed.failing_since) == (True, "", None)


def test_bounds(ada: Customer, held: Clock):
    first, _ = hook(ada)
    for _ in range(services.MOST_ENDPOINTS - 1):
        hook(ada)
    for wanted, code in [({}, "webhook_limit_reached")]:
        with pytest.raises(KindlingError) as refused:
            hook(ada, **wanted)
        assert refused.value.code == code
    with pytest.raises(KindlingError, match="There is no event 'key_eaten'"):
        services.endpoint_change(
            org=ada.org, endpoint_id=first.id, wanted=Wanted(events=["key_eaten"]), actor=ada.actor
        )
    for _ in range(services.MOST_ASKED):
        services.endpoint_test(org=ada.org, endpoint_id=first.id, actor=ada.actor)
    with pytest.raises(KindlingError, match="within a minute"):
        services.endpoint_test(org=ada.org, endpoint_id=first.id, actor=ada.actor)


def test_what_is_old_is_deleted_and_what_an_organisation_had_when_it_goes(ada: Customer, bob: Customer):
    endpoint, _ = hook(ada)
    theirs, _ = hook(bob)
    for owner, one in ((ada, endpoint), (bob, theirs)):
        services.endpoint_test(org=owner.org, endpoint_id=one.id, actor=owner.actor)
    assert ending.deliveries_purge() == 0
    Event.objects.for_org(bob.org).update(created_at=clock.now() - timedelta(days=31))
    assert ending.deliveries_purge() == 1 and deliveries(theirs) == []
    while webhooks_forget(ada.org):
        pass
    left = [kind.objects.for_org(ada.org).count() for kind in (Endpoint, Event, Delivery)]
    assert left == [0, 0, 0] and Endpoint.objects.for_org(bob.org).count() == 1
    going = make_customer("going")
    hook(going)
    going.org.deleting_at = clock.now()
    going.org.save()
    key_create(org=going.org, name="late", scopes=["read"], actor=going.actor)
    assert told(going) == []
