"""Plans and terms: made, given to organisations from a day on, refused where they cannot be."""

from datetime import timedelta

import pytest
from django.urls import reverse

from kindling_billing.models import PlanTerm, PricePlan
from kindling_billing.plans import plan_create
from kindling_billing.terms import terms_get
from kindling_console_world import Member, World
from kindling_platform.common.clock import now

PLANS = "/console/operator/prices/plans/"
TERMS = {
    "do": "terms",
    "mode": "postpaid",
    "credit_limit": "$1,500.00",
    "net_days": "30",
    "tax_percent": "19",
}


@pytest.fixture
def url(member: Member) -> str:
    return reverse("console:operator-terms", args=[member.org.id])


def test_a_plan_is_made_and_shows_who_is_on_it(world: World, member: Member, url: str):
    assert world.operator.client.post(PLANS, {"name": "Partner"}).status_code == 303
    plan = PricePlan.objects.get()
    assert "Give it a price" in world.operator.client.get(PLANS).content.decode()
    assert world.operator.client.post(url, {"do": "plan", "plan": plan.id}).status_code == 303
    html = world.operator.client.get(PLANS).content.decode()
    assert member.org.name in html
    assert world.operator.client.post(PLANS, {"name": "Partner"}).status_code == 422
    assert world.operator.client.post(PLANS, {"name": ""}).status_code == 422


def test_a_plan_to_come_is_shown_as_such(world: World, member: Member, url: str):
    plan = plan_create(name="Partner")
    soon = f"{now() + timedelta(days=2):%Y-%m-%dT%H:%M}"
    world.operator.client.post(url, {"do": "plan", "plan": plan.id, "valid_from": soon})
    html = world.operator.client.get(url).content.decode()
    assert "To come" in html
    assert PlanTerm.objects.get().owner_id == member.org.id


@pytest.mark.parametrize(
    "changes", [{"plan": "pln_gone"}, {"valid_from": "2020-01-01T00:00"}, {"valid_from": "x"}]
)
def test_odd_plans_are_refused(world: World, url: str, changes: dict[str, str]):
    assert world.operator.client.post(url, {"do": "plan", "plan": "", **changes}).status_code == 422
    assert not PlanTerm.objects.exists()


def test_terms_are_set(world: World, member: Member, url: str):
    assert world.operator.client.post(url, TERMS).status_code == 303
    terms = terms_get(owner_id=member.org.id)
    assert (terms.mode, terms.credit_limit_picousd // 10**12, terms.net_days) == ("postpaid", 1500, 30)
    assert terms.tax_basis_points == 1900
    html = world.operator.client.get(url).content.decode()
    assert "up to $1,500.00, due after 30 days" in html
    assert 'value="1500.00"' in html


@pytest.mark.parametrize(
    "changes",
    [{"mode": "never"}, {"credit_limit": "-1"}, {"credit_limit": "1000001"}, {"credit_limit": "much"},
     {"net_days": "121"}, {"net_days": ""}, {"tax_percent": "101"}, {"tax_percent": "1.999"}, {"tax_percent": "NaN"}],
)  # fmt: skip
def test_odd_terms_are_refused(world: World, member: Member, url: str, changes: dict[str, str]):
    assert world.operator.client.post(url, TERMS | changes).status_code == 422
    assert terms_get(owner_id=member.org.id).version == 0


def test_members_change_no_terms(world: World, member: Member, url: str):
    assert member.client.post(url, TERMS).status_code == 403
    assert member.client.post(PLANS, {"name": "Mine"}).status_code == 403
    assert terms_get(owner_id=member.org.id).version == 0
