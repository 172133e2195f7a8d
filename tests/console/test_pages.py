"""Every page opens for those it is for, and says what it is about."""

import re
from collections import Counter

import pytest
from django.test import Client
from django.urls import reverse

from kindling_console_world import Member, World

pytestmark = pytest.mark.django_db
PLAIN = [
    "home", "catalog", "playground", "adapters", "adapter-upload", "deployments", "keys", "usage", "requests",
    "billing", "limits", "team", "account", "settings", "request-log", "activity", "home-live",
    "search", "deployment-new", "webhooks",
]  # fmt: skip
OPERATOR = [
    "operator-organisations",
    "operator-prices",
    "operator-fleet",
    "operator-mail",
    "operator-payments",
    *("operator-revenue", "operator-risk", "operator-reconciliation", "operator-records", "operator-proofs"),
    *("operator-reratings", "operator-audit"),
    "operator-price-table",
    "operator-plans",
    "operator-margins",
    "operator-status",
]


def whole(html: str) -> None:
    assert len(re.findall(r"<h1[ >]", html)) == 1
    assert html.count("<main ") == 1
    assert 'class="skip"' in html
    assert 'id="status" role="status"' in html
    assert re.search(r"<title>[^<]+· Kindling</title>", html)
    # Nothing that the content security policy would refuse.
    assert " style=" not in html
    assert " onclick=" not in html
    assert "hx-on" not in html
    assert not re.search(r"<script(?![^>]*(src=|application/json))", html)
    ids = Counter(re.findall(r'\sid="([^"]*)"', html))
    assert [name for name, count in ids.items() if count > 1] == []
    # In an address or a text, a missing variable would show as this.
    assert "None<" not in html


@pytest.fixture(scope="module")
def new(kept_world: World) -> Member:
    """A customer with nothing."""
    return kept_world.member("new")


@pytest.fixture(scope="module")
def rich(kept_world: World) -> Member:
    """A customer with everything."""
    member = kept_world.member("rich")
    adapter = kept_world.adapter(member)
    kept_world.adapter(member, name="late", state="validating", report={})
    kept_world.adapter(member, name="bad", state="rejected", error_code="rank", error="The rank is 0.")
    kept_world.use(member, requests=3)
    kept_world.use(member, requests=1, adapter=adapter)
    kept_world.use(member, finish="error", completion_tokens=0, first_token_ms=None)
    return member


@pytest.mark.parametrize("name", PLAIN)
def test_pages_open_for_a_new_customer_with_nothing(new: Member, name: str):
    reply = new.again().client.get(reverse(f"console:{name}"))
    assert reply.status_code == 200
    html = reply.content.decode()
    if name != "home-live":
        whole(html)


@pytest.mark.parametrize("name", PLAIN)
def test_pages_open_for_a_customer_with_everything(rich: Member, name: str):
    reply = rich.again().client.get(reverse(f"console:{name}"))
    assert reply.status_code == 200
    if name != "home-live":
        whole(reply.content.decode())


@pytest.mark.parametrize("name", OPERATOR)
def test_operator_pages_open_for_the_operator_alone(world: World, new: Member, name: str):
    reply = world.operator.client.get(reverse(f"console:{name}"))
    assert reply.status_code == 200
    whole(reply.content.decode())
    assert new.again().client.get(reverse(f"console:{name}")).status_code == 403


def test_pages_of_single_objects_open(world: World, member: Member):
    adapter = world.adapter(member)
    (request_id,) = world.use(member, adapter=adapter)
    key = member.key()
    for name, args in [
        ("model", ["kindling", "spark"]), ("adapter", [adapter.id]), ("adapter-delete", [adapter.id]),
        ("request", [request_id]), ("deployment", [world.deployment.id]), ("key-revoke", [key.id]),
        ("key-rotate", [key.id]), ("key-limits", [key.id]),
    ]:  # fmt: skip
        reply = member.client.get(reverse(f"console:{name}", args=args))
        assert reply.status_code == 200, name
        whole(reply.content.decode())
    for name, argument in [
        ("operator-organisation", member.org.id), ("operator-terms", member.org.id),
        ("operator-margin", world.model.id),
    ]:  # fmt: skip
        reply = world.operator.client.get(reverse(f"console:{name}", args=[argument]))
        assert reply.status_code == 200, name
        whole(reply.content.decode())


def test_every_page_says_that_the_model_is_a_stand_in(world: World, member: Member):
    for name in set(PLAIN) - {"home-live"}:
        html = member.client.get(reverse(f"console:{name}")).content.decode()
        assert "is a stand-in" in html, name
    world.model.is_stand_in = False
    world.model.save()
    assert "is a stand-in" not in member.client.get(reverse("console:home")).content.decode()


def test_a_stand_in_that_is_not_to_run_is_not_told_of(world: World, member: Member):
    world.deployment.desired_state = "stopped"
    world.deployment.save()
    assert "is a stand-in" not in member.client.get(reverse("console:home")).content.decode()
    assert "tiny stand-in" not in Client().get(reverse("account_login")).content.decode()


def test_several_stand_ins_are_told_in_one_sentence(world: World, member: Member):
    for name in ("spark-embed", "spark-two"):
        world.model.pk, world.model.name, world.model._state.adding = f"mdl_{name}", name, True
        world.model.save()
        deployment = world.deployment
        deployment.pk, deployment.name, deployment._state.adding = f"dep_{name}", name, True
        deployment.model = world.model
        deployment.save()
    for html in (member.client.get(reverse("console:home")), Client().get(reverse("account_login"))):
        text = re.sub(r"<[^>]+>", "", html.content.decode())
        names = "kindling/spark, kindling/spark-embed and kindling/spark-two"
        assert re.search(rf"{names}(, the models served here,)? are (tiny )?stand-ins", text), text
        assert "wrong.kindling" not in text


@pytest.mark.parametrize("name", ["account_login", "account_signup"])
def test_the_entrance_says_so_too(world: World, client: Client, name: str):
    assert "tiny stand-in" in client.get(reverse(name)).content.decode()
