"""Whoever deletes an organisation wakes the workers, who clear it away; ticks find what no message has told."""

import json
from collections.abc import Iterator
from datetime import timedelta

import pytest

from kindling_departures import card_put
from kindling_people import Customer, make_customer
from kindling_platform.accounts.models import Organisation, User
from kindling_platform.common.clock import now
from kindling_platform.departures.organisations import organisation_delete
from kindling_platform.departures.persons import user_delete
from kindling_platform.keys.models import ApiKey
from kindling_workers.beat import QUEUE
from kindling_workers.schedule import BEAT_SCHEDULE
from kindling_workers.tasks import departures
from kindling_workers.valkey import valkey_client

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def queue() -> Iterator[None]:
    valkey_client().flushdb()
    yield
    valkey_client().flushdb()


@pytest.fixture
def leaver() -> Customer:
    made = make_customer("leaver")
    made.key("inference")
    return made


def asked_for() -> list[str]:
    """The tasks whose messages wait."""
    return [json.loads(raw)["headers"]["task"] for raw in valkey_client().lrange(QUEUE, 0, -1)]


def is_clear(owner: Customer) -> bool:
    return not ApiKey.objects.filter(organisation=owner.org, revoked_at=None).exists()


def test_a_deletion_wakes_a_worker_who_clears_away_at_once(leaver: Customer):
    organisation_delete(org=leaver.org, typed=leaver.org.slug, actor=leaver.actor)
    assert "departures.sweep" in asked_for()
    assert not is_clear(leaver)
    departures.sweep()
    assert is_clear(leaver)
    assert Organisation.objects.get(id=leaver.org.id).deleted_at is None


def test_a_tick_finishes_what_no_message_tells_of(leaver: Customer):
    assert {"departures.sweep", "departures.tidy"} <= {tick["task"] for tick in BEAT_SCHEDULE.values()}
    Organisation.objects.filter(id=leaver.org.id).update(deleting_at=now() - timedelta(hours=1))
    departures.sweep()
    row = Organisation.objects.get(id=leaver.org.id)
    assert is_clear(leaver) and row.deleted_at
    departures.sweep()
    assert Organisation.objects.get(id=leaver.org.id).deleted_at == row.deleted_at


def test_an_organisation_that_nobody_deletes_is_left_alone(leaver: Customer):
    departures.sweep()
    departures.tidy()
    assert not is_clear(leaver)
    assert Organisation.objects.get(id=leaver.org.id).name == leaver.org.name


def test_where_a_deleted_user_came_from_is_forgotten_later(leaver: Customer):
    User.objects.filter(id=leaver.user.id).update(signup_ip="192.0.2.1")
    card_put(leaver)
    person = User.objects.get(id=leaver.user.id)
    user_delete(user=person, typed=person.email, keep_keys=False, actor=leaver.actor)
    departures.tidy()
    assert User.objects.get(id=person.id).signup_ip == "192.0.2.1"
    User.objects.filter(id=person.id).update(created_at=now() - timedelta(hours=2))
    departures.tidy()
    assert User.objects.get(id=person.id).signup_ip is None
