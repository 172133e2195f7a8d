"""Adapters by a hub id over the API: what is asked, what is refused, and what nobody gets to see."""

import json

import pytest

from kindling_people import ApiClient, Customer, make_model
from kindling_platform.adapters import services
from kindling_platform.adapters.models import Adapter, HubFetch
from kindling_platform.audit.models import AuditEvent
from kindling_platform.catalog.models import Model

pytestmark = pytest.mark.django_db
ASKED = {"name": "support", "base_model": "kindling/spark", "hub_id": "acme/support-lora"}


@pytest.fixture(autouse=True)
def spark(operator: Customer) -> Model:
    return make_model(operator)


def create(client: ApiClient, **changes: object):
    return client.call("post", "adapters", {**ASKED, **changes})


def test_a_hub_id_opens_a_download_for_a_worker(ada: Customer, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=False) as jobs:
        reply = create(ada.client(), revision="v1", hub_token="hf_private")
    assert reply.status_code == 201, reply.content
    row = reply.json()
    assert (row["state"], row["hub_id"], row["hub_commit"]) == ("uploading", "acme/support-lora", "")
    assert (row["reason"], row["files"]) == ("Waiting for a worker.", [])
    assert len(jobs) == 1
    fetch = HubFetch.objects.get(adapter_id=row["id"])
    assert (fetch.repo_id, fetch.revision, fetch.failures) == ("acme/support-lora", "v1", 0)
    # The token is nowhere in clear, and in no answer.
    assert fetch.sealed_token and b"hf_private" not in bytes(fetch.sealed_token)
    event = AuditEvent.objects.get(action="adapter.create", target=row["id"])
    assert event.data == {"hub_id": "acme/support-lora", "revision": "v1"}
    again = ada.client().call("get", f"adapters/{row['id']}").json()
    assert again["hub_id"] == "acme/support-lora"
    assert "hf_private" not in json.dumps([row, again])


def test_an_upload_says_that_it_comes_from_no_hub(ada: Customer):
    files = [{"name": "adapter_config.json", "size_bytes": 10}]
    body = {"name": "mine", "base_model": "kindling/spark", "files": files}
    row = ada.client().call("post", "adapters", body).json()
    assert (row["hub_id"], row["hub_commit"]) == ("", "")


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"hub_id": "no-owner"}, "hub_id"),
        ({"hub_id": "../../etc/passwd"}, "hub_id"),
        ({"hub_id": "acme/.."}, "hub_id"),
        ({"hub_id": "acme/a..b"}, "hub_id"),
        ({"hub_id": "acme/a--b"}, "hub_id"),
        ({"hub_id": "acme/a.git"}, "hub_id"),
        ({"hub_id": "acme/support/lora"}, "hub_id"),
        ({"hub_id": "http://10.0.0.1/x"}, "hub_id"),
        ({"hub_id": "acme@evil/x"}, "hub_id"),
        ({"hub_id": "acme/x?y"}, "hub_id"),
        ({"hub_id": "acmé/x"}, "hub_id"),
        ({"hub_id": "acme/x\u200b"}, "hub_id"),
        ({"revision": "a b"}, "revision"),
        ({"revision": "../main"}, "revision"),
        ({"revision": "refs/../main"}, "revision"),
        ({"hub_token": "hf_a b"}, "hub_token"),
        ({"hub_token": "hf_\u00e9"}, "hub_token"),
    ],
)
def test_what_the_hub_would_not_write_so_is_refused(ada: Customer, changes: dict[str, str], param: str):
    reply = create(ada.client(), **changes)
    error = reply.json()["error"]
    assert (reply.status_code, error["code"], error["param"]) == (400, "hub_id_invalid", param)
    assert error["doc_url"].endswith("/errors/#hub_id_invalid")
    assert "hf_" not in error["message"]
    assert not Adapter.objects.exists()


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"files": [{"name": "adapter_config.json", "size_bytes": 5}]}, "files"),
        ({"hub_id": None}, "hub_id"),
        ({"hub_id": ""}, "hub_id"),
        ({"hub_id": "a/" + "x" * 100}, "hub_id"),
        ({"revision": "x" * 129}, "revision"),
        ({"hub_token": "x" * 201}, "hub_token"),
    ],
)
def test_bodies_that_make_no_sense_are_refused(ada: Customer, changes: dict[str, object], param: str):
    reply = create(ada.client(), **changes)
    error = reply.json()["error"]
    assert (reply.status_code, error["code"], error["param"]) == (422, "validation_failed", param)
    assert not Adapter.objects.exists()


@pytest.mark.parametrize("field", ["revision", "hub_token"])
def test_what_belongs_to_a_hub_id_says_nothing_without_one(ada: Customer, field: str):
    body = {"name": "mine", "base_model": "kindling/spark", field: "v1"}
    reply = ada.client().call("post", "adapters", body)
    assert (reply.status_code, reply.json()["error"]["param"]) == (422, field)


def test_nobody_sends_files_to_it(ada: Customer):
    client = ada.client()
    adapter = create(client).json()["id"]
    for path in (f"adapters/{adapter}/files/adapter_config.json", f"adapters/{adapter}/zip"):
        reply = client.send(path, b"{}")
        assert (reply.status_code, reply.json()["error"]["code"]) == (409, "fetched_from_hub")
    complete = client.call("post", f"adapters/{adapter}/complete")
    assert complete.json()["error"]["code"] == "upload_incomplete"
    assert client.call("get", f"adapters/{adapter}").json()["state"] == "uploading"


def test_downloads_count_among_the_uploads_of_an_organisation(
    ada: Customer, bob: Customer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(services, "MAX_UPLOADS_AT_ONCE", 2)
    client = ada.client()
    codes = [create(client, name=f"many-{i}").status_code for i in range(3)]
    assert codes == [201, 201, 409]
    assert create(bob.client()).status_code == 201


def test_one_of_the_same_name_makes_way_with_its_token(ada: Customer):
    client = ada.client()
    first = create(client, hub_token="hf_private").json()["id"]
    second = create(client).json()["id"]
    assert Adapter.objects.get(id=first).state == "deleted"
    assert bytes(HubFetch.objects.get(adapter_id=first).sealed_token) == b""
    assert Adapter.objects.get(id=second).state == "uploading"


def test_it_is_nobody_elses_and_no_key_that_only_reads_opens_it(ada: Customer, bob: Customer):
    adapter = create(ada.client()).json()["id"]
    assert bob.client().call("get", f"adapters/{adapter}").status_code == 404
    assert bob.client().call("delete", f"adapters/{adapter}").status_code == 404
    refused = create(ada.client("read"), name="other")
    assert refused.status_code == 403
    assert Adapter.objects.count() == 1


def test_a_download_that_waits_long_is_no_forgotten_upload(ada: Customer):
    adapter = create(ada.client()).json()["id"]
    assert services.upload_list_expire(idle_s=0) == []
    assert Adapter.objects.get(id=adapter).state == "uploading"
