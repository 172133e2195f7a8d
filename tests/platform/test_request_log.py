"""The log of prompts and answers as its organisation sees it: switched, read, bounded in time, deleted."""

import uuid
from datetime import timedelta

import pytest
from django.conf import settings
from django.db import connection

from kindling_people import Customer, make_customer
from kindling_platform.audit.models import AuditEvent
from kindling_platform.common.clock import now
from kindling_platform.common.errors import KindlingError
from kindling_platform.gateway.request_log.rows import INSERT, WANTED, Row, insert_values
from kindling_platform.requestlog.models import LoggedRequest
from kindling_platform.requestlog.reading import Turn, answer_turns, prompt_turns
from kindling_platform.requestlog.seal import Said, Seal
from kindling_platform.requestlog.selectors import request_log_days, request_log_get
from kindling_platform.requestlog.services import (
    MAX_DAYS,
    logged_request_open,
    request_log_purge,
    request_log_set,
)

SAID = Said(b'{"messages": []}', b'{"choices": []}', "application/json", 16, 15)


@pytest.fixture
def ada(db: None) -> Customer:
    return make_customer("ada")


def keep(customer: Customer, *, secret: str = "") -> uuid.UUID:
    """A request as a gateway writes it, with the gateway's own statement."""
    request_id = uuid.uuid4()
    seal = Seal(secret or settings.SECRET_KEY)
    row = Row(
        request_id=request_id,
        organisation_id=customer.org.id,
        key_id="key_1",
        model_name="kindling/spark",
        route="chat",
        status=200,
        size_bytes=31,
        sealed=seal.close(SAID, org_id=customer.org.id, request_id=request_id),
        created_at=now(),
    )
    with connection.cursor() as cursor:
        cursor.execute(INSERT, insert_values([row]))
    return request_id


def wanted() -> set[str]:
    with connection.cursor() as cursor:
        cursor.execute(WANTED)
        return {row[0] for row in cursor.fetchall()}


def test_nothing_is_kept_unless_it_is_asked_for(ada: Customer):
    assert request_log_days(org=ada.org) == 0
    keep(ada)
    assert not LoggedRequest.objects.exists()
    assert wanted() == set()


def test_what_is_kept_can_be_opened_and_who_looked_is_known(ada: Customer):
    request_log_set(org=ada.org, days=7, actor=ada.actor)
    assert wanted() == {ada.org.id}
    request_id = keep(ada)
    assert request_log_get(org=ada.org).kept == 1
    assert logged_request_open(org=ada.org, request_id=request_id, actor=ada.actor) == SAID
    read = AuditEvent.objects.get(action="request_log.read")
    assert (read.target, read.actor_id, read.organisation_id) == (str(request_id), ada.user.id, ada.org.id)


def test_another_organisation_finds_nothing(ada: Customer):
    bob = make_customer("bob")
    for customer in (ada, bob):
        request_log_set(org=customer.org, days=7, actor=customer.actor)
    request_id = keep(ada)
    with pytest.raises(KindlingError) as refused:
        logged_request_open(org=bob.org, request_id=request_id, actor=bob.actor)
    assert (refused.value.code, refused.value.status) == ("not_found", 404)
    assert not AuditEvent.objects.filter(action="request_log.read").exists()
    assert request_log_get(org=bob.org).kept == 0


def test_a_switch_off_deletes_everything_at_once(ada: Customer):
    bob = make_customer("bob")
    for customer in (ada, bob):
        request_log_set(org=customer.org, days=7, actor=customer.actor)
        keep(customer)
    request_log_set(org=ada.org, days=0, actor=ada.actor)
    assert {one.organisation_id for one in LoggedRequest.objects.all()} == {bob.org.id}
    keep(ada)
    assert LoggedRequest.objects.for_org(ada.org).count() == 0
    changed = AuditEvent.objects.filter(action="request_log.set", organisation_id=ada.org.id).latest(
        "created_at"
    )
    assert (changed.data["before"], changed.data["after"], changed.data["deleted"]) == (
        {"days": 7},
        {"days": 0},
        1,
    )


def test_requests_go_when_their_days_are_over(ada: Customer):
    request_log_set(org=ada.org, days=7, actor=ada.actor)
    old, new = keep(ada), keep(ada)
    LoggedRequest.objects.filter(request_id=old).update(created_at=now() - timedelta(days=3))
    request_log_set(org=ada.org, days=2, actor=ada.actor)
    with pytest.raises(KindlingError):
        logged_request_open(org=ada.org, request_id=old, actor=ada.actor)
    assert request_log_purge(limit=1) == 1
    assert [one.request_id for one in LoggedRequest.objects.all()] == [new]
    assert request_log_purge() == 0


@pytest.mark.parametrize("days", [-1, MAX_DAYS + 1])
def test_days_out_of_bounds_are_refused(ada: Customer, days: int):
    with pytest.raises(KindlingError) as refused:
        request_log_set(org=ada.org, days=days, actor=ada.actor)
    assert (refused.value.code, refused.value.param) == ("days_invalid", "days")


def test_a_seal_of_another_secret_says_so(ada: Customer):
    request_log_set(org=ada.org, days=7, actor=ada.actor)
    request_id = keep(ada, secret="before it was changed")
    with pytest.raises(KindlingError) as refused:
        logged_request_open(org=ada.org, request_id=request_id, actor=ada.actor)
    assert (refused.value.code, refused.value.status) == ("seal_broken", 409)


def test_turns_of_every_shape_of_body():
    chat = b'{"messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": [{"text": "Hi"}]}]}'
    assert prompt_turns(chat) == [Turn("system", "Be kind."), Turn("user", "Hi")]
    messages = b'{"system": "Be kind.", "messages": [{"role": "user", "content": "Hi"}]}'
    assert prompt_turns(messages) == [Turn("system", "Be kind."), Turn("user", "Hi")]
    responses = b'{"instructions": "Be kind.", "input": [{"role": "user", "content": "Hi"}]}'
    assert prompt_turns(responses) == [Turn("system", "Be kind."), Turn("user", "Hi")]
    assert prompt_turns(b'{"prompt": "Once"}') == [Turn("user", "Once")]
    for strange in (b"5", b"true", b'"x"', b'{"text": "x"}', b"[5]", b"null"):  # refused, and kept to see why
        assert prompt_turns(b'{"query": "a", "documents": %s}' % strange)[0] == Turn("query", "a")
    assert prompt_turns(b'{"prompt": [1, 2]}') == [Turn("user", "[1, 2]")]
    rerank = b'{"query": "q", "documents": ["a", {"text": "b"}]}'
    assert prompt_turns(rerank) == [Turn("query", "q"), Turn("document", "a"), Turn("document", "b")]
    assert prompt_turns(b'{"messages": [{"ro') == [Turn("body", '{"messages": [{"ro')]
    assert prompt_turns(b"\xff") == [Turn("body", "\ufffd")]


@pytest.mark.parametrize(
    ("answer", "turns"),
    [
        (b'{"choices": [{"index": 0, "message": {"reasoning_content": "hm", "content": "Hi"}}]}',
         [Turn("reasoning", "hm"), Turn("assistant", "Hi")]),
        (b'{"choices": [{"index": 0, "text": "a"}, {"index": 1, "text": "b"}]}',
         [Turn("assistant", "a"), Turn("assistant 2", "b")]),
        (b'{"content": [{"type": "text", "text": "Hi"}]}', [Turn("assistant", "Hi")]),
        (b'{"output": [{"type": "message", "content": [{"text": "Hi"}]}]}', [Turn("assistant", "Hi")]),
        (b'{"error": {"message": "No."}}', [Turn("error", "No.")]),
        (b'{"choices": [{"message": {"tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}}]}',
         [Turn("calls", "f {}")]),
        (b"", []),
    ],
)  # fmt: skip
def test_whole_answers_of_every_shape(answer: bytes, turns: list[Turn]):
    assert answer_turns(answer, "application/json") == turns


@pytest.mark.parametrize(
    "events",
    [
        b'data: {"choices":[{"index":0,"delta":{"content":"H"}}]}\n\ndata: {"choices":[{"index":0,"delta":'
        b'{"content":"i"}}]}\n\ndata: [DONE]\n\n',
        b'event: content_block_delta\ndata: {"delta":{"type":"text_delta","text":"H"}}\n\n'
        b'event: content_block_delta\ndata: {"delta":{"type":"text_delta","text":"i"}}\n\n',
        b'data: {"type":"response.output_text.delta","delta":"H"}\n\n'
        b'data: {"type":"response.output_text.delta","delta":"i"}\n\ndata: {"cut sho',
    ],
)
def test_a_stream_is_read_as_one_text(events: bytes):
    assert answer_turns(events, "text/event-stream; charset=utf-8") == [Turn("assistant", "Hi")]
