"""A form that is refused shows where: the first thing to mend has the focus and names what speaks against it."""

import re

import pytest
from django.test import Client

from kindling_console_world import Member, World

HTMX = {"HX-Request": "true"}


def focused(html: str) -> list[str]:
    """The elements that take the focus, in the order of the page; a browser takes the first."""
    return re.findall(r"<[a-z]+[^>]* autofocus[^>]*>", html)


def to_mend(html: str) -> str:
    """The name of the field that has the focus, once what it says of itself was seen to be right."""
    first = focused(html)[0]
    name = re.search(r' name="([^"]+)"', first)
    assert name and 'aria-invalid="true"' in first
    described = re.search(r'aria-describedby="([^"]+)"', first)
    assert described
    for id_ in described[1].split():
        assert html.count(f' id="{id_}"') == 1, id_
    assert re.search(rf'id="{described[1].split()[-1]}"[^>]*>(<p [^>]*)?', html)
    return name[1]


@pytest.mark.parametrize(
    ("path", "sent", "field"),
    [
        ("billing/limit/", {"limit": "7.505"}, "limit"),
        ("billing/alert/", {"below": ""}, "below"),
        ("billing/auto/", {"threshold": "5", "amount": "ten", "monthly_cap": "x"}, "amount"),
        ("billing/add/", {"amount": "1"}, "amount"),
        ("billing/details/", {"bill_to": "東京都"}, "bill_to"),
        ("limits/", {"budget_day_picousd": "", "budget_month_picousd": "x"}, "budget_month_picousd"),
        ("settings/", {"days": "5"}, "days"),
        ("account/", {"name": ""}, "name"),
        ("team/", {"email": "nobody", "role": "viewer"}, "email"),
    ],
)
def test_the_first_field_to_mend_has_the_focus(
    member: Member, payments_on, path: str, sent: dict[str, str], field: str
):
    reply = member.client.post(f"/console/{path}", sent)
    assert reply.status_code == 422
    assert to_mend(reply.content.decode()) == field


@pytest.mark.parametrize(
    ("path", "sent", "field"),
    [
        ("limits/", {"budget_day_picousd": "x"}, "budget_day_picousd"),
        ("team/", {"email": "nobody", "role": "viewer"}, "email"),
    ],
)
def test_so_has_it_in_the_part_that_htmx_takes(member: Member, path: str, sent: dict[str, str], field: str):
    reply = member.client.post(f"/console/{path}", sent, headers=HTMX)
    html = reply.content.decode()
    assert reply.status_code == 422 and "<html" not in html
    assert to_mend(html) == field


def test_what_speaks_against_a_whole_form_has_it_where_no_field_does(member: Member, payments_on):
    sent = {"threshold": "5", "amount": "20", "monthly_cap": "10"}
    html = member.client.post("/console/billing/auto/", sent).content.decode()
    assert 'tabindex="-1" autofocus' in focused(html)[0]


def test_the_operators_forms_do_the_same(world: World, member: Member):
    url = f"/console/operator/organisations/{member.org.id}/"
    granted = world.operator.client.post(url, {"amount": "ten", "memo": "", "grant_id": ""})
    assert to_mend(granted.content.decode()) == "amount"
    priced = world.operator.client.post("/console/operator/prices/", {"input": "x"})
    assert to_mend(priced.content.decode()) == "model"


def test_so_do_those_for_signing_in(world: World, client: Client):
    form = {"email": "nobody", "password1": "short", "password2": "short"}
    assert to_mend(client.post("/accounts/signup/", form).content.decode()) == "email"


def test_a_page_that_nothing_was_sent_to_takes_no_focus(member: Member, payments_on):
    assert focused(member.client.get("/console/billing/").content.decode()) == []
