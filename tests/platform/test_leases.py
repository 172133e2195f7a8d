"""Leases end in their time, also when a clock was set back meanwhile, and last while their holder works."""

from datetime import timedelta

import pytest

from kindling_agent import eventually
from kindling_platform.common import leases
from kindling_platform.common.clock import now
from kindling_platform.common.leases import lease_kept, lease_release, lease_take
from kindling_platform.deployments.models import Deployment
from kindling_rows import make_shop


def held_until(pk: str):
    return Deployment.objects.values_list("lease_expires_at", flat=True).get(pk=pk)


@pytest.mark.django_db
def test_a_lease_of_a_clock_that_was_set_back_is_free(monkeypatch: pytest.MonkeyPatch):
    pk = make_shop().deployment.id
    with monkeypatch.context() as fast:
        fast.setattr(leases, "now", lambda: now() + timedelta(hours=5))
        assert lease_take(Deployment.objects, pk=pk, ttl_s=60)
        assert lease_take(Deployment.objects, pk=pk, ttl_s=60) is None
    token = lease_take(Deployment.objects, pk=pk, ttl_s=60)
    assert token
    assert lease_take(Deployment.objects, pk=pk, ttl_s=60) is None
    assert held_until(pk) < now() + timedelta(seconds=61)
    assert lease_release(Deployment.objects, pk=pk, token=token)


@pytest.mark.django_db(transaction=True)
def test_a_lease_is_renewed_while_its_holder_works(monkeypatch: pytest.MonkeyPatch):
    pk = make_shop().deployment.id
    token = lease_take(Deployment.objects, pk=pk, ttl_s=0.3)
    assert token
    first = held_until(pk)
    with lease_kept(Deployment.objects, pk=pk, token=token, ttl_s=0.3):
        eventually(lambda: held_until(pk), lambda until: until > first)
        lease_release(Deployment.objects, pk=pk, token=token)
    assert held_until(pk) is None
