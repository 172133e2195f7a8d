"""A batch begun in the browser: of prompts, of requests, once, in the name of a key that works."""

import json
import re
from datetime import timedelta
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import reverse

from kindling_console.forms import batches as forms
from kindling_console_world import Member, World
from kindling_platform.audit.models import AuditEvent
from kindling_platform.batches import beginning
from kindling_platform.batches.bounds import PART_BYTES
from kindling_platform.batches.models import Batch, FilePart, StoredFile
from kindling_platform.batches.selectors import file_get, file_text
from kindling_platform.common.clock import now
from kindling_platform.keys.models import ApiKey
from kindling_stored_batches import stored_batch, stored_file

URL = "/console/batches/new/"
ONCE = re.compile(r'name="once" value="([^"]+)"')
LINE = b'{"custom_id": "1", "method": "POST", "url": "/v1/embeddings", "body": {}}\n'


@pytest.fixture
def key(world: World, member: Member) -> ApiKey:
    return member.key()


def begin(member: Member, owned: ApiKey, content: bytes, **fields: str) -> Any:
    values = {"holds": "requests", "key": owned.id, "endpoint": "/v1/embeddings"} | fields
    file = SimpleUploadedFile("in.jsonl", content)
    return member.client.post(URL, values | {"file": file}, headers={"Accept": "text/html"})


def said(member: Member, batch: Batch) -> bytes:
    return b"".join(file_text(file=file_get(org=member.org, file_id=batch.input_file_id)))


def test_a_file_of_requests_becomes_a_batch_as_the_api_makes_them(member: Member, key: ApiKey):
    content = LINE * (PART_BYTES // len(LINE) + 10)
    reply = begin(member, key, content)
    batch = Batch.objects.get()
    assert (reply.status_code, reply["Location"]) == (303, reverse("console:batch", args=[batch.id]))
    assert said(member, batch) == content
    assert FilePart.objects.count() == 2
    assert (batch.organisation_id, batch.key_id, bytes(batch.key_digest)) == (
        member.org.id,
        key.id,
        bytes(key.digest),
    )
    assert (batch.status, batch.endpoint, batch.total) == ("validating", "/v1/embeddings", 0)
    assert batch.due_at <= now() < batch.expires_at <= now() + timedelta(days=1)
    event = AuditEvent.objects.get(action="batch.begin")
    assert (event.target, event.actor_id) == (batch.id, member.user.id)
    assert "custom_id" not in json.dumps(event.data)


def test_prompts_become_requests_of_the_chosen_model(world: World, member: Member, key: ApiKey):
    reply = begin(
        member,
        key,
        b"\xef\xbb\xbfHello\r\n\nW\xc3\xb6r\xe2\x80\xa8ld\n",
        holds="prompts",
        model=world.model.ref,
        max_tokens="7",
    )
    assert reply.status_code == 303
    batch = Batch.objects.get()
    asked = [json.loads(line) for line in said(member, batch).splitlines()]
    assert batch.endpoint == "/v1/chat/completions"
    assert [one["custom_id"] for one in asked] == ["1", "3"]
    assert [one["body"]["messages"][0]["content"] for one in asked] == ["Hello", "Wör\u2028ld"]
    assert {(one["body"]["model"], one["body"]["max_tokens"]) for one in asked} == {(world.model.ref, 7)}


def test_a_form_sent_twice_begins_one_batch(world: World, member: Member, key: ApiKey):
    once = ONCE.search(member.client.get(URL).content.decode())
    assert once
    first, second = (begin(member, key, LINE * times, once=once[1]) for times in (1, 2))
    assert first["Location"] == second["Location"]
    # Whoever went back and chose another file is told that it was not taken.
    assert "began no other" in member.client.get(second["Location"]).content.decode()
    assert (
        Batch.objects.count(),
        StoredFile.objects.count(),
        AuditEvent.objects.filter(action="batch.begin").count(),
    ) == (1, 1, 1)
    # Another organisation's form is not this one's, nor is one that somebody has written.
    other = world.member("grace")
    for member_, key_, token in ((other, other.key(), once[1]), (member, key, "batch_" + "0" * 32)):
        assert begin(member_, key_, LINE, once=token).status_code == 303
    assert Batch.objects.values("id").distinct().count() == 3
    assert not Batch.objects.filter(id="batch_" + "0" * 32).exists()


@pytest.mark.parametrize(
    ("content", "fields", "reason"),
    [
        (b"", {}, "The file is empty."),
        (b"\n \n", {"holds": "prompts"}, "all its lines are empty"),
        (b"\xff\xfe", {"holds": "prompts"}, "not a text in UTF-8"),
        (b"Hello", {"holds": "prompts", "model": "nobody/none"}, "Select a valid choice"),
        (b"Hello", {"holds": "prompts", "model": ""}, "Choose the model"),
        (b"Hello", {"holds": "prompts", "max_tokens": "0"}, "greater than or equal to 1"),
        (b"Hello", {"holds": "poems"}, "Select a valid choice"),
        (LINE, {"endpoint": "/v1/files"}, "Select a valid choice"),
        (LINE, {"key": ""}, "Choose a key."),
    ],
)
def test_what_cannot_be_begun_is_refused_with_a_reason(
    world: World, member: Member, key: ApiKey, content: bytes, fields: dict[str, str], reason: str
):
    reply = begin(member, key, content, **{"model": world.model.ref} | fields)
    assert reply.status_code == 422
    assert reason in reply.content.decode()
    assert not Batch.objects.exists() and not StoredFile.objects.exists()


def test_bounds_of_files_and_batches_hold(
    world: World, member: Member, key: ApiKey, monkeypatch: pytest.MonkeyPatch
):
    stored_batch(member.org)
    stored_file(member.org, b"x" * 1000)
    for module, name, most, reason in (
        (forms, "MAX_FILE_BYTES", 10, "Make two of it"),
        (forms, "MAX_PROMPTS_BYTES", 10, ""),
        (beginning, "MAX_ACTIVE", 1, "batches of your organisation are not over"),
        (beginning, "MAX_ORG_BYTES", 1000, "would have more than"),
    ):
        with monkeypatch.context() as patched:
            patched.setattr(module, name, most)
            reply = begin(member, key, LINE)
        assert (reply.status_code == 422) == bool(reason), name
        assert reason in reply.content.decode()
    # Of what was refused nothing is left.
    assert (Batch.objects.count(), StoredFile.objects.count()) == (2, 2)
    with monkeypatch.context() as patched:
        patched.setattr(forms, "MAX_PROMPTS_BYTES", 10)
        reply = begin(member, key, LINE, holds="prompts", model=world.model.ref)
    assert (reply.status_code, "Make two files of them" in reply.content.decode()) == (422, True)


def test_no_more_requests_are_made_of_prompts_than_a_batch_may_have(
    world: World, member: Member, key: ApiKey, monkeypatch: pytest.MonkeyPatch
):
    made, requests_each = [], forms.requests_each
    monkeypatch.setattr(
        forms, "requests_each", lambda *args, **named: map(kept(made), requests_each(*args, **named))
    )
    for name, most, count in (("MAX_LINES", 3, 4), ("MAX_FILE_BYTES", 400, 3)):
        made.clear()
        with monkeypatch.context() as patched:
            patched.setattr(forms, name, most)
            reply = begin(member, key, b"a\n" * 100, holds="prompts", model=world.model.ref)
        assert (reply.status_code, len(made)) == (422, count)
        assert "too many prompts for one batch" in reply.content.decode()
    assert not Batch.objects.exists()


def kept(made: list[bytes]) -> Any:
    def note(request: bytes) -> bytes:
        made.append(request)
        return request

    return note


def test_only_keys_of_ones_own_that_work_and_may_call_models_are_offered(world: World, member: Member):
    assert "A batch needs an API key" in member.client.get(URL).content.decode()
    works = member.key("works")
    grace = world.member("grace")
    # A colleague's, and one that nobody has made: what they spend is no member's who begins a batch.
    unfit: list[dict[str, Any]] = [
        {"scopes": ["read"]},
        {"revoked_at": now()},
        {"expires_at": now()},
        {"created_by": grace.user},
        {"created_by": None},
    ]
    others = [grace.key("theirs")]
    for number, fields in enumerate(unfit):
        others.append(member.key(f"unfit {number}"))
        ApiKey.objects.filter(id=others[-1].id).update(**fields)
    text = member.client.get(URL).content.decode()
    assert works.id in text
    for other in others:
        assert other.id not in text
        assert begin(member, other, LINE).status_code == 422
    assert not Batch.objects.exists()


def test_who_only_looks_begins_none(world: World, member: Member, key: ApiKey):
    assert URL in member.client.get("/console/batches/").content.decode()
    for role in ("viewer", "billing"):
        member.role(role)
        assert URL not in member.client.get("/console/batches/").content.decode()
        assert begin(member, key, LINE).status_code == 403
    assert not Batch.objects.exists()
