"""How long responses are kept, and opinions beside usage, over the control API."""

import uuid
from datetime import timedelta

import pytest

from kindling_billing.selectors import price_current
from kindling_people import Customer, make_model, make_record
from kindling_platform.audit.models import AuditEvent
from kindling_platform.common.clock import now
from kindling_platform.responses.models import StoredResponse
from kindling_platform.usage.models import Feedback
from kindling_platform.usage.services import usage_ingest

pytestmark = pytest.mark.django_db


def keep(customer: Customer, number: int) -> None:
    StoredResponse.objects.create(
        id=f"resp_{number:032x}", organisation_id=customer.org.id, key_id="key_1", body=b"{}", input=b"[]",
        created_at=now(), expires_at=now() + timedelta(days=30),
    )  # fmt: skip


def test_retention_is_read_and_changed(ada: Customer):
    keep(ada, 1)
    client = ada.client()
    assert client.call("get", "responses").json() == {"retention_days": 30, "stored": 1}
    changed = client.call("patch", "responses", {"retention_days": 7})
    assert changed.json() == {"retention_days": 7, "stored": 1}
    stored = StoredResponse.objects.get()
    assert stored.expires_at - stored.created_at == timedelta(days=7)
    assert AuditEvent.objects.filter(action="responses.retain", organisation_id=ada.org.id).exists()
    assert client.call("patch", "responses", {"retention_days": 0}).json() == {
        "retention_days": 0,
        "stored": 0,
    }


@pytest.mark.parametrize("days", [-1, 366, "x", None, 1.5])
def test_days_that_are_none_are_refused(ada: Customer, days: object):
    assert ada.client().call("patch", "responses", {"retention_days": days}).status_code == 422


def test_deleting_leaves_other_organisations_alone(ada: Customer, bob: Customer):
    keep(ada, 1)
    keep(bob, 2)
    assert ada.client().call("delete", "responses").status_code == 204
    assert [one.organisation_id for one in StoredResponse.objects.all()] == [bob.org.id]
    assert bob.client().call("get", "responses").json()["stored"] == 1


def test_an_opinion_stands_beside_its_request(ada: Customer, bob: Customer):
    model = make_model(ada)
    price = price_current(sku=model.id)
    assert price
    record = make_record(ada.org.id, model, price)
    usage_ingest(source="r", log_id="l", after=0, records=[record], next_offset=1)
    path = f"usage/requests/{record.request_id}"
    assert ada.client().call("get", path).json()["feedback"] is None
    for customer, score in ((ada, 0.5), (bob, 1.0)):
        Feedback.objects.create(
            organisation_id=customer.org.id, request_id=uuid.UUID(record.request_id), key_id="k", score=score,
            label="fine", created_at=now(), updated_at=now(),
        )  # fmt: skip
    assert ada.client().call("get", path).json()["feedback"] == {"score": 0.5, "label": "fine"}
    for name in (f"chatcmpl-{record.request_id}", f"resp_{uuid.UUID(record.request_id).hex}"):
        assert ada.client().call("get", f"usage/requests/{name}").json()["request_id"] == record.request_id
        assert bob.client().call("get", f"usage/requests/{name}").status_code == 404
