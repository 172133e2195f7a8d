"""The log of prompts and answers over the control API: switched, listed, opened, and for whom."""

import uuid

import pytest

from kindling_kept_requests import ANSWER, keep_request
from kindling_people import Customer
from kindling_platform.audit.models import AuditEvent
from kindling_platform.requestlog.models import LoggedRequest

pytestmark = pytest.mark.django_db
PROMPT = b'{"messages": [{"role": "user", "content": "a secret"}]}'


def keep(customer: Customer, prompt: bytes = PROMPT, **options: str) -> str:
    request_id = str(uuid.uuid4())
    keep_request(customer, request_id, prompt=prompt, **options)
    return request_id


def test_nothing_is_kept_until_it_is_switched_on(ada: Customer):
    client = ada.client()
    assert client.call("get", "request-log").json() == {"days": 0, "kept": 0}
    assert client.call("patch", "request-log", {"days": 7}).json() == {"days": 7, "kept": 0}
    assert client.call("get", "request-log").json() == {"days": 7, "kept": 0}
    event = AuditEvent.objects.get(action="request_log.set")
    assert (event.organisation_id, event.data["before"], event.data["after"]) == (
        ada.org.id,
        {"days": 0},
        {"days": 7},
    )


def test_switching_off_deletes_ones_own_and_nobody_elses(ada: Customer, bob: Customer):
    keep(ada)
    theirs = keep(bob)
    assert ada.client().call("patch", "request-log", {"days": 0}).json() == {"days": 0, "kept": 0}
    assert [str(one.request_id) for one in LoggedRequest.objects.all()] == [theirs]
    assert bob.client().call("get", "request-log").json() == {"days": 7, "kept": 1}


def test_a_list_has_pages_and_says_nothing_of_prompts(ada: Customer, bob: Customer):
    kept = [keep(ada) for _ in range(3)]
    keep(bob)
    client = ada.client()
    first = client.call("get", "request-log/requests?limit=2")
    rest = client.call("get", f"request-log/requests?limit=2&cursor={first.json()['next_cursor']}").json()
    seen = [row["request_id"] for row in (*first.json()["data"], *rest["data"])]
    assert seen == kept[::-1]
    assert rest["next_cursor"] is None
    assert b"a secret" not in first.content
    row = first.json()["data"][0]
    assert (row["model"], row["route"], row["status"]) == ("kindling/spark", "chat", 200)
    assert row["size_bytes"] == len(PROMPT) + len(ANSWER)


def test_one_request_is_opened_and_who_looked_is_known(ada: Customer):
    request_id = keep(ada)
    reply = ada.client().call("get", f"request-log/requests/{request_id}")
    row = reply.json()
    assert (row["prompt"], row["answer"]) == (PROMPT.decode(), ANSWER.decode())
    assert (row["answer_type"], row["is_cut"]) == ("application/json", False)
    assert reply["cache-control"] == "no-store"
    read = AuditEvent.objects.get(action="request_log.read")
    assert (read.target, read.organisation_id) == (request_id, ada.org.id)
    by_answer = ada.client().call("get", f"request-log/requests/chatcmpl-{request_id}")
    assert by_answer.json()["request_id"] == request_id


def test_bytes_that_are_no_text_are_shown_all_the_same(ada: Customer):
    request_id = keep(ada, b"\xff\x00a")
    assert ada.client().call("get", f"request-log/requests/{request_id}").json()["prompt"] == "\ufffd\x00a"


@pytest.mark.parametrize("request_id", ["nothing", "0", str(uuid.UUID(int=5))])
def test_what_is_not_kept_is_not_found(ada: Customer, request_id: str):
    reply = ada.client().call("get", f"request-log/requests/{request_id}")
    assert (reply.status_code, reply.json()["error"]["code"]) == (404, "not_found")


def test_another_organisation_finds_nothing_and_nobody_has_looked(ada: Customer, bob: Customer):
    request_id = keep(ada)
    assert bob.client().call("get", f"request-log/requests/{request_id}").status_code == 404
    assert bob.client().call("get", "request-log/requests").json()["data"] == []
    assert not AuditEvent.objects.filter(action="request_log.read").exists()


def test_what_was_sealed_with_another_secret_says_so(ada: Customer):
    request_id = keep(ada, secret="another secret of an installation")
    reply = ada.client().call("get", f"request-log/requests/{request_id}")
    assert (reply.status_code, reply.json()["error"]["code"]) == (409, "seal_broken")


@pytest.mark.parametrize(
    ("scopes", "statuses"),
    [(("inference",), (403, 403, 403)), (("read",), (200, 403, 403)), (("manage",), (200, 200, 200))],
)
def test_a_key_needs_manage_to_read_prompts_and_to_switch(
    ada: Customer, scopes: tuple[str, ...], statuses: tuple[int, int, int]
):
    request_id = keep(ada)
    client = ada.client(*scopes)
    replies = (
        client.call("get", "request-log"),
        client.call("get", f"request-log/requests/{request_id}"),
        client.call("patch", "request-log", {"days": 3}),
    )
    assert tuple(reply.status_code for reply in replies) == statuses


@pytest.mark.parametrize("role", ["viewer", "billing", "developer"])
def test_a_member_switches_it_as_owner_or_admin_only(ada: Customer, role: str):
    request_id = keep(ada)
    ada.user.memberships.update(role=role)
    browser = ada.browser()
    opened = browser.call("get", f"request-log/requests/{request_id}").status_code
    assert opened == (200 if role == "developer" else 403)
    assert browser.call("patch", "request-log", {"days": 0}).status_code == 403
    assert LoggedRequest.objects.count() == 1


@pytest.mark.parametrize("days", [-1, 91, "x", None, 1.5, [7]])
def test_days_that_are_none_are_refused(ada: Customer, days: object):
    assert ada.client().call("patch", "request-log", {"days": days}).status_code == 422
    assert ada.client().call("get", "request-log").json()["days"] == 0
