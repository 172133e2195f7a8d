"""How many queries a page takes does not grow with what it shows."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from kindling_console_world import Member, World

# Session, user, membership, and for whole pages balance and stand-ins are in each.
PINNED = {
    "home": 19, "home-live": 16, "catalog": 10, "adapters": 9, "keys": 7, "usage": 16, "requests": 7, "billing": 18,
    "deployments": 8, "playground": 10, "activity": 9,
}  # fmt: skip
PINNED_OPERATOR = {
    "operator-organisations": 11,
    "operator-prices": 9,
    "operator-fleet": 9,
    "operator-mail": 6,
    "operator-payments": 9,
    **{"operator-revenue": 10, "operator-risk": 18, "operator-reconciliation": 10, "operator-records": 13},
    **{"operator-proofs": 7, "operator-reratings": 8, "operator-audit": 8},
    "operator-plans": 10,
    "operator-margins": 14,
}


def count(member: Member, name: str) -> int:
    with CaptureQueriesContext(connection) as seen:
        assert member.client.get(reverse(f"console:{name}")).status_code == 200
    return len(seen)


@pytest.mark.parametrize("name", PINNED)
def test_pages(world: World, member: Member, name: str):
    fill(world, member, 1)
    few = count(member, name)
    fill(world, member, 5)
    assert count(member, name) == few
    assert few == PINNED[name]


@pytest.mark.parametrize("name", PINNED_OPERATOR)
def test_operator_pages(world: World, name: str):
    fill(world, world.member(), 1)
    few = count(world.operator, name)
    for _ in range(3):
        fill(world, world.member(), 1)
    assert count(world.operator, name) == few
    assert few == PINNED_OPERATOR[name]


def fill(world: World, member: Member, times: int) -> None:
    for _ in range(times):
        suffix = len(world.offsets) + sum(world.offsets.values())
        adapter = world.adapter(member, name=f"adapter-{suffix}")
        world.use(member, adapter=adapter)
        world.use(member, finish="error")
