"""`Idempotency-Key` on what makes things: made once for a key, told again for a day, and never a secret."""

import threading
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection

from kindling_billing.models import PricePlan
from kindling_people import ApiClient, Customer, make_customer, make_model
from kindling_platform.accounts.models import Invitation
from kindling_platform.adapters.models import Adapter
from kindling_platform.api.views import keys as keys_view
from kindling_platform.common.clock import now
from kindling_platform.deployments.models import Deployment
from kindling_platform.keys.models import ApiKey
from kindling_platform.usage.models import IdempotentReply
from kindling_platform.usage.replies import replies_purge

NEW = {"name": "ci", "scopes": ["inference"]}
FILES = [
    {"name": "adapter_config.json", "size_bytes": 2},
    {"name": "adapter_model.safetensors", "size_bytes": 9},
]
TUNED = {"name": "tuned", "base_model": "kindling/spark", "files": FILES}


def send(client: ApiClient, path: str, body: Any, key: str | None = "a") -> Any:
    return client.call("post", path, body, headers={} if key is None else {"Idempotency-Key": key})


def code_of(reply: Any) -> tuple[int, str]:
    return reply.status_code, reply.json()["error"]["code"]


def made(customer: Customer, name: str = "ci") -> int:
    return ApiKey.objects.filter(organisation=customer.org, name=name).count()


@pytest.mark.django_db
def test_the_same_request_again_gets_the_first_ones_answer(ada: Customer, operator: Customer):
    make_model(operator)
    client = ada.client()
    first = send(client, "adapters", TUNED)
    assert first.status_code == 201 and "Idempotent-Replayed" not in first.headers
    again = send(client, "adapters", dict(reversed(TUNED.items())))
    assert (again.status_code, again.json(), again["Idempotent-Replayed"]) == (201, first.json(), "true")
    assert Adapter.objects.filter(organisation=ada.org).count() == 1
    other = send(client, "adapters", TUNED | {"name": "other"})
    assert (
        code_of(other) == (400, "idempotency_key_reused")
        and "Use a new one" in other.json()["error"]["message"]
    )
    # Another address is another request, and without a key each is for itself.
    assert code_of(send(client, "keys", NEW)) == (400, "idempotency_key_reused")
    assert send(client, "keys", NEW, None).status_code == send(client, "keys", NEW, None).status_code == 201
    # Whoever reads the table reads neither what was asked nor what was said.
    row = IdempotentReply.objects.get()
    kept = bytes(row.answer) + bytes(row.digest) + bytes(row.fingerprint)
    assert row.organisation_id == ada.org.id and b"tuned" not in kept


@pytest.mark.django_db
def test_deployments_and_what_the_operator_makes_are_repeated_too(operator: Customer):
    make_model(operator)
    till = operator.browser()
    for path, body in (
        ("deployments", {"name": "mine", "model": "kindling/spark"}),
        ("operator/plans", {"name": "Schools"}),
    ):
        first, again = send(till, path, body, path), send(till, path, body, path)
        assert (first.status_code, again.status_code) == (201, 201) and first.json() == again.json()
        assert again["Idempotent-Replayed"] == "true"
        assert code_of(send(till, path, body | {"name": "more"}, path)) == (400, "idempotency_key_reused")
    assert Deployment.objects.count() == PricePlan.objects.count() == 1
    # Whoever may not make it is not told of what others have made either.
    operator.user.memberships.update(role="viewer")
    assert code_of(send(till, "deployments", {"name": "mine", "model": "kindling/spark"}, "deployments")) == (
        403, "role_insufficient",
    )  # fmt: skip


@pytest.mark.django_db
def test_a_secret_is_shown_once(ada: Customer, bob: Customer):
    client = ada.client()
    first = send(client, "keys", NEW).json()
    again = send(client, "keys", NEW)
    assert code_of(again) == (409, "idempotency_replay") and made(ada) == 1
    assert again.json()["error"]["details"] == {"id": first["id"]}
    assert first["key"] not in again.content.decode()
    rotated = send(client, f"keys/{first['id']}/rotate", {}, "b").json()
    assert send(client, f"keys/{first['id']}/rotate", {}, "b").json()["error"]["details"] == {
        "id": rotated["id"]
    }
    asked = {"email": "new@example.com", "role": "viewer"}
    invited = send(client, "invitations", asked, "c").json()
    told = send(client, "invitations", asked, "c")
    assert code_of(told) == (409, "idempotency_replay") and Invitation.objects.count() == 1
    assert invited["url"] not in told.content.decode()
    # A key is its caller's alone: of another organisation, another API key, or a person.
    for other, whose in ((bob.client(), bob), (ada.client(), ada), (ada.browser(), ada)):
        before = made(whose)
        assert send(other, "keys", NEW).status_code == 201 and made(whose) == before + 1


@pytest.mark.django_db
@pytest.mark.parametrize("key", ["", "x" * 256, "caf\xe9", "a\tb"])
def test_what_is_no_key_is_refused(ada: Customer, key: str):
    assert code_of(send(ada.client(), "keys", NEW, key)) == (400, "idempotency_key_invalid")
    assert made(ada) == 0


@pytest.mark.django_db
def test_failures_are_not_kept_and_a_day_ends(ada: Customer, monkeypatch: pytest.MonkeyPatch):
    client = ada.client()
    assert code_of(send(client, "keys", NEW | {"scopes": ["nothing"]}))[0] == 400
    # Whatever fails behind it, what was made goes with it.
    with monkeypatch.context() as broken:
        broken.setattr("kindling_platform.api.once._keep", lambda *_: 1 / 0)
        assert code_of(send(client, "keys", NEW)) == (500, "internal_error") and made(ada) == 0
    assert send(client, "keys", NEW).status_code == 201 and made(ada) == 1
    IdempotentReply.objects.update(expires_at=now() - timedelta(seconds=1))
    assert send(client, "keys", NEW).status_code == 201 and made(ada) == 2
    assert code_of(send(client, "keys", NEW)) == (409, "idempotency_replay")
    IdempotentReply.objects.update(expires_at=now())
    assert replies_purge() == 1 and not IdempotentReply.objects.exists()
    # What is used anew while it is swept up is another day's.
    assert send(client, "keys", NEW).status_code == 201
    IdempotentReply.objects.update(expires_at=now() - timedelta(seconds=1))

    def used(execute: Any, sql: str, *rest: Any) -> Any:
        if sql.startswith("DELETE"):
            assert send(client, "keys", NEW).status_code == 201
        return execute(sql, *rest)

    with connection.execute_wrapper(used):
        replies_purge()
    assert code_of(send(client, "keys", NEW)) == (409, "idempotency_replay") and made(ada) == 4


@pytest.mark.django_db(transaction=True)
def test_of_two_at_once_one_makes_it(monkeypatch: pytest.MonkeyPatch):
    ada = make_customer("ada")
    client, begun, going = ada.client(), threading.Event(), threading.Event()
    real, replies = keys_view.key_create, []

    def slow(**given: Any) -> Any:
        found = real(**given)
        begun.set()
        assert going.wait(10)
        return found

    monkeypatch.setattr(keys_view, "key_create", slow)

    def work() -> None:
        try:
            replies.append(send(client, "keys", NEW))
        finally:
            connection.close()

    first = threading.Thread(target=work)
    first.start()
    assert begun.wait(10)
    second = send(client, "keys", NEW)
    assert code_of(second) == (409, "idempotency_running") and second["Retry-After"] == "1"
    going.set()
    first.join(10)
    assert [reply.status_code for reply in replies] == [201] and made(ada) == 1
    assert code_of(send(client, "keys", NEW)) == (409, "idempotency_replay")
