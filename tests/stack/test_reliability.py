"""Servers go away, gateway and engine are killed in turns under fifty streams, again and again; nothing breaks.

Each part has a stack of its own, whose books are read at its end.
"""

import os
from typing import Any

import pytest

from kindling_platform.embedded.bench_reliability.bench import FULL, PARTS, reliability_bench

pytestmark = [pytest.mark.stack, pytest.mark.long, pytest.mark.timeout(900)]
TRIED = ("limits", "cuts", "outages", "kills")


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stack makes its own secrets, and its gateways and this process read them from its folder."""
    for name in [one for one in os.environ if one.startswith("KINDLING_") or one == "DJANGO_SETTINGS_MODULE"]:
        monkeypatch.delenv(name)


def measured(part: str) -> dict[str, Any]:
    found = reliability_bench(quick=False, part=part)
    assert found["violations"] == {f"I{number}": 0 for number in range(1, 11)}
    return found


def test_each_part_but_the_times_is_tried():
    assert set(PARTS) == {"times", *TRIED}


def test_a_limit_a_dollar_and_a_revoked_key_hold_over_four_gateways():
    found = measured("limits")
    assert found["revoked_accepted_late"] == 0
    assert 0.98 <= found["limit_admitted"] <= 1
    assert 0.98 <= found["dollar_spent_usd"] <= 1
    assert found["dollar_failed"] == 0


def test_streams_that_are_cut_are_billed_as_generated():
    found = measured("cuts")
    assert (found["cut_streams"], found["cut_billed"]) == (FULL.streams, 1)


def test_without_cache_or_database_customers_are_answered_or_asked_to_wait():
    found = measured("outages")["outages"]
    assert {name: outage["failed"] for name, outage in found.items()} == dict.fromkeys(found, 0)
    assert all(outage["answered"] for outage in found.values())


def test_kills_lose_and_double_nothing():
    found = measured("kills")
    assert found["kill_loops"] == FULL.loops
    assert found["requests"] >= 50 * FULL.loops * 0.9
