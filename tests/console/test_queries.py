"""How many queries a page takes does not grow with what it shows."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from kindling_billing.notices import LOW_BALANCE, notice_add
from kindling_console_world import Member, World

LOW = {"balance_picousd": "0", "threshold_picousd": "1"}
# Session, user, membership, and for whole pages balance, shortages and stand-ins are in each.
PINNED = {
    "home": 21, "home-live": 16, "catalog": 12, "adapters": 11, "keys": 9, "usage": 19, "requests": 9, "billing": 20,
    "deployments": 10, "playground": 12, "activity": 11,
    "limits": 17, "team": 14, "search": 8,
}  # fmt: skip
PINNED_OPERATOR = {
    "operator-organisations": 13,
    "operator-prices": 10,
    "operator-fleet": 10,
    "operator-mail": 13,
    "operator-payments": 10,
    **{"operator-revenue": 11, "operator-risk": 23, "operator-reconciliation": 11, "operator-records": 14},
    **{"operator-proofs": 8, "operator-reratings": 9, "operator-audit": 9},
    "operator-plans": 11,
    "operator-margins": 15,
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
        notice_add(kind=LOW_BALANCE, key=f"test:{suffix}", owner_id=member.org.id, data=LOW)
