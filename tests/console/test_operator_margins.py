"""Margins: what a model brought in and cost, by day and month, beside a hosted price, in a sentence."""

import csv
import io
import re
from datetime import datetime, timedelta

import pytest
from django.urls import reverse

from kindling_billing.margins import Margin, Quote
from kindling_billing.models import HostedPrice, HourCost
from kindling_console.findings import even_point, finding_of
from kindling_console_world import Member, World
from kindling_platform.audit.models import AuditEvent
from kindling_platform.common.clock import now
from kindling_platform.deployments.models import ReplicaHour, ReplicaInterval
from kindling_platform.usage.models import UsageSeries

ALL = "/console/operator/margins/"
DOLLAR, HOUR_US = 10**12, 3_600_000_000
QUOTE = {"do": "quote", "input": "0.5", "output": "$1.00", "source": "A provider", "quoted_on": "2026-11-01"}


@pytest.fixture
def one(world: World) -> str:
    return reverse("console:operator-margin", args=[world.model.id])


@pytest.fixture
def october(world: World, member: Member) -> datetime:
    """Ten hours of a replica, a quarter of them busy, and ten million tokens in October 2026."""
    start = datetime.fromisoformat("2026-10-05T20:00:00+00:00")
    ran = ReplicaInterval.objects.create(
        organisation_id=world.operator.org.id, deployment_id=world.deployment.id, model_id=world.model.id,
        replica_name="r", pid=1, restarts=0, started_at=start, last_seen_at=start + timedelta(hours=10),
    )  # fmt: skip
    for hour in range(10):
        ReplicaHour.objects.create(
            interval=ran, hour=start + timedelta(hours=hour), looked_us=HOUR_US, busy_us=HOUR_US // 4
        )
    for hour in (start, start + timedelta(hours=5)):
        UsageSeries.objects.create(
            organisation_id=member.org.id, facet="model", step=hour, value=world.model.id, requests=9,
            prompt_tokens=4_000_000, cached_tokens=0, completion_tokens=1_000_000, cost_picousd=3 * DOLLAR,
        )  # fmt: skip
    return start


def shown(world: World, url: str) -> str:
    return world.operator.client.get(url, {"month": "2026-10"}).content.decode()


def test_a_month_says_whether_to_serve_or_to_buy(world: World, one: str, october: datetime):
    assert "Enter what an hour of a replica costs" in shown(world, ALL)
    cost = {"do": "cost", "cost": "0.42", "note": "A machine", "valid_from": "2026-01-01T00:00"}
    assert world.operator.client.post(ALL, cost).status_code == 303
    assert "Enter a hosted price to compare" in shown(world, one)
    assert world.operator.client.post(one, QUOTE).status_code == 303
    html = shown(world, one)
    # 10 h at $0.42 for 10 M tokens; elsewhere 8 M × $0.50 + 2 M × $1.00.
    assert "Self-hosting cost $0.42 per million tokens; the hosted price is $0.60." in html
    assert "Self-hosting is 30 % cheaper." in html
    assert "served 1,000,000 tokens an hour" in html
    assert "pays from 700,000 tokens an hour on" in html
    assert "25.0 %" in html
    assert "A provider" in html
    # The day before midnight and the day after it.
    assert "2026-10-05" in html
    assert "2026-10-06" in html
    assert 'title="$1.680000000000"' in html
    assert 'title="$2.520000000000"' in html
    overview = shown(world, ALL)
    assert 'title="$4.200000000000"' in overview
    assert 'title="$6.000000000000"' in overview
    assert "30.0 %" in overview  # the margin of $1.80


def test_a_month_is_downloaded_by_day(world: World, october: datetime):
    world.operator.client.post(ALL, {"cost": "0.42", "valid_from": "2026-01-01T00:00"})
    reply = world.operator.client.get(reverse("console:operator-margins-csv"), {"month": "2026-10"})
    assert 'filename="margins-2026-10.csv"' in reply["Content-Disposition"]
    rows = list(csv.DictReader(io.StringIO(b"".join(reply).decode())))
    assert [(row["model"], row["day"]) for row in rows] == [
        ("kindling/spark", f"2026-10-0{day}") for day in (5, 6)
    ]
    assert sum(int(row["cost_picousd"]) for row in rows) == 42 * DOLLAR // 10
    assert sum(int(row["running_us"]) for row in rows) == 10 * HOUR_US


def test_a_models_own_cost_holds_for_it(world: World, one: str, october: datetime):
    for url, cost in ((ALL, "1"), (one, "2")):
        world.operator.client.post(url, {"do": "cost", "cost": cost, "valid_from": "2026-01-01T00:00"})
    assert 'title="$20.000000000000"' in shown(world, ALL)
    assert {row.sku for row in HourCost.objects.all()} == {"", world.model.id}
    actions = AuditEvent.objects.filter(action="cost.entered").values_list("target", flat=True)
    assert set(actions) == {"every model", world.model.id}


def test_time_before_any_cost_is_named(world: World, october: datetime):
    world.operator.client.post(ALL, {"cost": "1", "valid_from": "2026-10-06T00:00"})
    html = shown(world, ALL)
    assert "4.00 without a cost" in html
    assert 'title="$6.000000000000"' in html


def test_other_months_are_reached_by_address(world: World, one: str, october: datetime):
    for month in ("2026-09", "", "2026-13", "x", "2099-01"):
        for url in (ALL, one):
            reply = world.operator.client.get(url, {"month": month})
            assert reply.status_code == 200
            assert 'title="$6.000000000000"' not in reply.content.decode()
    assert "?month=2026-09" in shown(world, ALL)
    january = world.operator.client.get(ALL, {"month": "2026-01"}).content.decode()
    assert "?month=2025-12" in january
    assert "?month=2026-02" in january
    this = f"{now():%Y-%m}"
    assert f"?month={this}" in world.operator.client.get(ALL, {"month": "2099-01"}).content.decode()


@pytest.mark.parametrize(
    "changes", [{"cost": ""}, {"cost": "-1"}, {"cost": "10001"}, {"cost": "x"}, {"valid_from": "x"}]
)
def test_odd_costs_are_refused(world: World, one: str, changes: dict[str, str]):
    for url in (ALL, one):
        assert world.operator.client.post(url, {"do": "cost", "cost": "1", **changes}).status_code == 422
    assert not HourCost.objects.exists()


@pytest.mark.parametrize(
    "changes",
    [{"input": ""}, {"output": "-1"}, {"cached_input": "x"}, {"source": " "}, {"quoted_on": ""},
     {"quoted_on": "2099-01-01"}, {"input": "1e999999"}, {"input": "1000001"}],
)  # fmt: skip
def test_odd_quotes_are_refused(world: World, one: str, changes: dict[str, str]):
    assert world.operator.client.post(one, QUOTE | changes).status_code == 422
    assert not HostedPrice.objects.exists()


def test_a_model_that_is_not_there_is_not_found(world: World):
    url = reverse("console:operator-margin", args=["mdl_none"])
    assert world.operator.client.get(url).status_code == 404
    assert world.operator.client.post(url, QUOTE).status_code == 404


def test_members_see_no_margin(world: World, member: Member, one: str):
    assert member.client.get(reverse("console:operator-margins-csv")).status_code == 403
    for url in (ALL, one):
        assert member.client.get(url).status_code == 403
        assert member.client.post(url, {"do": "cost", "cost": "1"}).status_code == 403
    assert not HourCost.objects.exists()


@pytest.mark.parametrize(
    ("hosted", "said", "cheaper"),
    [
        (840_000, "50 % cheaper", True), (420_000, "They are the same.", True), (300_000, "40 % dearer", False),
        (100_000, "costs 4.2 times as much", False), (1_000, "costs 420 times as much", False),
        (0, "Buying costs nothing.", False),
    ],
)  # fmt: skip
def test_the_sentence_says_by_how_much(hosted: int, said: str, cheaper: bool):
    margin = Margin(prompt_tokens=10_000_000, running_us=10 * HOUR_US, cost_picousd=42 * DOLLAR // 10)
    finding = finding_of(margin, Quote(hosted, None, hosted))
    assert said in finding.text
    assert finding.is_cheaper is cheaper


def test_without_tokens_or_replicas_nothing_is_said():
    assert "No token was served" in finding_of(Margin(running_us=5), None).text
    assert "No replica was seen running" in finding_of(Margin(prompt_tokens=5), None).text
    assert even_point(Margin(prompt_tokens=5), Quote(1, None, 1)) == ""


def test_the_months_are_named_by_what_one_sees(world: World):
    html = world.operator.client.get("/console/operator/margins/?month=2026-03").content.decode()
    nav = re.search(r'<nav class="segments" aria-label="Month">.*?</nav>', html)
    assert nav
    for month, words in (("2026-02", "the month before"), ("2026-04", "the month after")):
        assert f'{month}<span class="visually-hidden">, {words}</span>' in nav[0]
    assert nav[0].count("aria-label") == 1
