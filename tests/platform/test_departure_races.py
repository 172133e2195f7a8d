"""Two who go at the same moment: one after the other, and no organisation is left without an owner."""

import threading
from collections.abc import Callable

import pytest
from django.db import connection

from kindling_people import Customer, make_customer
from kindling_platform.accounts.models import Membership, Organisation, User
from kindling_platform.audit.models import AuditEvent
from kindling_platform.common.errors import KindlingError
from kindling_platform.departures.organisations import organisation_delete
from kindling_platform.departures.persons import user_delete
from kindling_platform.responses.services import retention_set
from kindling_platform.responses.sharing import shared_list
from kindling_shared import shared

pytestmark = pytest.mark.django_db(transaction=True)


def at_once(*works: Callable[[], None]) -> list[str]:
    """What became of each: "" or the code of its refusal."""
    codes, barrier = [""] * len(works), threading.Barrier(len(works))

    def run(number: int, work: Callable[[], None]) -> None:
        try:
            barrier.wait(timeout=10)
            work()
        except KindlingError as error:
            codes[number] = error.code
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert not any(thread.is_alive() for thread in threads)
    return codes


def going(person: Customer) -> Callable[[], None]:
    return lambda: user_delete(user=person.user, typed=person.user.email, keep_keys=False, actor=person.actor)


def share(owner: Customer) -> None:
    shared(owner)


def deleting(owner: Customer) -> Callable[[], None]:
    return lambda: organisation_delete(org=owner.org, typed=owner.org.slug, actor=owner.actor)


def test_of_two_owners_who_go_at_once_one_stays_for_the_others():
    one, two, third = (make_customer(name) for name in ("one", "two", "third"))
    Membership.objects.create(user=two.user, organisation=one.org, role="owner")
    Membership.objects.create(user=third.user, organisation=one.org, role="developer")
    assert sorted(at_once(going(one), going(two))) == ["", "last_owner"]
    assert Membership.objects.filter(organisation=one.org, role="owner").count() == 1
    assert User.objects.filter(id__in=[one.user.id, two.user.id], is_active=True).count() == 1
    assert Organisation.objects.get(id=one.org.id).deleting_at is None


def test_an_account_that_is_deleted_twice_at_once_is_deleted_once():
    one = make_customer("one")
    # The second finds a row that has another address by then.
    assert sorted(at_once(going(one), going(one))) == ["", "confirmation_wrong"]
    assert AuditEvent.objects.filter(action="user.deleted").count() == 1
    assert AuditEvent.objects.filter(action="organisation.delete_begun").count() == 1


def test_an_organisation_that_is_deleted_twice_at_once_is_deleted_once():
    one, two = make_customer("one"), make_customer("two")
    Membership.objects.create(user=two.user, organisation=one.org, role="owner")
    Membership.objects.filter(user=two.user).exclude(organisation=one.org).delete()
    assert at_once(deleting(one), deleting(Customer(two.user, one.org))) == ["", ""]
    assert AuditEvent.objects.filter(action="organisation.delete_begun").count() == 1
    # Each has one organisation of their own, and no second one.
    for person in (one, two):
        (own,) = Membership.objects.filter(user=person.user)
        assert own.organisation_id != one.org.id


def test_nothing_is_shared_behind_a_switch_off():
    one = make_customer("one")
    codes = at_once(lambda: retention_set(org=one.org, days=0, actor=one.actor), lambda: share(one))
    assert codes in (["", ""], ["", "sharing_off"])
    assert not shared_list(org=one.org).exists()
