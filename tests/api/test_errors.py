"""One error shape, whatever goes wrong."""

from datetime import date

import pytest
from django.conf import settings
from django.db import OperationalError
from django.test import Client
from rest_framework import exceptions

from kindling_billing.models import Invoice
from kindling_people import Customer
from kindling_platform.api.errors import error_body, refusal_of
from kindling_platform.common.errors import KindlingError

pytestmark = pytest.mark.django_db


def assert_shape(body: dict) -> None:
    assert set(body) == {"error"}
    assert {"message", "type", "param", "code"} <= set(body["error"])
    assert body["error"]["message"]
    assert body["error"]["code"]
    assert body["error"]["doc_url"] == f"{settings.KINDLING_ENV.public_url}/errors/#{body['error']['code']}"


@pytest.mark.parametrize("path", ["/api/v1/nothing", "/api/", "/api/v2/models", "/api/v1/keys/none"])
def test_unknown_addresses_are_404_in_json(ada: Customer, path: str):
    reply = ada.client().get(path)
    assert reply.status_code == 404
    assert_shape(reply.json())


@pytest.mark.parametrize("content", [b"{", b"[1]", b'{"name": "\xff"}', b"[" * 5000, b""])
def test_malformed_bodies_are_refused(ada: Customer, content: bytes):
    reply = ada.client().post("/api/v1/keys", data=content, content_type="application/json")
    assert reply.status_code in {400, 422}
    assert_shape(reply.json())


def test_an_unknown_content_type_is_415(ada: Customer):
    reply = ada.client().post("/api/v1/keys", data=b"x", content_type="text/plain")
    assert reply.status_code == 415
    assert_shape(reply.json())


def test_a_wrong_method_is_405(ada: Customer):
    reply = ada.client().call("delete", "models")
    assert (reply.status_code, reply.json()["error"]["code"]) == (405, "method_not_allowed")


def test_the_field_of_a_validation_error_is_named(ada: Customer):
    reply = ada.client().call("post", "adapters", {"name": "a", "base_model": "x", "files": [{"name": "b"}]})
    assert reply.json()["error"]["param"] == "files.0.size_bytes"


def test_a_fault_of_ours_says_nothing_of_its_inside():
    body = error_body(refusal_of(ValueError("password=hunter2")))
    assert_shape(body)
    assert "hunter2" not in str(body)
    assert body["error"]["type"] == "server_error"


def test_a_code_that_the_index_lacks_leads_nowhere():
    assert "doc_url" not in error_body(KindlingError("of_nobody", "No."))["error"]


def test_a_database_that_is_away_is_503():
    assert refusal_of(OperationalError("connection refused")).status == 503


def test_every_drf_refusal_has_a_code():
    for kind in (exceptions.Throttled, exceptions.NotAcceptable, exceptions.ParseError):
        assert_shape(error_body(refusal_of(kind())))


@pytest.mark.parametrize("path", ["key", "keys/", "keys/a/b/c"])
@pytest.mark.parametrize("method", ["get", "post", "delete"])
def test_an_address_that_leads_nowhere_says_so_to_every_method(client, method: str, path: str):
    reply = getattr(Client(enforce_csrf_checks=True), method)(f"/api/v1/{path}")
    assert (reply.status_code, reply.json()["error"]["code"]) == (404, "not_found")


def test_invoices_have_pages(ada: Customer):
    for month in range(1, 6):
        Invoice.objects.create(owner_id=ada.org.id, month=date(2026, month, 1))
    seen, cursor = [], ""
    while True:
        page = ada.client().get("/api/v1/invoices", {"limit": 2, "cursor": cursor}).json()
        seen += [row["month"] for row in page["data"]]
        cursor = page["next_cursor"]
        if not cursor:
            break
    assert seen == [f"2026-0{month}-01" for month in range(5, 0, -1)]
