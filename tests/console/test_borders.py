"""Edges that a page must hold: what leaves by a link, what is typed, and whose name stands where."""

import json

import pytest
from django.conf import settings
from django.urls import reverse

from kindling_billing.terms import terms_set
from kindling_console_world import Member, World
from kindling_departures import confirmed
from kindling_fake_stripe import FakeStripe
from kindling_gpu_time import gpu_price
from kindling_platform.accounts.models import Invitation, Seeing
from kindling_platform.accounts.reauthentication import SIGNED_IN_AT
from kindling_platform.common.clock import now
from kindling_platform.deployments.services import deployment_ensure
from kindling_platform.responses.models import SharedConversation
from kindling_shared import SAID, shared, talk

SHARED, NEW = "/console/playground/shared/", "/console/deployments/new/"


def test_whoever_only_looks_does_not_reach_the_card_providers_page(
    world: World, member: Member, payments_on: FakeStripe
):
    client = confirmed(world.operator.user)
    client.post(
        reverse("console:operator-seeing", args=[member.org.id, member.user.id]), {"reason": "Ticket 1"}
    )
    reply = client.get(reverse("console:billing-portal"))
    assert reply.status_code == 403, reply["Location"]


@pytest.mark.parametrize("odd", ["a\x00b", "\ud800"])
@pytest.mark.parametrize("where", ["model", "title", "content", "request_id"])
def test_letters_that_no_database_takes_are_a_sentence(member: Member, odd: str, where: str):
    sent = talk()
    if where == "model":
        sent["lanes"][0]["model"] = odd
    elif where != "title":
        sent["lanes"][0]["turns"][1][where] = odd
    form = {
        "conversation": json.dumps(sent),
        "title": odd if where == "title" and odd != "\ud800" else "Ships",
    }
    reply = member.client.post(SHARED, form)
    assert reply.status_code == 303
    for row in SharedConversation.objects.all():
        assert member.client.get(reverse("console:shared-conversation", args=[row.id])).status_code == 200


def test_replicas_that_nobody_can_count_are_one(world: World, member: Member):
    gpu_price(world.model.id, 27_778, since=now())
    world.operator.client.post(reverse("console:operator-deployable", args=[world.model.id]))
    terms_set(owner_id=member.org.id, own_replicas=2)
    for odd in ("0001" + "9" * 5000, "0002" + "9" * 30, "\u0663\u00b2"):
        reply = member.client.get(NEW, {"replicas": odd}, headers={"HX-Request": "true"})
        assert reply.status_code == 200 and "An hour of 1 replica<" in reply.content.decode()
    form = {"model": "kindling/spark", "name": "x", "replicas": "9" * 5000, "weights": "checkpoint"}
    assert member.client.post(NEW, form).status_code == 422


def test_of_the_operators_people_no_name_stands_in_a_history(world: World, member: Member):
    gpu_price(world.model.id, 27_778, since=now())
    made = deployment_ensure(org=member.org, model=world.model, name="given", actor=world.operator.actor)
    html = member.client.get(reverse("console:deployment", args=[made.id])).content.decode()
    rows = member.client.get(f"/api/v1/deployments/{made.id}/revisions").json()["data"]
    assert "Configurations" in html and world.operator.user.email not in html
    assert world.operator.user.email not in json.dumps(rows)


def test_a_copy_of_what_was_shared_stays_in_no_cache(world: World, member: Member):
    row = shared(member)
    reply = member.client.get(f"/console/playground/?shared={row.id}&model=kindling/spark")
    assert reply.status_code == 200 and SAID in reply.content.decode()
    assert reply["Cache-Control"] == "no-store"


def test_a_session_that_was_left_open_lets_nobody_in(world: World, member: Member):
    client = confirmed(member.user)
    session = client.session
    gone = settings.ACCOUNT_REAUTHENTICATION_TIMEOUT + 1
    session[SIGNED_IN_AT] -= gone
    for record in session["account_authentication_methods"]:
        record["at"] -= gone
    session.save()
    form = {"email": "mallory@example.net", "role": "admin"}
    reply = client.post("/console/team/", form)
    assert not Invitation.objects.exists() and reply["Location"].startswith("/accounts/reauthenticate/")
    told = client.post("/api/v1/invitations", form, content_type="application/json")
    assert told.json()["error"]["code"] == "reauthentication_required" and not Invitation.objects.exists()


def test_addresses_and_reasons_with_letters_that_no_database_takes(world: World, member: Member):
    client, odd = confirmed(world.operator.user), "x\x00"
    see = reverse("console:operator-seeing", args=[member.org.id, member.user.id])
    for name, args in (
        ("deployment", [odd]), ("deployment-restored", [odd, "1"]), ("operator-deployable", [odd]),
        ("operator-seeing", [odd, odd]), ("operator-seeing", [member.org.id, odd]),
    ):  # fmt: skip
        url = reverse(f"console:{name}", args=args)
        assert {client.get(url).status_code, client.post(url).status_code} <= {302, 404}, name
    for url in (NEW, reverse("console:operator-deployments", args=[member.org.id])):
        assert client.get(url, {"like": odd}, follow=True).status_code == 200
        assert url != NEW or member.client.get(url, {"like": odd}).status_code == 200
    assert client.post(see, {"reason": "\x00 "}).status_code == 422
    assert client.post(see, {"reason": "Ticket\x001"}).status_code == 303
    assert Seeing.objects.get().reason == "Ticket 1"
