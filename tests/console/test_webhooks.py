"""Webhooks in the console: added, looked at, tested, rotated, switched and deleted, by those who may."""

import re
from html import unescape
from typing import Any

import pytest
from django.urls import reverse

from kindling_console_world import Member, World
from kindling_hooks import deliveries, hook
from kindling_platform.accounts.models import Membership
from kindling_platform.hooks import places
from kindling_platform.hooks.models import Endpoint, Event
from kindling_platform.hooks.outbox import Outcome, attempt_begin, attempt_settle

URL = "https://hooks.example.com/in?token=t"
PART = {"HX-Request": "true"}


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        places,
        "addresses_of",
        lambda host, port: ["10.0.0.1"] if host.startswith("inner") else ["93.184.215.14"],
    )


def at(name: str, *ids: str) -> str:
    return reverse(f"console:webhook{name}", args=ids)


def post(member: Member, to: str, /, **data: Any) -> Any:
    return member.client.post(to, data)


def test_a_webhook_from_its_form_to_its_end(member: Member):
    empty = member.client.get(at("s")).content.decode()
    assert "No webhook yet" in empty and "verify_signature" in empty
    reply = post(member, at("s"), url=URL, description=" CI ", which="some", events=["batch.completed"])
    endpoint = Endpoint.objects.get(organisation=member.org)
    secret = re.search(r"whsec_[A-Za-z0-9+/=]{44}", reply.content.decode())
    assert secret and reply["Cache-Control"] == "no-store"
    assert (endpoint.url, endpoint.description, endpoint.events) == (URL, "CI", ["batch.completed"])
    assert secret[0] not in member.client.get(at("", endpoint.id)).content.decode()
    assert "1 kind" in member.client.get(at("s")).content.decode()
    changed = post(
        member, at("", endpoint.id), url=URL, description="CI", which="every", events=["key.created"]
    )
    assert changed.status_code == 303
    assert post(member, at("-test", endpoint.id)).status_code == 303
    (sent,) = deliveries(endpoint)
    assert sent.event.type == "webhook.test"
    attempt = attempt_begin(delivery_id=sent.id)
    assert attempt
    said = Outcome(status_code=500, answer="<b>broken</b>", took_ms=12)
    assert attempt_settle(delivery_id=sent.id, token=attempt.token, outcome=said)
    page = member.client.get(at("", endpoint.id)).content.decode()
    assert "webhook.test" in page and "500" in page and "Nothing has got there since" in page
    part = member.client.get(at("", endpoint.id), headers=PART).content.decode()
    assert "<html" not in part and 'hx-trigger="every 3s"' in part
    one = member.client.get(at("-delivery", endpoint.id, sent.id)).content.decode()
    assert "&lt;b&gt;broken" in one and sent.event_id in one and "&quot;webhook.test&quot;" in one
    assert post(member, at("-again", endpoint.id, sent.id)).status_code == 303
    assert deliveries(endpoint)[0].attempts == 0
    post(member, at("-switch", endpoint.id), enabled="off")
    assert not Endpoint.objects.get(id=endpoint.id).enabled
    post(member, at("-switch", endpoint.id), enabled="on")
    assert member.client.get(at("-delete", endpoint.id)).status_code == 200
    assert post(member, at("-delete", endpoint.id)).status_code == 303
    assert not Endpoint.objects.for_org(member.org).exists()


def test_the_snippet_runs_and_tells_ours_from_others(member: Member, monkeypatch: pytest.MonkeyPatch):
    page = member.client.get(at("s")).content.decode()
    found = re.search(r'<pre id="webhook-snippet"[^>]*><code>(.*?)</code>', page, re.DOTALL)
    assert found
    endpoint, secret = hook(member)
    post(member, at("-test", endpoint.id))
    attempt = attempt_begin(delivery_id=deliveries(endpoint)[0].id)
    assert attempt
    monkeypatch.setenv("WEBHOOK_SECRET", secret)
    program: dict[str, Any] = {"__name__": "program"}
    exec(unescape(found[1]), program)
    listening = program["app"].test_client()
    headers = attempt.headers
    assert listening.post("/hooks/kindling", data=attempt.body, headers=headers).status_code == 204
    assert listening.post("/hooks/kindling", data=attempt.body + b" ", headers=headers).status_code == 400


def test_what_is_refused_says_why_beside_its_field(member: Member):
    for data, said in [
        ({"url": "http://hooks.example.com", "which": "every"}, "https alone"),
        ({"url": "https://inner.example.com", "which": "every"}, "no address on the public internet"),
        ({"url": URL, "which": "some"}, "Tick at least one kind"),
        ({"url": "", "which": "every"}, "This field is required"),
        ({"url": URL, "which": "some", "events": ["key.eaten"]}, "not one of the available choices"),
    ]:
        for headers in ({}, PART):
            reply = member.client.post(at("s"), data, headers=headers)
            assert reply.status_code == 422 and said in reply.content.decode(), data
    assert not Endpoint.objects.exists()


def test_a_secret_is_shown_to_whoever_has_just_confirmed(member: Member):
    endpoint, secret = hook(member)
    session = member.client.session
    session["signed_in_at"] = 0
    session["account_authentication_methods"] = []
    session.save()
    for name in ("-secret", "-rotate"):
        reply = post(member, at(name, endpoint.id))
        assert reply.status_code == 302 and secret not in reply.content.decode(), name
    assert Endpoint.objects.get(id=endpoint.id).old_secret_until is None


@pytest.mark.parametrize(
    ("role", "sees", "changes"),
    [
        ("owner", True, True), ("admin", True, True), ("developer", True, False), ("viewer", False, False),
        ("billing", False, False),
    ],
)  # fmt: skip
def test_roles(world: World, member: Member, role: str, sees: bool, changes: bool):
    endpoint, _ = hook(member)
    post(member, at("-test", endpoint.id))
    (sent,) = deliveries(endpoint)
    Membership.objects.filter(user=member.user).update(role=role)
    seen = [at("s"), at("", endpoint.id), at("-delivery", endpoint.id, sent.id)]
    assert [member.client.get(url).status_code for url in seen] == [200 if sees else 403] * 3
    linked = f'href="{at("s")}"' in member.client.get(reverse("console:settings")).content.decode()
    assert linked is sees or role == "billing"
    if sees:
        assert ("Rotate" in member.client.get(seen[1]).content.decode()) is changes
    if not changes:
        forms = [at("s"), at("", endpoint.id), at("-again", endpoint.id, sent.id)]
        forms += [at(name, endpoint.id) for name in ("-switch", "-secret", "-rotate", "-test", "-delete")]
        assert {member.client.post(url, {"url": URL, "which": "every"}).status_code for url in forms} == {403}
        assert Event.objects.for_org(member.org).count() == 1
