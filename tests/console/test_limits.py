"""The pages of limits: what is set, what is spent of it, and who may change it."""

import re
from datetime import timedelta

import pytest
from django.urls import reverse

from kindling_console_world import Member, World, sign_in
from kindling_platform.accounts.models import Membership
from kindling_platform.accounts.services import user_register
from kindling_platform.common.clock import now
from kindling_platform.keys.limits import limits_get
from kindling_platform.keys.models import ApiKey
from kindling_platform.keys.services import key_revoke, key_rotate

pytestmark = pytest.mark.django_db
COST = 3_000_000
LIMITS = "/console/limits/"
PART = {"HX-Request": "true"}


def colleague(member: Member, role: str) -> Member:
    """Somebody else of the same organisation."""
    user = user_register(email=f"{role}-{member.org.slug}@example.com", password="a long password")
    Membership.objects.filter(user=user).update(organisation=member.org, role=role)
    return sign_in(user)


def row_of(html: str, id_: str) -> str:
    found = re.search(rf'<tr id="limits-{id_}".*?</tr>', html, re.DOTALL)
    assert found, id_
    return found[0]


def test_a_key_is_limited_and_the_form_shows_it(world: World, member: Member):
    key = member.key()
    url = reverse("console:key-limits", args=[key.id])
    assert url in member.client.get(reverse("console:keys")).content.decode()
    reply = member.client.post(url, {"requests_per_minute": "60", "budget_month_picousd": "$1,250.50"})
    assert (reply.status_code, reply["Location"]) == (303, reverse("console:limits"))
    limits = limits_get(org=member.org, key_id=key.id)
    assert (limits.requests_per_minute, limits.budget_month_picousd) == (60, 125_050 * 10**10)
    html = member.client.get(url).content.decode()
    assert 'value="60"' in html
    assert 'value="1250.50"' in html
    member.client.post(url, {"budget_month_picousd": "5"})
    assert 'value="5.00"' in member.client.get(url).content.decode()
    # What is less than is shown elsewhere is kept by a form that is sent as it came.
    member.client.post(url, {"budget_month_picousd": "0.000000000001"})
    assert 'value="0.000000000001"' in member.client.get(url).content.decode()
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


def test_one_page_shows_what_is_spent_of_every_budget(world: World, member: Member):
    friend = colleague(member, "developer")
    mine, theirs = member.key("mine"), friend.key("theirs")
    world.use(member, key_id=mine.id, requests=2)
    world.use(member, key_id=theirs.id)
    own = {"budget_month_picousd": "0.000010", "budget_day_picousd": "", "alert_percents": "90"}
    assert member.client.post(LIMITS, own).status_code == 303
    member.client.post(reverse("console:key-limits", args=[mine.id]), {"budget_day_picousd": "0.000006"})
    member.client.post(
        reverse("console:member-limits", args=[friend.user.id]),
        {"budget_month_picousd": "0.000012", "requests_per_minute": "60"},
    )
    html = member.client.get(LIMITS).content.decode()
    (whole,) = re.findall(r'<dl class="meters">.*?</dl>', html, re.DOTALL)
    assert re.findall(r"([0-9]+) % of the budget this month", whole) == ["90"]
    assert whole.count(">$0.000009<") == 3
    assert "100 % of the budget today of mine" in row_of(html, mine.id)
    assert "Used up" in row_of(html, mine.id)
    assert "25 % of the budget this month" in row_of(html, friend.user.id)
    assert "60 requests a minute" in row_of(html, friend.user.id)
    assert "$0.000006" in row_of(html, member.user.id) and "none of its own" in row_of(html, member.user.id)
    assert limits_get(org=member.org).alert_percents == [90]
    assert "Letters come at 90 %." in member.client.get("/console/billing/").content.decode()


def test_a_row_is_changed_in_place_and_errors_stand_beside_their_field(world: World, member: Member):
    key = member.key("mine")
    url = reverse("console:key-limits", args=[key.id])
    form = member.client.get(url, headers=PART).content.decode()
    assert form.startswith("<tr id=") and f'hx-post="{url}"' in form
    refused = member.client.post(url, {"budget_day_picousd": "much"}, headers=PART)
    assert refused.status_code == 422
    name = f"limit-{key.id}-budget_day_picousd"
    field = (
        rf'<input class="form-control" id="{name}"[^>]* aria-invalid="true"[^>]*="{name}-error" autofocus>'
    )
    assert re.search(rf'{field}<p class="field-error" id="{name}-error"', refused.content.decode())
    saved = member.client.post(url, {"budget_day_picousd": "7", "alert_percents": "50 %, 75"}, headers=PART)
    row = row_of(saved.content.decode(), key.id)
    assert (saved.status_code, "of $7.00" in row, "Saved" in row) == (200, True, True)
    assert limits_get(org=member.org, key_id=key.id).alert_percents == [50, 75]
    assert "<form" not in member.client.get(f"{url}?row=1", headers=PART).content.decode()


def test_the_organisations_own_budgets_are_saved_in_place(world: World, member: Member):
    reply = member.client.post(LIMITS, {"budget_total_picousd": "0"}, headers=PART)
    assert (reply.status_code, "field-error" in reply.content.decode()) == (422, True)
    reply = member.client.post(LIMITS, {"budget_total_picousd": "12.50", "alert_percents": ""}, headers=PART)
    html = reply.content.decode()
    assert (reply.status_code, "of $12.50" in html, "<html" in html) == (200, True, False)
    bill = member.client.get("/console/billing/").content.decode()
    assert "No letters come before." in bill
    found = limits_get(org=member.org)
    assert (found.budget_total_picousd, found.alert_percents) == (125 * 10**11, [])
    # Its rates are the operator's: whoever sends them changes nothing.
    member.client.post(LIMITS, {"requests_per_minute": "1"})
    assert limits_get(org=member.org).requests_per_minute is None


@pytest.mark.parametrize("shares", ["0", "101", "many", "-5", "1 2 3 4 5 6", "50,,x"])
def test_odd_shares_are_refused_beside_their_field(world: World, member: Member, shares: str):
    reply = member.client.post(LIMITS, {"alert_percents": shares})
    assert reply.status_code == 422
    assert re.search(r'-alert_percents-error" role="alert">', reply.content.decode())
    assert limits_get(org=member.org).alert_percents == [50, 80, 100]


def test_a_rotated_key_is_one_row_with_the_spending_of_both(world: World, member: Member):
    first = member.key("mine")
    world.use(member, key_id=first.id)
    last, _ = key_rotate(org=member.org, key_id=first.id, overlap=timedelta(hours=1), actor=member.actor)
    world.use(member, key_id=last.id)
    html = member.client.get(LIMITS).content.decode()
    assert "$0.000006" in row_of(html, last.id)
    assert f'id="limits-{first.id}"' not in html
    key_revoke(org=member.org, key_id=last.id, actor=member.actor)
    ApiKey.objects.filter(id=first.id).update(expires_at=now())
    assert "No live key" in member.client.get(LIMITS).content.decode()


@pytest.mark.parametrize(
    ("role", "own", "members", "keys"),
    [("admin", 1, 2, 1), ("developer", 0, 0, 1), ("viewer", 0, 0, 0), ("billing", 1, 0, 0)],
)
def test_each_role_changes_what_is_its_own(member: Member, role: str, own: int, members: int, keys: int):
    friend, key = colleague(member, role), member.key("mine")
    html = friend.client.get(LIMITS).content.decode()
    assert html.count("Save budgets</button>") == own
    assert len(re.findall(r'href="/console/limits/members/', html)) == members
    assert len(re.findall(r'href="/console/keys/[^"]+/limits/"', html)) == keys
    assert (key.name in html) == (role != "billing")
    tried = {
        LIMITS: own,
        reverse("console:member-limits", args=[member.user.id]): members,
        reverse("console:key-limits", args=[key.id]): keys,
    }
    for url, may in tried.items():
        status = friend.client.post(url, {"budget_month_picousd": "5"}).status_code
        assert status == (303 if may else 403), url


def test_the_team_page_tells_roles_and_what_each_member_spent(world: World, member: Member):
    friend = colleague(member, "viewer")
    world.use(member, requests=3)
    html = member.client.get("/console/team/").content.decode()
    found = re.findall(r"<tr>.*?</tr>", html, re.DOTALL)
    rows = {one.user.email: row for row in found for one in (member, friend) if f">{one.user.email}<" in row}
    assert "$0.000009" in rows[member.user.email] and "Owner" in rows[member.user.email]
    assert ">$0<" in rows[friend.user.email] and "Viewer" in rows[friend.user.email]
    url = reverse("console:member-limits", args=[friend.user.id])
    assert url in rows[friend.user.email]
    assert url not in friend.client.get("/console/team/").content.decode()
    friend.role("billing")
    assert friend.client.get("/console/team/").status_code == 403
