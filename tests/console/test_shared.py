"""A conversation is shared inside an organisation by a link, gone on with as a copy, and taken back."""

import json
import re
from datetime import timedelta

import pytest
from django.urls import reverse

from kindling_console_world import Member, World
from kindling_platform.accounts.models import Membership, Organisation
from kindling_platform.audit.models import AuditEvent
from kindling_platform.common.clock import now
from kindling_platform.responses.conversations import MOST_BYTES
from kindling_platform.responses.models import SharedConversation
from kindling_platform.responses.services import responses_purge, retention_set
from kindling_platform.responses.sharing import MOST_SHARED, conversation_shared_open
from kindling_shared import ANSWER, SAID, shared, talk

pytestmark = pytest.mark.django_db
PAGE = "/console/playground/shared/"
CHAT = "/console/playground/?model=kindling/spark"


def share(member: Member, title: str = "Lighthouses", **fields: object):
    sent = {"conversation": json.dumps(talk(**fields)), "title": title}
    return member.client.post(PAGE, sent, headers={"Referer": f"http://testserver{CHAT}"})


def colleague(world: World, member: Member, role: str = "developer", name: str = "grace") -> Member:
    """Somebody else of the same organisation, at work for it."""
    other = world.member(name)
    Membership.objects.filter(user=other.user).delete()
    Membership.objects.create(user=other.user, organisation=member.org, role=role)
    other.org = member.org
    return other


def said_of(reply) -> str:
    return " ".join(str(one) for one in reply.wsgi_request._messages)


def test_it_is_shared_with_the_numbers_of_the_books_and_opened_by_a_colleague(
    world: World, member: Member, caplog
):
    (request_id,) = world.use(member)
    reply = share(member, request_id=request_id)
    row = SharedConversation.objects.get()
    url = reverse("console:shared-conversation", args=[row.id])
    assert (reply.status_code, reply["Location"]) == (303, url)
    # What is stored says nothing of it, and neither does the log or the audit.
    assert not any(
        text.encode() in bytes(row.body) + bytes(row.title) for text in (SAID, "Be brief", "Light")
    )
    event = AuditEvent.objects.get(action="conversation.shared")
    assert (event.target, event.organisation_id, event.actor_id) == (row.id, member.org.id, member.user.id)
    assert SAID not in caplog.text + str(event.data)
    assert row.expires_at == row.created_at + timedelta(days=30)

    page = colleague(world, member).client.get(url)
    html = page.content.decode()
    assert page.status_code == 200 and page["Cache-Control"] == "no-store"
    for text in (
        "<h1>Lighthouses</h1>",
        SAID,
        "It warns &lt;ships&gt;.",
        "Hm, ships.",
        "Be brief.",
        member.user.email,
    ):
        assert text in html, text
    assert re.search(r"temperature <b>0.5</b>.*max tokens <b>64</b>", html)
    assert f'href="/console/usage/requests/{request_id}/" title="$0.000003000000, booked"' in html
    assert f"http://localhost:8000{url}" in html or f"{url}</code>" in html
    (listed,) = re.findall(r'<a href="([^"]+)">Lighthouses</a>', member.client.get(PAGE).content.decode())
    assert listed == url


def test_a_copy_goes_on_in_the_playground(world: World, member: Member):
    (request_id,) = world.use(member)
    turns = talk(request_id=request_id)["lanes"][0]["turns"]
    share(
        member,
        lanes=[{"model": "kindling/spark", "turns": turns}, {"model": "kindling/gone", "turns": turns[:1]}],
    )
    row = SharedConversation.objects.get()
    other = colleague(world, member)
    html = other.client.get(reverse("console:shared-conversation", args=[row.id])).content.decode()
    (go_on,) = re.findall(r'href="(/console/playground/[?]shared=[^"]+)"', html)
    copy = other.client.get(go_on.replace("&amp;", "&")).content.decode()
    (told,) = re.findall(r'<script id="pg-shared" type="application/json">(.*?)</script>', copy)
    first, second = json.loads(told)
    assert [turn["content"] for turn in first] == [SAID, ANSWER]
    assert first[1]["request"] == request_id and first[1]["row"]["cost_exact_usd"] == "0.000003000000"
    assert [turn["content"] for turn in second] == [
        SAID
    ] and "kindling/gone</strong> cannot be called" in copy
    assert (
        ">Be brief.</textarea>" in copy
        and 'name="temperature" min="0" max="2" step="0.05" value="0.5"' in copy
    )
    # What was left to the engine is left to it in the copy.
    assert re.search(r'name="top_p"[^>]* value=""', copy)
    assert other.client.get("/console/playground/?shared=shr_none").status_code == 404


def test_numbers_come_from_the_own_books_alone(world: World, member: Member):
    stranger = world.member("stranger")
    (theirs,) = world.use(stranger)
    forged = {
        "prompt_tokens": 1,
        "cached_tokens": 0,
        "completion_tokens": 9,
        "cost_usd": "0",
        "finish": "stop",
    }
    turns = [
        {"role": "user", "content": SAID, "request_id": "no id", "numbers": forged},
        {"role": "assistant", "content": ANSWER, "request_id": theirs, "numbers": forged},
    ]
    assert share(member, lanes=[{"model": "kindling/spark", "turns": turns}]).status_code == 303
    kept = conversation_shared_open(org=member.org, share_id=SharedConversation.objects.get().id).conversation
    assert [turn.numbers for turn in kept.lanes[0].turns] == [None, None]


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        ("", "no conversation"), ("[]", "no conversation"), ("[" * 100_000, "no conversation"),
        ('{"mode": "chat", "lanes": [], "system": "\\ud800"}', "no conversation"),
        (json.dumps(talk(mode="other")), "no conversation"), (json.dumps(talk(extra=1)), "no conversation"),
        (json.dumps(talk(lanes=talk()["lanes"] * 4)), "no conversation"),
        (json.dumps(talk(params={"temperature": 3})), "no conversation"),
        (json.dumps(talk(lanes=[{"model": "kindling/spark", "turns": []}])), "nothing to share"),
        (json.dumps(talk(system="x" * MOST_BYTES)), "512 KiB"),
    ],
)  # fmt: skip
def test_what_is_no_conversation_is_refused_and_leads_back(member: Member, sent: str, why: str):
    reply = member.client.post(PAGE, {"conversation": sent}, headers={"Referer": f"http://testserver{CHAT}"})
    assert (reply.status_code, reply["Location"]) == (303, CHAT)
    assert why in said_of(reply)
    assert not SharedConversation.objects.exists()


def test_an_organisation_that_keeps_nothing_shares_nothing(world: World, member: Member):
    row = shared(member)
    retention_set(org=member.org, days=2, actor=member.actor)
    assert SharedConversation.objects.get().expires_at == row.created_at + timedelta(days=2)
    retention_set(org=member.org, days=0, actor=member.actor)
    assert member.client.get(f"{PAGE}{row.id}/").status_code == 404
    assert responses_purge() == 1 and not SharedConversation.objects.exists()
    reply = share(member)
    assert "keeps no responses" in said_of(reply) and not SharedConversation.objects.exists()
    assert 'id="pg-share-form"' not in member.client.get(CHAT).content.decode()
    assert "Sharing is off" in member.client.get(PAGE).content.decode()


def test_only_so_many_are_shared(world: World, member: Member):
    row = shared(member)
    fields = {
        name: getattr(row, name) for name in ("organisation_id", "model_refs", "title", "body", "size_bytes")
    }
    times = {"created_at": row.created_at, "expires_at": row.expires_at}
    SharedConversation.objects.bulk_create(
        SharedConversation(id=f"shr_{number}", **fields, **times) for number in range(MOST_SHARED - 1)
    )
    assert "shared already" in said_of(share(member))
    SharedConversation.objects.filter(id="shr_0").update(expires_at=now())
    assert "Shared." in said_of(share(member))


def test_its_maker_and_admins_take_it_back(world: World, member: Member):
    row, mine = shared(member), shared(member)
    other = colleague(world, member)
    url = reverse("console:shared-revoke", args=[row.id])
    assert "Somebody else has shared this." in other.client.get(url).content.decode()
    assert "Somebody else" in said_of(other.client.post(url))
    assert f"{row.id}/revoke/" not in other.client.get(PAGE).content.decode()
    Membership.objects.filter(user=other.user).update(role="admin")
    assert other.client.post(url)["Location"] == PAGE
    event = AuditEvent.objects.get(action="conversation.revoked")
    assert (event.target, event.actor_id, event.data["made_by"]) == (row.id, other.user.id, member.user.id)
    Membership.objects.filter(user=member.user).update(role="developer")
    assert member.client.post(reverse("console:shared-revoke", args=[mine.id])).status_code == 303
    assert not SharedConversation.objects.exists()
    assert member.client.get(f"{PAGE}{row.id}/").status_code == 404


def test_nobody_else_opens_or_makes_one(world: World, member: Member, client):
    url = f"{PAGE}{shared(member).id}/"
    signed_out = client.get(url)
    assert (signed_out.status_code, signed_out["Location"]) == (302, f"/accounts/login/?next={url}")
    for role in ("viewer", "billing"):
        one = colleague(world, member, role, role)
        assert [one.client.get(place).status_code for place in (url, PAGE)] == [403, 403]
        assert share(one).status_code == one.client.post(f"{url}revoke/").status_code == 403
    # In a suspended organisation one reads, and changes nothing.
    Organisation.objects.filter(id=member.org.id).update(suspended_at=now())
    assert member.client.get(url).status_code == 200
    assert share(member).status_code == member.client.post(f"{url}revoke/").status_code == 403
    assert SharedConversation.objects.count() == 1


def test_under_another_secret_it_says_so_and_can_be_revoked(member: Member, settings):
    row = shared(member)
    SharedConversation.objects.update(body=b"\0" * 64, title=b"\0" * 64)
    html = member.client.get(f"{PAGE}{row.id}/").content.decode()
    assert "another secret" in html and "Go on with a copy" not in html
    assert "Without a title" in member.client.get(PAGE).content.decode()
    assert member.client.get(f"/console/playground/?shared={row.id}").status_code == 200
    assert member.client.post(f"{PAGE}{row.id}/revoke/").status_code == 303
