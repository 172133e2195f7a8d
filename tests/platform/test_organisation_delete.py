"""An organisation is deleted: at once for everybody, step by step for workers, and never its books."""

import os
import time
from dataclasses import replace
from datetime import timedelta

import pytest
from django.db import connection

from kindling_billing.models import AutoTopUp, LedgerEntry, OutboxCall, SavedCard
from kindling_billing.selectors import balance_get, price_current
from kindling_departures import blob_put, card_put, furnish, left_of
from kindling_fake_stripe import FakeStripe
from kindling_gpu_time import gpu_price
from kindling_people import ApiClient, Customer, make_customer, make_model, make_record
from kindling_platform.accounts.invitations import invitation_accept, invitation_create
from kindling_platform.accounts.models import Invitation, Membership, Organisation, User
from kindling_platform.accounts.services import organisation_create
from kindling_platform.accounts.suspension import organisation_resume, organisation_suspend
from kindling_platform.adapters.storage import blob_folder
from kindling_platform.adapters.tidying import files_tidy
from kindling_platform.audit.models import AuditEvent
from kindling_platform.catalog.models import Model
from kindling_platform.common.errors import KindlingError
from kindling_platform.departures import organisations, steps
from kindling_platform.departures.organisations import (
    NAME,
    cards_forget_late,
    organisation_clear,
    organisation_delete,
    organisations_clear,
)
from kindling_platform.deployments.proofs import platform_prove
from kindling_platform.deployments.services import deployment_create
from kindling_platform.keys.models import ApiKey
from kindling_platform.keys.services import key_create
from kindling_platform.usage.models import UsageEvent
from kindling_platform.usage.services import usage_ingest

pytestmark = pytest.mark.django_db
NONE = dict.fromkeys(
    (
        *("keys", "adapters", "aliases", "deployments", "prompts", "responses", "shared", "answers", "opinions"),
        *("files", "limits"),
    ),
    0,
)  # fmt: skip


@pytest.fixture
def model(operator: Customer) -> Model:
    made = make_model(operator, priced=False)
    gpu_price(made.id)
    return made


@pytest.fixture
def friend(ada: Customer) -> Customer:
    """A developer of ada's organisation, who is in no other."""
    made = make_customer("friend")
    Membership.objects.filter(user=made.user).update(organisation=ada.org, role="developer")
    return Customer(made.user, ada.org)


def delete(owner: Customer, **changes) -> None:
    organisation_delete(org=owner.org, actor=owner.actor, **{"typed": owner.org.slug, **changes})


def settle(owner: Customer) -> None:
    """As if the deletion had begun a while ago."""
    org = Organisation.objects.get(id=owner.org.id)
    Organisation.objects.filter(id=org.id).update(deleting_at=org.deleting_at - timedelta(minutes=1))


def cleared(owner: Customer) -> Organisation:
    settle(owner)
    organisations_clear()
    return Organisation.objects.get(id=owner.org.id)


def suspended_for(owner: Customer) -> set[str]:
    """What gateways read of an organisation's keys."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT suspended_for FROM gateway_key WHERE org_id = %s", [owner.org.id])
        return {reason for (reason,) in cursor.fetchall()}


def actions_of(owner: Customer) -> list[str]:
    rows = AuditEvent.objects.filter(organisation_id=owner.org.id).order_by("created_at", "id")
    return list(rows.values_list("action", flat=True))


def refusal(work) -> KindlingError:
    with pytest.raises(KindlingError) as refused:
        work()
    return refused.value


def test_from_that_moment_nobody_is_in_it_and_its_keys_are_refused(
    ada: Customer, friend: Customer, bob: Customer, model: Model
):
    text = furnish(ada, model)
    delete(ada)
    assert suspended_for(ada) == {"deleted"}
    assert not Membership.objects.filter(organisation=ada.org).exists()
    assert not Invitation.objects.filter(organisation=ada.org, ended_at=None).exists()
    # Both keep their accounts, each with an organisation of their own.
    for person in (ada, friend):
        (own,) = Membership.objects.filter(user=person.user)
        assert own.role == "owner" and own.organisation_id != ada.org.id
    reply = ApiClient(HTTP_AUTHORIZATION=f"Bearer {text}").call("get", "me")
    assert (reply.status_code, reply.json()["error"]["code"]) == (412, "organisation_deleted")
    assert left_of(ada)["keys"] == 1  # the rest is for the workers
    assert not Organisation.objects.filter(id=bob.org.id).exclude(deleting_at=None).exists()


def test_workers_clear_everything_away_and_the_books_stay(
    ada: Customer, bob: Customer, operator: Customer, model: Model
):
    for owner in (ada, bob):
        furnish(owner, model)
    before = left_of(bob)
    assert min(before.values()) == 1
    lines, balance = LedgerEntry.objects.count(), balance_get(owner_id=ada.org.id)
    trail = actions_of(ada)
    delete(ada)
    row = cleared(ada)
    assert row.deleted_at and row.name == NAME and row.slug == ada.org.slug
    assert left_of(ada) == NONE
    assert left_of(bob) == before
    assert (LedgerEntry.objects.count(), balance_get(owner_id=ada.org.id)) == (lines, balance)
    assert UsageEvent.objects.filter(organisation_id=ada.org.id).count() == 0
    told = actions_of(ada)
    assert told[: len(trail)] == trail
    assert told.count("organisation.delete_begun") == told.count("organisation.deleted") == 1
    assert {
        "key.revoked",
        "adapter.delete",
        "deployment.deleted",
        "request_log.set",
        "member.removed",
    } <= set(told)
    assert Organisation.objects.get(id=bob.org.id).name == bob.org.name


@pytest.mark.parametrize("died_at", range(len(steps.STEPS)))
def test_a_worker_may_die_at_any_step_and_the_next_one_goes_on(
    ada: Customer, model: Model, monkeypatch: pytest.MonkeyPatch, died_at: int
):
    furnish(ada, model)
    delete(ada)
    settle(ada)

    def die(_org: Organisation) -> int:
        raise SystemExit

    first = (*steps.STEPS[:died_at], die)
    monkeypatch.setattr(organisations, "STEPS", first)
    with pytest.raises(SystemExit):
        organisation_clear(org=ada.org)
    assert Organisation.objects.get(id=ada.org.id).deleted_at is None
    monkeypatch.setattr(organisations, "STEPS", steps.STEPS)
    assert organisations_clear() == [ada.org.id]
    assert left_of(ada) == NONE
    told = actions_of(ada)
    for action in (
        "key.revoked",
        "adapter.delete",
        "deployment.deleted",
        "request_log.set",
        "organisation.deleted",
    ):
        assert told.count(action) == {"request_log.set": 2}.get(action, 1), action
    assert organisations_clear() == []
    assert actions_of(ada) == told


def test_what_slips_in_while_it_is_deleted_goes_as_well(ada: Customer, bob: Customer, model: Model):
    _, text = invitation_create(org=ada.org, email=bob.user.email, role="admin", actor=ada.actor)
    delete(ada)
    # A request that had begun before, and one to accept an invitation that was read before.
    key_create(org=ada.org, name="late", scopes=["inference"], actor=ada.actor)
    Membership.objects.create(user=bob.user, organisation=ada.org, role="admin")
    assert refusal(lambda: invitation_accept(text=text, user=bob.user)).code == "invitation_over"
    cleared(ada)
    assert left_of(ada) == NONE
    assert [one.organisation_id for one in Membership.objects.filter(user=bob.user)] == [bob.org.id]


def test_it_is_deleted_only_once_gateways_have_let_go(ada: Customer):
    delete(ada)
    assert organisations_clear() == []
    assert Organisation.objects.get(id=ada.org.id).deleted_at is None
    assert cleared(ada).deleted_at


def test_again_changes_nothing(ada: Customer):
    delete(ada)
    begun = Organisation.objects.get(id=ada.org.id).deleting_at
    told = actions_of(ada)
    delete(ada)
    assert Organisation.objects.get(id=ada.org.id).deleting_at == begun
    assert actions_of(ada) == told


def test_nobody_inherits_the_address(ada: Customer, bob: Customer):
    name, slug = ada.org.name, ada.org.slug
    delete(ada)
    cleared(ada)
    made = organisation_create(name=name, owner=bob.user, actor=bob.actor)
    assert made.slug != slug and made.slug.startswith(slug)


def test_files_go_unless_somebody_else_has_the_same(
    ada: Customer, bob: Customer, model: Model, settings, tmp_path
):
    settings.KINDLING_ENV = replace(settings.KINDLING_ENV, home=tmp_path)
    own, shared = "a" * 64, "b" * 64
    furnish(ada, model, content_hash=own)
    furnish(bob, model, content_hash=shared)
    ada_too = ada.org.adapters.create(base=model, name="same", state="ready", content_hash=shared)
    for content_hash in (own, shared):
        blob_put(content_hash)
    delete(ada)
    cleared(ada)
    ada_too.refresh_from_db()
    assert ada_too.state == "deleted"
    long_ago = time.time() - 7200
    for content_hash in (own, shared):
        for path in (blob_folder(content_hash), *blob_folder(content_hash).iterdir()):
            os.utime(path, (long_ago, long_ago))
    assert files_tidy().blobs == 1
    assert (blob_folder(own).exists(), blob_folder(shared).exists()) == (False, True)


def test_cards_are_forgotten_through_the_outbox_and_nothing_is_charged_any_more(
    ada: Customer, payments_on: FakeStripe
):
    card = card_put(ada)
    AutoTopUp.objects.create(
        owner_id=ada.org.id, enabled=True, threshold_cents=500, amount_cents=1000, monthly_cap_cents=5000
    )
    delete(ada)
    assert not AutoTopUp.objects.get(owner_id=ada.org.id).enabled
    cleared(ada)
    call = OutboxCall.objects.get(kind="forget_card", subject=card)
    assert (call.state, call.owner_id) == ("waiting", ada.org.id)
    assert {"auto_topup.off", "card.removed"} <= set(actions_of(ada))
    # One that a payment under way brings later goes as well, once.
    late = SavedCard.objects.create(
        id="pm_late", owner_id=ada.org.id, brand="visa", last4="1", exp_month=1, exp_year=2040
    )
    assert (cards_forget_late(), cards_forget_late()) == (1, 0)
    assert OutboxCall.objects.filter(kind="forget_card", subject=late.id).count() == 1


def test_the_operator_sees_it_and_wakes_it_up_no_more(ada: Customer, operator: Customer, model: Model):
    delete(ada)
    for _ in range(2):
        error = refusal(lambda: organisation_resume(org=ada.org, reason="Come back", actor=operator.actor))
        assert (error.code, error.status) == ("organisation_deleted", 409)
        cleared(ada)
    assert organisation_suspend(org=ada.org, reason="Late", actor=operator.actor).deleted_at

    def rent() -> None:
        deployment_create(
            org=operator.org, model_ref=model.ref, name="d", for_ref=ada.org.slug, actor=operator.actor
        )

    assert refusal(rent).code == "organisation_unknown"


def test_only_the_slug_confirms(ada: Customer):
    for typed in ("", ada.org.name.upper() + "!", f"{ada.org.slug}x", ada.org.id):
        error = refusal(lambda typed=typed: delete(ada, typed=typed))
        assert (error.code, error.status) == ("confirmation_wrong", 400)
    assert Organisation.objects.get(id=ada.org.id).deleting_at is None
    delete(ada, typed=f" {ada.org.slug} ")
    assert Organisation.objects.get(id=ada.org.id).deleting_at


def test_keys_of_others_and_people_of_others_are_untouched(ada: Customer, bob: Customer, model: Model):
    Membership.objects.create(user=bob.user, organisation=ada.org, role="admin")
    hers = key_create(org=ada.org, name="by bob", scopes=["inference"], actor=bob.actor)[0]
    his = key_create(org=bob.org, name="bob's", scopes=["inference"], actor=bob.actor)[0]
    delete(ada)
    cleared(ada)
    assert ApiKey.objects.get(id=hers.id).revoked_at and not ApiKey.objects.get(id=his.id).revoked_at
    assert [one.organisation_id for one in Membership.objects.filter(user=bob.user)] == [bob.org.id]
    assert User.objects.get(id=bob.user.id).is_active


def test_what_is_heard_of_late_is_booked_all_the_same(ada: Customer, operator: Customer):
    model = make_model(operator)
    price = price_current(sku=model.id)
    assert price
    before = balance_get(owner_id=ada.org.id).picousd
    delete(ada)
    cleared(ada)
    record = make_record(ada.org.id, model, price)
    usage_ingest(source="r", log_id="l", after=0, records=[record], next_offset=1)
    (event,) = UsageEvent.objects.filter(organisation_id=ada.org.id)
    assert balance_get(owner_id=ada.org.id).picousd == before - event.cost_picousd < before
    assert platform_prove().findings == []
    # Clearing away once more takes nothing of it.
    Organisation.objects.filter(id=ada.org.id).update(deleted_at=None)
    assert organisations_clear() == [ada.org.id]
    assert UsageEvent.objects.filter(organisation_id=ada.org.id).count() == 1
    assert platform_prove().findings == []
