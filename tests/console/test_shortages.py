"""Every page says when credit or a budget is used up, how long requests are refused, and who can change it."""

import pytest
from django.urls import reverse

from kindling_billing.services import usage_post
from kindling_billing.usage import UsageCharge
from kindling_console_world import Member, World
from kindling_platform.keys.limits import limits_set

DOLLAR = 10**12
PAGES = ["home", "keys", "billing", "usage"]


def said(member: Member, name: str = "home") -> str:
    """What stands above the page's own parts."""
    html = member.client.get(reverse(f"console:{name}")).content.decode()
    return html.split('<div id="stop"')[1].split("page-head")[0]


def budget(member: Member, **picousd: int) -> None:
    values = {f"budget_{period}_picousd": amount for period, amount in picousd.items()}
    limits_set(org=member.org, values=values, actor=member.actor)


@pytest.mark.parametrize(
    ("period", "words", "until"),
    [
        ("day", "The budget of today is used up", "until 00:00 UTC"),
        ("month", "The budget of this month is used up", "until the 1st, 00:00 UTC"),
        ("total", "The budget in all is used up", "requests are refused."),
    ],
)
def test_a_budget_that_is_used_up_is_said_on_every_page(
    world: World, member: Member, period: str, words: str, until: str
):
    world.use(member)  # for 3,000,000 pico-dollars
    budget(member, **{period: 3_000_000})
    for name in PAGES:
        html = said(member, name)
        assert words in html and until in html, name
        assert f'href="{reverse("console:limits")}"' in html
    budget(member, **{period: 400_000_000})
    assert "refused" not in said(member)


def test_what_is_left_of_a_budget_may_cover_no_request(world: World, member: Member):
    world.use(member)
    budget(member, day=3_000_001, month=DOLLAR)
    assert "Less than a hundredth of the budget of today is left" in said(member)
    # A larger budget for a day is of no use while the month's is used up.
    budget(member, month=3_000_000)
    assert "of this month is used up" in said(member)


@pytest.mark.parametrize(
    ("spent", "words"),
    [
        (DOLLAR, "There is no credit left: requests are refused."),
        (DOLLAR - 1, "Less than a cent of credit is left"),
        (DOLLAR // 2, ""),
    ],
)
def test_credit_that_is_used_up_is_said(world: World, member: Member, spent: int, words: str):
    usage_post([UsageCharge(owner_id=member.org.id, request_id="r1", cost_picousd=spent, memo="")])
    html = said(member)
    assert words in html and ("refused" in html) == bool(words)
    if words:
        assert f'href="{reverse("console:billing")}#add"' in html


def test_who_cannot_change_it_is_told_who_can(world: World, member: Member):
    world.use(member)
    budget(member, day=3_000_000)
    member.role("viewer")
    html = said(member)
    assert "is used up" in html and "<a " not in html and "Owners, admins" in html
