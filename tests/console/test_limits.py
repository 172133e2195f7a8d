"""The pages of limits."""

import pytest
from django.urls import reverse

from kindling_console_world import Member, World
from kindling_platform.keys.limits import limits_get

pytestmark = pytest.mark.django_db


def test_a_key_is_limited_and_the_form_shows_it(world: World, member: Member):
    key = member.key()
    url = reverse("console:key-limits", args=[key.id])
    assert url in member.client.get(reverse("console:keys")).content.decode()
    reply = member.client.post(url, {"requests_per_minute": "60", "budget_month_picousd": "$1,250.50"})
    assert (reply.status_code, reply["Location"]) == (303, reverse("console:keys"))
    limits = limits_get(org=member.org, key_id=key.id)
    assert (limits.requests_per_minute, limits.budget_month_picousd) == (60, 125_050 * 10**10)
    html = member.client.get(url).content.decode()
    assert 'value="60"' in html
    assert 'value="1250.50"' in html
    member.client.post(url, {"budget_month_picousd": "5"})
    assert limits_get(org=member.org, key_id=key.id).requests_per_minute is None


@pytest.mark.parametrize(
    "values", [{"requests_per_minute": "0"}, {"requests_per_minute": "x"}, {"budget_day_picousd": "much"},
               {"budget_day_picousd": "-1"}, {"budget_day_picousd": "0"}]
)  # fmt: skip
def test_what_makes_no_sense_is_said_at_its_field(world: World, member: Member, values: dict):
    key = member.key()
    reply = member.client.post(reverse("console:key-limits", args=[key.id]), values)
    assert reply.status_code == 422
    assert "field-error" in reply.content.decode()
    kept = limits_get(org=member.org, key_id=key.id)
    assert (kept.requests_per_minute, kept.budget_day_picousd) == (None, None)


def test_the_operator_sets_an_organisations_rates(world: World, member: Member):
    url = reverse("console:operator-organisation-limits", args=[member.org.id])
    assert member.client.post(url, {"requests_per_minute": "60000"}).status_code in (403, 404)
    overview = reverse("console:operator-organisation", args=[member.org.id])
    assert url in world.operator.client.get(overview).content.decode()
    reply = world.operator.client.post(url, {"requests_per_minute": "60000"})
    assert reply.status_code == 303
    assert limits_get(org=member.org).requests_per_minute == 60_000
