"""Prompts and answers in the console: who may switch the log, who may read it, and what nobody else sees."""

import uuid

import pytest
from django.urls import reverse

from kindling_console_world import Member, World, request_keep
from kindling_platform.audit.models import AuditEvent
from kindling_platform.requestlog.models import LoggedRequest
from kindling_platform.requestlog.seal import Said
from kindling_platform.requestlog.selectors import request_log_days

URL = "/console/settings/"
LIST = "/console/usage/requests/log/"
PROMPT = b'{"messages": [{"role": "user", "content": "What is <b>my</b> balance?"}]}'
PIECES = ("Seven ", "dollars.")
ANSWER = b"".join(
    b'data: {"choices":[{"index":0,"delta":{"content":"%s"}}]}\n\n' % piece.encode() for piece in PIECES
)


def keep(member: Member, *, prompt_bytes: int = len(PROMPT)) -> uuid.UUID:
    said = Said(PROMPT, ANSWER, "text/event-stream", prompt_bytes, len(ANSWER))
    return request_keep(member, said).request_id


def opened(member: Member, request_id: uuid.UUID):
    return member.client.get(reverse("console:logged-request", args=[request_id]))


def test_an_owner_switches_it_on_and_off(member: Member):
    assert "not kept" in member.client.get(URL).content.decode()
    assert member.client.post(URL, {"days": "7"}).status_code == 303
    assert request_log_days(org=member.org) == 7
    assert "kept for 7 days" in member.client.get(URL).content.decode()
    request_id = keep(member)
    refused = member.client.post(URL, {"days": "0"})
    assert refused.status_code == 422
    assert "This deletes what is kept of 1 request." in refused.content.decode()
    assert request_log_days(org=member.org) == 7
    assert member.client.post(URL, {"days": "0", "sure": "on"}).status_code == 303
    assert request_log_days(org=member.org) == 0
    assert not LoggedRequest.objects.filter(request_id=request_id).exists()
    changes = AuditEvent.objects.filter(action="request_log.set", organisation_id=member.org.id)
    assert [change.actor_id for change in changes] == [member.user.id] * 2


def test_days_that_nobody_offers_are_refused(member: Member):
    assert member.client.post(URL, {"days": "365"}).status_code == 422
    assert request_log_days(org=member.org) == 0


@pytest.mark.parametrize(
    ("role", "switches", "reads"),
    [
        ("owner", True, True), ("admin", True, True), ("developer", False, True), ("viewer", False, False),
        ("billing", False, False),
    ],
)  # fmt: skip
def test_roles(member: Member, role: str, switches: bool, reads: bool):
    request_id = keep(member)
    member.role(role)
    shown = member.client.get(URL)
    assert shown.status_code == 200
    assert ('name="days"' in shown.content.decode()) == switches
    assert member.client.post(URL, {"days": "7"}).status_code == (303 if switches else 403)
    assert member.client.get(LIST).status_code == (200 if reads else 403)
    assert opened(member, request_id).status_code == (200 if reads else 403)


def test_a_kept_request_is_listed_opened_and_noted(member: Member):
    request_id = keep(member)
    assert str(request_id) in member.client.get(LIST).content.decode()
    reply = opened(member, request_id)
    html = reply.content.decode()
    assert "What is &lt;b&gt;my&lt;/b&gt; balance?" in html
    assert "Seven dollars." in html
    assert reply["Cache-Control"] == "no-store"
    read = AuditEvent.objects.get(action="request_log.read")
    assert (read.target, read.actor_id) == (str(request_id), member.user.id)


def test_requests_lead_to_what_is_kept_of_them(world: World, member: Member):
    (request_id,) = world.use(member)
    url = reverse("console:request", args=[request_id])
    assert "Prompt and answer" not in member.client.get(url).content.decode()
    LoggedRequest.objects.filter(request_id=keep(member)).update(request_id=request_id)
    link = reverse("console:logged-request", args=[request_id])
    assert link in member.client.get(url).content.decode()
    assert LIST in member.client.get("/console/usage/requests/").content.decode()
    member.role("viewer")
    assert link not in member.client.get(url).content.decode()
    assert LIST not in member.client.get("/console/usage/requests/").content.decode()


def test_what_was_cut_says_so(member: Member):
    assert "This is the beginning" in opened(member, keep(member, prompt_bytes=10**6)).content.decode()
    assert "This is the beginning" not in opened(member, keep(member)).content.decode()


def test_another_organisation_sees_nothing_of_it(world: World, member: Member):
    request_id = keep(member)
    other = world.member("grace")
    assert str(request_id) not in other.client.get(LIST).content.decode()
    assert opened(other, request_id).status_code == 404
    assert not AuditEvent.objects.filter(action="request_log.read").exists()


def test_without_a_wish_the_list_says_how_to_get_one(member: Member):
    assert "have prompts and answers kept, under Settings" in member.client.get(LIST).content.decode()
    assert opened(member, uuid.uuid4()).status_code == 404
    assert member.client.get("/console/usage/requests/none/log/").status_code == 404
