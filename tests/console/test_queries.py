"""How many queries a page takes does not grow with what it shows."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from kindling_billing.notices import LOW_BALANCE, notice_add
from kindling_console_world import Member, World
from kindling_shared import shared

LOW = {"balance_picousd": "0", "threshold_picousd": "1"}
# Session, user, membership, and for whole pages balance, shortages, notices and stand-ins are in each.
PINNED = {
    "home": 22, "home-live": 16, "catalog": 13, "adapters": 12, "keys": 10, "usage": 20, "requests": 10, "billing": 21,
    "deployments": 14, "playground": 14, "activity": 12,
    "limits": 18, "team": 16, "search": 9, "shared": 12,
}  # fmt: skip
PINNED_OPERATOR = {
    "operator-organisations": 14,
    "operator-prices": 11,
    "operator-fleet": 11,
    "operator-mail": 14,
    "operator-payments": 11,
    **{"operator-revenue": 12, "operator-risk": 24, "operator-reconciliation": 12, "operator-records": 15},
    **{"operator-proofs": 9, "operator-reratings": 10, "operator-audit": 10},
    "operator-plans": 12,
    "operator-margins": 16,
    "operator-status": 13,
}


@pytest.fixture(scope="module")
def counted(kept_world: World) -> dict[str, list[int]]:
    """The queries of each page, with few things to show and with more."""
    member = kept_world.member("ada")
    fill(kept_world, member, 1)
    few = counts(kept_world, member)
    fill(kept_world, member, 5)
    for _ in range(3):
        fill(kept_world, kept_world.member(), 1)
    more = counts(kept_world, member)
    return {name: [few[name], more[name]] for name in few}


@pytest.mark.parametrize(("name", "queries"), (PINNED | PINNED_OPERATOR).items())
def test_pages(counted: dict[str, list[int]], name: str, queries: int):
    assert counted[name] == [queries, queries]


def counts(world: World, member: Member) -> dict[str, int]:
    return {name: count(member, name) for name in PINNED} | {
        name: count(world.operator, name) for name in PINNED_OPERATOR
    }


def count(member: Member, name: str) -> int:
    with CaptureQueriesContext(connection) as seen:
        assert member.client.get(reverse(f"console:{name}")).status_code == 200
    return len(seen)


def fill(world: World, member: Member, times: int) -> None:
    for _ in range(times):
        suffix = len(world.offsets) + sum(world.offsets.values())
        adapter = world.adapter(member, name=f"adapter-{suffix}")
        world.use(member, adapter=adapter)
        world.use(member, finish="error")
        shared(member)
        notice_add(kind=LOW_BALANCE, key=f"test:{suffix}", owner_id=member.org.id, data=LOW)
