"""schemathesis over the operator's part of the schema, by an operator's key: whatever is sent, nothing breaks."""

import json
import re
from typing import Any

import pytest
import schemathesis
from drf_spectacular.generators import SchemaGenerator
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.core import NotSet

from kindling_billing.selectors import drift_list, ledger_sum, price_current
from kindling_people import ApiClient, Customer, make_model
from kindling_platform.keys.services import key_create

pytestmark = pytest.mark.django_db
SCHEMA = schemathesis.openapi.from_dict(SchemaGenerator().get_schema(request=None, public=True))
OPERATIONS = {
    found.ok().label: found.ok() for found in SCHEMA.get_all_operations() if "/operator/" in found.ok().label
}


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
def test_nothing_breaks(ada: Customer, operator: Customer, label: str):
    model = make_model(operator)
    price = price_current(sku=model.id)
    assert price
    ids = {
        "organisation_id": ada.org.id, "model_id": model.id, "price_id": price.id, "invoice_id": "inv_none",
        "movement_id": "ch_none",
    }  # fmt: skip
    scopes = ["operator", "manage"]
    _, text = key_create(org=operator.org, name="till", scopes=scopes, actor=operator.actor, may_operate=True)
    client = ApiClient(HTTP_AUTHORIZATION=f"Bearer {text}")

    @settings(
        max_examples=15,
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
