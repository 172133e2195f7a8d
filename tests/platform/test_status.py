"""Samples of components: a minute counts once, a gap is no data, and nothing that belongs to customers is looked at."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import DatabaseError

from kindling_people import Customer, make_customer, make_model
from kindling_platform.adapters.models import Adapter
from kindling_platform.common.clock import now
from kindling_platform.deployments.models import Deployment, Replica
from kindling_platform.status import samples
from kindling_platform.status.components import DOWN, LIMITED, STARTING, UNKNOWN, UP, Seen, model_key
from kindling_platform.status.models import ComponentDay, ComponentState
from kindling_platform.status.observing import billing_look, checks_look, models_look
from kindling_platform.status.samples import samples_keep, status_purge
from kindling_platform.status.selectors import DAYS, status_get
from kindling_platform.usage.models import SpooledUsage

pytestmark = pytest.mark.django_db
NOON = datetime(2026, 11, 30, 12, 0, 20, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def counted(key: str = "api") -> list[tuple[int, int, int]]:
    return [(row.up, row.limited, row.down) for row in ComponentDay.objects.filter(key=key).order_by("day")]


def test_a_minute_counts_once_whoever_repeats_it():
    samples_keep([Seen("api", UP)], at=NOON)
    samples_keep([Seen("api", DOWN)], at=NOON + timedelta(seconds=30))
    assert counted() == [(1, 0, 0)]
    for minutes, state in ((1, LIMITED), (1, UP), (2, STARTING), (3, DOWN), (2, UP), (12 * 60, UP)):
        samples_keep([Seen("api", state)], at=NOON + minutes * MINUTE)
    # A model that starts does not answer; and what lies behind midnight is the next day's.
    assert counted() == [(1, 1, 2), (1, 0, 0)]


def test_whoever_dies_in_the_midst_leaves_nothing(monkeypatch: pytest.MonkeyPatch):
    samples_keep([Seen("api", UP)], at=NOON)
    with monkeypatch.context() as broken:
        broken.setattr(samples, "MINUTES", "SELECT * FROM no_such_table")
        with pytest.raises(DatabaseError):
            samples_keep([Seen("api", DOWN)], at=NOON + MINUTE)
    assert ComponentState.objects.get().state == UP
    samples_keep([Seen("api", DOWN)], at=NOON + MINUTE)
    assert counted() == [(1, 0, 1)]


def test_since_when_something_is_so_begins_anew_after_a_change_and_a_gap():
    def since_of(state: str, minutes: int) -> datetime:
        samples_keep([Seen("api", state)], at=NOON + minutes * MINUTE)
        return ComponentState.objects.get().since

    assert since_of(UP, 0) == since_of(UP, 4) == NOON
    assert since_of(DOWN, 5) == since_of(DOWN, 6) == NOON + 5 * MINUTE
    assert since_of(DOWN, 60) == NOON + 60 * MINUTE


def test_what_nobody_looked_at_is_not_called_up():
    components = {one.key: one for one in status_get().components}
    # Of the console this is an answer; of all others nobody knows.
    assert components.pop("console").state == UP
    assert {one.state for one in components.values()} == {UNKNOWN}
    moment = now()
    samples_keep([Seen(key, UP) for key in ("api", "console", "billing", "checks")], at=moment)
    status = status_get()
    assert (status.state, {one.state for one in status.components}) == (UP, {UP})
    api = status.components[0]
    assert (len(api.days), api.minutes, api.up_share) == (DAYS, 1, 1.0)
    assert [day.minutes for day in api.days[:-1]] == [0] * (DAYS - 1)
    ComponentState.objects.update(checked_at=moment - timedelta(hours=1))
    late = {one.key: one for one in status_get().components}
    assert (late["api"].state, late["checks"].state) == (UNKNOWN, DOWN)
    assert "have not been heard of since" in late["checks"].note


def test_what_is_older_than_the_page_shows_is_deleted():
    for days in (samples.KEPT.days + 2, DAYS - 1, 0):
        samples_keep([Seen("api", UP), Seen(f"model:{days}", UP)], at=now() - timedelta(days=days))
    assert status_purge() == 3  # of the oldest day two, and a model that nobody serves any more
    assert status_purge() == 0
    assert ComponentDay.objects.count() == 4
    assert set(ComponentState.objects.values_list("key", flat=True)) == {
        "api",
        f"model:{DAYS - 1}",
        "model:0",
    }


@pytest.fixture
def spark(operator: Customer) -> Deployment:
    model = make_model(operator)
    return Deployment.objects.create(organisation=operator.org, model=model, name="spark", state="live")


def replica(deployment: Deployment, state: str, *, ago_s: int = 1, rank: int = 0) -> Replica:
    return Replica.objects.create(
        deployment=deployment, name=f"{deployment.id}-{rank}", generation=1, rank=rank, state=state,
        heartbeat_at=now() - timedelta(seconds=ago_s),
    )  # fmt: skip


def looked(deployment: Deployment) -> str | None:
    found = {seen.key: seen.state for seen in models_look(at=now())}
    return found.get(model_key(deployment.model_id))


def test_a_model_is_up_while_a_replica_answers(spark: Deployment):
    assert looked(spark) == DOWN
    row = replica(spark, "starting")
    assert looked(spark) == STARTING
    row.state = "ready"
    row.save()
    assert looked(spark) == UP
    Deployment.objects.filter(id=spark.id).update(state="degraded")
    assert looked(spark) == LIMITED
    # Nobody has heard of it: that is no reason to call it down, nor up.
    Replica.objects.update(heartbeat_at=now() - timedelta(minutes=5))
    assert looked(spark) is None
    Replica.objects.update(state="failed")
    assert looked(spark) == DOWN
    Deployment.objects.filter(id=spark.id).update(desired_state="stopped")
    assert looked(spark) is None


def test_nothing_of_a_customer_is_looked_at(ada: Customer, operator: Customer, spark: Deployment):
    replica(spark, "ready")
    theirs = Deployment.objects.create(
        organisation=ada.org, model=make_model(ada, "secret", is_public=False), name="hidden", state="live"
    )
    Deployment.objects.create(organisation=ada.org, model=spark.model, name="dedicated", state="failed")
    own = make_model(operator, "unpublished", is_public=False)
    Deployment.objects.create(organisation=operator.org, model=own, name="unpublished", state="live")
    replica(theirs, "ready", rank=1)
    assert models_look(at=now()) == [Seen(model_key(spark.model_id), UP)]
    names = [one.name for one in status_get().components]
    assert spark.model.ref in names and len(names) == 5


def test_metering_is_behind_when_what_was_shipped_waits():
    import uuid

    def shipped(minutes: float) -> None:
        SpooledUsage.objects.create(
            request_id=uuid.uuid4(), source="gateway", verdict="closed", record="{}",
            shipped_at=now() - minutes * MINUTE,
        )  # fmt: skip

    shipped(0.5)
    assert billing_look(at=now()) == Seen("billing", UP)
    shipped(7.5)
    behind = billing_look(at=now())
    assert (behind.state, "last 7 minutes" in behind.note) == (LIMITED, True)
    shipped(45)
    assert billing_look(at=now()).state == DOWN
    SpooledUsage.objects.update(booked_at=now())
    assert billing_look(at=now()).state == UP


def test_a_check_that_waits_for_a_base_that_answers_is_late(spark: Deployment):
    ada = make_customer("ada-late")
    Adapter.objects.create(
        organisation=ada.org, base=spark.model, name="mine", state="validating",
        completed_at=now() - timedelta(hours=1),
    )  # fmt: skip
    late = checks_look(at=now())
    assert late.state == LIMITED and "mine" not in late.note
    # One whose base is stopped waits for its owner, not for us.
    Deployment.objects.update(state="stopped")
    assert checks_look(at=now()).state == UP
