"""Billing: balance to the micro-dollar, and a cause for every row."""

from django.urls import reverse

from kindling_billing.services import credit_grant
from kindling_console_world import Member, World

URL = "/console/billing/"


def test_every_row_links_to_its_cause(world: World, member: Member):
    (request_id,) = world.use(member)
    html = member.client.get(URL).content.decode()
    assert f'<a href="/console/usage/requests/{request_id}/">Usage of kindling/spark</a>' in html
    assert "−$0.000003" in html
    assert '<a href="#credits">' in html
    assert "+$1.00" in html
    assert "$0.999997" in html


def test_the_way_to_more_credit_is_said_plainly(world: World, member: Member):
    html = member.client.get(URL).content.decode()
    assert "There is no payment by card yet." in html
    assert member.org.slug in html
    assert reverse("console:operator-organisations") not in html
    assert reverse("console:operator-organisations") in world.operator.client.get(URL).content.decode()


def test_kinds_can_be_chosen(world: World, member: Member):
    (request_id,) = world.use(member)
    assert request_id not in member.client.get(URL, {"kind": "credit"}).content.decode()
    usage = member.client.get(URL, {"kind": "usage"}).content.decode()
    assert request_id in usage
    assert '<a href="#credits">' not in usage


def test_large_balances_show_cents(member: Member):
    credit_grant(
        owner_id=member.org.id,
        amount_picousd=1_233 * 10**12,
        source_id="test:large",
        memo="Large",
        actor_id="test",
    )
    assert "$1,234.00" in member.client.get(URL).content.decode()


def test_the_ledger_is_paged(world: World, member: Member):
    world.use(member, requests=60)
    first = member.client.get(URL).content.decode()
    cursor = first.split("cursor=")[1].split("#")[0]
    second = member.client.get(URL, {"cursor": cursor}).content.decode()
    assert first.count("Usage of kindling/spark") == 50
    assert second.count("Usage of kindling/spark") == 10
