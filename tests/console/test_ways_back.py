"""A form that is not taken leads back to its page, and so does its address when somebody opens it."""

import pytest
from django.test import Client
from django.urls import URLPattern, get_resolver, reverse

from kindling_console.ways_back import IS_PAGE
from kindling_console_world import Member, World

LIMIT = "/console/billing/limit/"
LOGIN = "/accounts/login/?next="
SAID = "Nothing was saved: you were signed out"


def back_of(referer: str, **headers: str) -> str:
    client = Client()
    reply = client.post(LIMIT, {"limit": "5"}, headers={"Referer": referer, **headers})
    target = reply["HX-Redirect"] if "HX-Request" in headers else reply["Location"]
    assert SAID in client.get(target).content.decode()
    return target


def test_signing_in_leads_to_the_page_that_holds_the_form_and_says_what_became_of_it(world: World):
    client = Client()
    page = "http://testserver/console/billing/?kind=credit"
    reply = client.post(LIMIT, {"limit": "5"}, headers={"Referer": page}, follow=True)
    assert reply.redirect_chain == [(f"{LOGIN}/console/billing/%3Fkind%3Dcredit", 302)]
    assert SAID in reply.content.decode()


@pytest.mark.parametrize(
    "referer",
    [
        "",
        "https://elsewhere.example/console/keys/",
        "http://testserver//elsewhere.example/",
        "http://[",
        "about:blank",
    ],
)
def test_a_page_elsewhere_is_not_gone_back_to(world: World, referer: str):
    assert back_of(referer) == f"{LOGIN}/console/billing/"


def test_a_fragments_form_makes_the_whole_page_sign_in(world: World):
    current = {"HX-Request": "true", "HX-Current-URL": "http://testserver/console/billing/?kind=usage"}
    assert (
        back_of("http://testserver/console/billing/", **current) == f"{LOGIN}/console/billing/%3Fkind%3Dusage"
    )
    crafted = current | {"HX-Current-URL": "http://testserver//elsewhere.example/"}
    assert back_of("", **crafted) == f"{LOGIN}/console/billing/"


@pytest.mark.parametrize(
    ("address", "page"),
    [
        ("billing/limit/", "billing/"), ("billing/auto/off/", "billing/"), ("billing/invoices/inv_x/pay/", "billing/"),
        ("theme/", ""), ("organisation/", ""), ("playground/run/", "playground/"),
        ("operator/organisations/org_x/refund/", "operator/organisations/org_x/"),
        # The page above it is a day's, and this is about a movement.
        ("operator/reconciliation/ch_x/accept/", "operator/reconciliation/"),
    ],
)  # fmt: skip
def test_opening_a_forms_address_leads_to_its_page(member: Member, world: World, address: str, page: str):
    client = world.operator.client if address.startswith("operator") else member.client
    found = client.get(f"/console/{address}")
    assert (found.status_code, found["Location"]) == (302, f"/console/{page}")


def test_no_address_of_the_console_is_an_empty_refusal(world: World):
    (console,) = [one for one in get_resolver().url_patterns if getattr(one, "app_name", "") == "console"]
    operator = world.operator.client
    tried = 0
    for pattern in console.url_patterns:
        assert isinstance(pattern, URLPattern)
        if hasattr(pattern.callback, IS_PAGE):
            continue
        names = pattern.pattern.regex.groupindex
        values = {name: "remove" if name == "action" else "any-0" for name in names}
        reply = operator.get(reverse(f"console:{pattern.name}", kwargs=values))
        assert reply.status_code == 302 and reply["Location"].startswith("/console/"), pattern.name
        tried += 1
    assert tried > 15


def test_other_methods_are_refused_on_a_page(member: Member):
    for address in (LIMIT, "/console/usage/", "/console/theme/", "/console/playground/run/"):
        reply = member.client.put(address)
        assert reply.status_code == 405, address
        assert "POST" in reply["Allow"] or "GET" in reply["Allow"]
        assert "<h1>This address does not take that</h1>" in reply.content.decode()
