"""Machine time needs money: no start without an hour's worth, a stop when nothing is left, and a hand to go on."""

from datetime import timedelta

import pytest

from kindling_billing.gpu_hours import HOUR_MS
from kindling_billing.models import Notice
from kindling_billing.notices import LOW_BALANCE
from kindling_billing.selectors import balance_get
from kindling_billing.services import UsageCharge, credit_grant, usage_post
from kindling_billing.terms import owner_suspend, terms_set
from kindling_gpu_time import GPU_MS, HOUR_COST, gpu_price, held
from kindling_people import Customer, make_customer, make_model
from kindling_platform.accounts.letters import letter_of
from kindling_platform.accounts.models import Organisation
from kindling_platform.audit.models import AuditEvent
from kindling_platform.common.clock import now
from kindling_platform.common.errors import KindlingError
from kindling_platform.deployments.credit import running_hour_picousd
from kindling_platform.deployments.models import Deployment, DeploymentEvent, ReplicaInterval
from kindling_platform.deployments.services import (
    deployment_apply,
    deployment_create,
    deployment_ensure,
    deployment_lease,
    deployment_start,
    deployment_stop,
)
from kindling_platform.deployments.stops import (
    NO_BUDGET,
    NO_CREDIT,
    NO_LIMIT,
    SUSPENDED,
    deployments_stop_unpaid,
)
from kindling_platform.keys.limits import limits_set
from kindling_platform.keys.models import ApiKey

pytestmark = pytest.mark.django_db
# So dear that the dollar which everybody begins with is an hour of ten replicas.
DEAR = 10**12 // (10 * HOUR_MS)


@pytest.fixture
def rented(operator: Customer, ada: Customer) -> Deployment:
    model = make_model(operator, priced=False)
    gpu_price(model.id, DEAR)
    return deployment_create(
        org=operator.org, model_ref=model.ref, name="mine", for_ref=ada.org.slug, actor=operator.actor
    )


def refusal(work) -> tuple[str, int]:
    with pytest.raises(KindlingError) as refused:
        work()
    return refused.value.code, refused.value.status


def spend(customer: Customer, left_picousd: int) -> None:
    """Leave so much of an organisation's credit, as if requests had taken the rest."""
    cost = balance_get(owner_id=customer.org.id).picousd - left_picousd
    usage_post([UsageCharge(owner_id=customer.org.id, request_id=f"left-{left_picousd}", cost_picousd=cost)])


def start(customer: Customer, deployment: Deployment) -> Deployment:
    return deployment_start(org=customer.org, deployment_id=deployment.id, actor=customer.actor)


def test_an_operator_makes_one_for_an_organisation_and_nobody_else_does(
    operator: Customer, ada: Customer, bob: Customer, rented: Deployment
):
    assert (rented.organisation_id, rented.desired_state) == (ada.org.id, "running")

    def create(by: Customer, name: str, for_ref: str) -> Deployment:
        return deployment_create(
            org=by.org, model_ref="kindling/spark", name=name, for_ref=for_ref, actor=by.actor
        )

    assert create(operator, "two", ada.org.id).organisation_id == ada.org.id
    assert refusal(lambda: create(bob, "three", ada.org.slug)) == ("deployments_closed", 403)
    assert refusal(lambda: create(ada, "three", "")) == ("deployments_closed", 403)
    assert refusal(lambda: create(operator, "three", "nobody")) == ("organisation_unknown", 404)


def test_without_a_price_of_gpu_time_nothing_starts(operator: Customer, ada: Customer):
    model = make_model(operator)
    for gpu_ms in (None, 0):
        if gpu_ms is not None:
            gpu_price(model.id, gpu_ms, since=now())
        assert refusal(
            lambda: deployment_ensure(org=ada.org, model=model, name="d", actor=operator.actor)
        ) == ("gpu_price_missing", 409)
    # The operator's own replicas are nobody's bill.
    assert deployment_ensure(org=operator.org, model=model, name="d", actor=operator.actor)


def test_a_start_needs_credit_for_an_hour_of_all_its_replicas(
    operator: Customer, ada: Customer, rented: Deployment
):
    deployment_stop(org=ada.org, deployment_id=rented.id, actor=ada.actor)
    spend(ada, HOUR_MS * DEAR - 1)
    assert refusal(lambda: start(ada, rented)) == ("insufficient_credit", 402)
    assert Deployment.objects.get().desired_state == "stopped"
    credit_grant(owner_id=ada.org.id, amount_picousd=1, source_id="one", memo="", actor_id="")
    assert start(ada, rented).desired_state == "running"

    def resize(replicas: int) -> Deployment:
        return deployment_ensure(
            org=ada.org, model=rented.model, name="mine", replicas=replicas, actor=ada.actor
        )

    assert refusal(lambda: resize(3)) == ("insufficient_credit", 402)
    assert resize(2).desired_replicas == 2
    assert resize(1).desired_replicas == 1


def test_hours_that_are_not_posted_yet_count_as_spent(ada: Customer, rented: Deployment):
    """Ten replicas' hours are all the credit there is; nine and a half of them have run up."""
    held(rented, start=now() - timedelta(hours=9.5), lasts=timedelta(hours=9.5), ended=False)
    assert deployments_stop_unpaid() == []
    deployment_stop(org=ada.org, deployment_id=rented.id, actor=ada.actor)
    assert refusal(lambda: start(ada, rented)) == ("insufficient_credit", 402)


def test_at_nothing_left_it_stops_with_a_reason_and_starts_by_hand_alone(ada: Customer, rented: Deployment):
    held(rented, start=now() - timedelta(hours=11), lasts=timedelta(hours=11), ended=False)
    assert deployments_stop_unpaid() == [rented.id]
    assert deployments_stop_unpaid() == []
    stopped = Deployment.objects.get()
    assert (stopped.desired_state, stopped.stop_reason, stopped.reason) == ("stopped", NO_CREDIT, NO_CREDIT)
    event = AuditEvent.objects.get(action="deployment.halted")
    assert (event.target, event.organisation_id, event.data["reason"]) == (rented.id, ada.org.id, NO_CREDIT)
    assert DeploymentEvent.objects.filter(kind="halted", message=NO_CREDIT).count() == 1
    notice = Notice.objects.get(kind="deployment.halted")
    letter = letter_of(notice, Organisation.objects.get(id=notice.owner_id), hour_cost=running_hour_picousd)
    assert letter is not None
    assert letter[0] == f"Deployment mine of {ada.org.name} has stopped"
    assert NO_CREDIT in letter[1]
    # What the reconciler sees afterwards does not wipe the reason away.
    token = deployment_lease(deployment_id=rented.id, ttl_s=5)
    assert token
    assert deployment_apply(deployment_id=rented.id, token=token, state="stopped", reason="")
    assert Deployment.objects.get().reason == NO_CREDIT
    credit_grant(owner_id=ada.org.id, amount_picousd=10**13, source_id="more", memo="", actor_id="")
    assert deployments_stop_unpaid() == []
    assert Deployment.objects.get().desired_state == "stopped"
    assert start(ada, rented).stop_reason == ""


def test_the_letter_of_a_low_balance_tells_what_will_stop_and_what_it_costs(
    ada: Customer, operator: Customer, rented: Deployment
):
    def letter(customer: Customer) -> str:
        notice = Notice(kind=LOW_BALANCE, owner_id=customer.org.id, data={"balance_picousd": str(10**12)})
        written = letter_of(notice, customer.org, hour_cost=running_hour_picousd)
        assert written is not None
        return written[1]

    assert "are stopped" not in letter(make_customer("cloudless"))
    # An hour of a replica is a tenth of a dollar.
    stops = "your own deployments, which cost ${} an hour as they run now, are stopped"
    assert stops.format("0.10") in letter(ada)
    Deployment.objects.filter(id=rented.id).update(desired_replicas=3)
    assert stops.format("0.30") in letter(ada)
    Deployment.objects.filter(id=rented.id).update(organisation=operator.org)
    assert "are stopped" not in letter(operator)
    Deployment.objects.filter(id=rented.id).update(organisation=ada.org)
    deployment_stop(org=ada.org, deployment_id=rented.id, actor=ada.actor)
    assert "At zero, new requests are refused.\n" in letter(ada)


def test_requests_that_spend_the_credit_stop_it_too(ada: Customer, rented: Deployment):
    spend(ada, 0)
    assert deployments_stop_unpaid() == [rented.id]


def test_a_postpaid_organisation_has_its_limit_in_the_place_of_credit(ada: Customer, rented: Deployment):
    terms_set(owner_id=ada.org.id, mode="postpaid", credit_limit_picousd=10**12)
    spend(ada, 0)
    assert deployments_stop_unpaid() == []
    spend(ada, -(10**12))
    assert deployments_stop_unpaid() == [rented.id]
    assert Deployment.objects.get().stop_reason == NO_LIMIT
    assert refusal(lambda: start(ada, rented)) == ("insufficient_credit", 402)
    terms_set(owner_id=ada.org.id, credit_limit_picousd=2 * 10**12)
    assert start(ada, rented).desired_state == "running"


def budget(customer: Customer, **picousd: int) -> None:
    values = {f"budget_{period}_picousd": amount for period, amount in picousd.items()}
    limits_set(org=customer.org, values=values, actor=customer.actor)


def test_a_start_needs_an_hour_of_all_replicas_of_the_tightest_budget(ada: Customer, rented: Deployment):
    deployment_stop(org=ada.org, deployment_id=rented.id, actor=ada.actor)
    budget(ada, month=10**13, total=HOUR_MS * DEAR - 1)
    with pytest.raises(KindlingError) as refused:
        start(ada, rented)
    assert (refused.value.code, refused.value.status) == ("budget_exceeded", 402)
    assert "of your organisation's budget in all" in refused.value.message
    assert Deployment.objects.get().desired_state == "stopped"
    budget(ada, total=HOUR_MS * DEAR)
    assert start(ada, rented).desired_state == "running"


@pytest.mark.parametrize("period", ["day", "month", "total"])
def test_a_budget_that_is_used_up_stops_it_and_goes_on_by_hand(
    ada: Customer, rented: Deployment, period: str
):
    """What runs up counts before it is posted, and nothing else is spent here."""
    minute = 60_000 * DEAR
    moment = now()
    held(rented, start=moment - timedelta(minutes=1), lasts=timedelta(minutes=1), ended=False)
    budget(ada, **{period: minute + 1})
    # At the beginning of a day or a month only a part of the minute belongs to it.
    assert deployments_stop_unpaid() == []
    ReplicaInterval.objects.all().delete()
    held(rented, start=moment, lasts=timedelta(minutes=2), ended=False)
    assert deployments_stop_unpaid() == [rented.id]
    stopped = Deployment.objects.get()
    assert (stopped.desired_state, stopped.stop_reason) == ("stopped", NO_BUDGET[period])
    assert Notice.objects.get(kind="deployment.halted").data["reason"] == NO_BUDGET[period]
    assert refusal(lambda: start(ada, rented)) == ("budget_exceeded", 402)
    limits_set(org=ada.org, values={f"budget_{period}_picousd": None}, actor=ada.actor)
    assert start(ada, rented).stop_reason == ""


def test_budgets_of_members_and_keys_are_of_requests_alone(ada: Customer, rented: Deployment):
    ada.key()
    key = ApiKey.objects.get(organisation=ada.org)
    held(rented, start=now() - timedelta(hours=2), lasts=timedelta(hours=2), ended=False)
    for whose in ({"key_id": key.id}, {"member_id": ada.user.id}):
        limits_set(org=ada.org, values={"budget_total_picousd": 1}, actor=ada.actor, **whose)
    assert deployments_stop_unpaid() == []


@pytest.mark.parametrize("by", ["billing", "operator"])
def test_a_suspended_organisation_holds_no_machines(ada: Customer, rented: Deployment, by: str):
    if by == "billing":
        owner_suspend(owner_id=ada.org.id, reason="Invoice 7 is unpaid.")
    else:
        Organisation.objects.filter(id=ada.org.id).update(suspended_at=now())
    assert deployments_stop_unpaid() == [rented.id]
    assert Deployment.objects.get().stop_reason == ("Invoice 7 is unpaid." if by == "billing" else SUSPENDED)


def test_the_operators_own_and_others_go_on(
    operator: Customer, ada: Customer, bob: Customer, rented: Deployment
):
    gpu_price(rented.model_id, GPU_MS, since=now())
    own = deployment_ensure(org=operator.org, model=rented.model, name="shared", actor=operator.actor)
    theirs = deployment_ensure(org=bob.org, model=rented.model, name="theirs", actor=operator.actor)
    spend(ada, HOUR_COST // 2)
    held(rented, start=now() - timedelta(hours=1), lasts=timedelta(hours=1), ended=False)
    assert deployments_stop_unpaid() == [rented.id]
    assert set(Deployment.objects.filter(desired_state="running").values_list("id", flat=True)) == {
        own.id,
        theirs.id,
    }
