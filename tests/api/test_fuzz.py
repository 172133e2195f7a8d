"""schemathesis over the control API's own schema by one of two tenants: no 5xx, nothing of the other's in an answer."""

import json
import re
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.core import NotSet

from kindling_api_operations import api_operations
from kindling_billing.selectors import price_current
from kindling_examples import examples
from kindling_gpu_time import gpu_price
from kindling_people import ApiClient, Customer, make_customer, make_model, make_record
from kindling_platform.adapters.services import adapter_create
from kindling_platform.common.clock import now
from kindling_platform.deployments.services import deployment_ensure
from kindling_platform.keys.services import key_create
from kindling_platform.usage.services import usage_ingest

pytestmark = pytest.mark.django_db
SECRETS = ("treasure-key", "treasure-adapter", "treasure-deployment", "treasure-model")
# Zips have tests of their own; made-up bytes are none. The operator's addresses are nothing to a tenant.
OPERATIONS = {
    label: operation
    for label, operation in api_operations().items()
    if "application/zip" not in operation.get_request_payload_content_types() and "/operator/" not in label
}
# An error has a form of its own, whatever was asked.
ERROR = {"message", "type", "param", "code"}


@pytest.fixture(scope="module")
def ada(module_rows: None) -> Customer:
    return make_customer("ada")


@pytest.fixture(scope="module")
def bob(module_rows: None) -> Customer:
    return make_customer("bob")


@pytest.fixture(scope="module")
def treasures(ada: Customer) -> dict[str, str]:
    """Ada's objects by the names that paths give their ids."""
    model = make_model(ada, "treasure-model", is_public=False)
    key, _ = key_create(org=ada.org, name="treasure-key", scopes=["read"], actor=ada.actor)
    files = [{"name": "adapter_config.json", "size_bytes": 10}]
    adapter = adapter_create(
        org=ada.org, name="treasure-adapter", base_ref=model.ref, files=files, actor=ada.actor
    )
    gpu_price(model.id, since=now())
    deployment = deployment_ensure(org=ada.org, model=model, name="treasure-deployment", actor=ada.actor)
    price = price_current(sku=model.id)
    assert price
    record = make_record(ada.org.id, model, price)
    usage_ingest(source="r", log_id="l", after=0, records=[record], next_offset=1)
    return {
        "key_id": key.id, "adapter_id": adapter.id, "deployment_id": deployment.id,
        "request_id": record.request_id, "ref": model.ref, "name": "adapter_config.json",
    }  # fmt: skip


def ask(client: ApiClient, case: schemathesis.Case, path: str) -> Any:
    """Send a made-up case the way a client would; what is no JSON goes as the bytes it is."""
    query = {name: value for name, value in (case.query or {}).items() if value is not None}
    body = case.body
    sent: dict[str, Any] = {}
    if isinstance(body, bytes):
        sent = {"data": body, "content_type": case.media_type or "application/octet-stream"}
    elif not isinstance(body, NotSet):
        sent = {"data": json.dumps(body), "content_type": "application/json"}
    return client.generic(
        case.method, path, query_params=query, headers={"accept": "application/json"}, **sent
    )


@pytest.mark.parametrize("label", sorted(OPERATIONS))
def test_nothing_breaks_and_nothing_is_told(
    ada: Customer, bob: Customer, treasures: dict[str, str], label: str
):
    operation, client = OPERATIONS[label], bob.client()

    @settings(
        max_examples=examples(30),
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(), theirs=st.booleans())
    def check(case: schemathesis.Case, theirs: bool) -> None:
        names = re.findall(r"{(\w+)}", case.path)
        theirs = theirs and bool(names) and set(names) <= set(treasures)
        if theirs:
            path = re.sub(r"{(\w+)}", lambda found: treasures[found[1]], case.path)
        else:
            path = case.formatted_path
        reply = ask(client, case, path)
        text = b"".join(reply).decode() if reply.streaming else reply.content.decode()
        assert reply.status_code < 500, (label, path, text)
        assert ada.org.id not in text
        asked = path + json.dumps(case.body, default=str) + json.dumps(case.query or {}, default=str)
        assert not [secret for secret in SECRETS if secret in text and secret not in asked]
        if reply.status_code >= 400 and path.startswith("/api/"):
            assert set(json.loads(text)["error"]) >= ERROR, text
        if theirs:
            assert reply.status_code >= 400

    check()
