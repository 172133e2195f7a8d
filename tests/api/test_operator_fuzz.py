"""schemathesis over the operator's part of the schema, by an operator's key: whatever is sent, nothing breaks."""

import json
import re
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.core import NotSet

from kindling_api_operations import api_operations
from kindling_billing.models import Notice
from kindling_billing.models.prices import Rerating
from kindling_billing.selectors import drift_list, ledger_sum, price_current
from kindling_examples import examples
from kindling_people import ApiClient, Customer, make_customer, make_model, make_operator
from kindling_platform.common.clock import now
from kindling_platform.deployments.services import deployment_ensure
from kindling_platform.keys.services import key_create

pytestmark = pytest.mark.django_db
OPERATIONS = {label: found for label, found in api_operations().items() if "/operator/" in label}


@pytest.fixture(scope="module")
def operator(module_rows: None) -> Customer:
    return make_operator()


@pytest.fixture(scope="module")
def client(operator: Customer) -> ApiClient:
    """A client with a key that reads and changes what the operator may."""
    scopes = ["operator", "manage"]
    _, text = key_create(org=operator.org, name="till", scopes=scopes, actor=operator.actor, may_operate=True)
    return ApiClient(HTTP_AUTHORIZATION=f"Bearer {text}")


@pytest.fixture(scope="module")
def ids(operator: Customer) -> dict[str, str]:
    """A customer, and a priced model, by the names that paths give their ids."""
    ada, model = make_customer("ada"), make_model(operator)
    price = price_current(sku=model.id)
    assert price
    run = Rerating.objects.create(sku=model.id, start=now(), end=now(), reason="A test")
    deployment = deployment_ensure(org=operator.org, model=model, name="called", actor=operator.actor)
    letter = Notice.objects.create(kind="owner.resumed", key="called", owner_id=ada.org.id)
    return {
        "organisation_id": ada.org.id, "model_id": model.id, "price_id": price.id, "invoice_id": "inv_none",
        "movement_id": "ch_none", "kind": "usage", "record_id": "018f5a3e-0000-7000-8000-000000000001",
        "action": "release", "rerating_id": str(run.id), "letter_id": f"notice-{letter.id}",
        "deployment_id": deployment.id,
    }  # fmt: skip


def sent(client: ApiClient, case: schemathesis.Case, path: str) -> Any:
    """Send a made-up case; what is no JSON goes as the bytes it is."""
    query = {name: value for name, value in (case.query or {}).items() if value is not None}
    headers = {
        str(name): text
        for name, value in (case.headers or {}).items()
        if str(name).lower() == "idempotency-key" and (text := str(value)).isascii() and text.isprintable()
    }
    body: dict[str, Any] = {}
    if not isinstance(case.body, NotSet):
        plain = case.body if isinstance(case.body, bytes) else json.dumps(case.body)
        body = {"data": plain, "content_type": "application/json"}
    return client.generic(case.method, path, query_params=query, headers=headers, **body)


@pytest.mark.parametrize("label", sorted(OPERATIONS))
def test_nothing_breaks(client: ApiClient, ids: dict[str, str], label: str):
    @settings(
        max_examples=examples(30),
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=OPERATIONS[label].as_strategy(), known=st.booleans())
    def check(case: schemathesis.Case, known: bool) -> None:
        path = re.sub(r"{(\w+)}", lambda found: ids[found[1]], case.path) if known else case.formatted_path
        reply = sent(client, case, path)
        said = b"".join(reply).decode() if reply.streaming else reply.content.decode()
        assert reply.status_code < 500, (label, path, said)
        if reply.status_code >= 400 and path.startswith("/api/"):
            assert {"message", "type", "param", "code"} <= set(json.loads(said)["error"]), said

    check()
    assert (ledger_sum(), drift_list()) == (0, [])
