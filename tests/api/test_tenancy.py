"""Every address, walked as the wrong tenant: 404, and nothing of the other's in the answer."""

import re
from collections.abc import Iterator

import pytest
from django.urls import URLPattern

from kindling_billing.payment_selectors import payment_list
from kindling_billing.payments import payment_received
from kindling_billing.selectors import price_current
from kindling_billing.webhooks.cards import card_apply, customer_known
from kindling_gpu_time import gpu_price
from kindling_hooks import hook
from kindling_kept_requests import keep_request
from kindling_people import ApiClient, Customer, make_customer, make_model, make_record
from kindling_platform.accounts.invitations import invitation_create
from kindling_platform.adapters.aliases import alias_set
from kindling_platform.adapters.services import adapter_create
from kindling_platform.api import urls
from kindling_platform.common.clock import now
from kindling_platform.deployments.services import deployment_ensure
from kindling_platform.hooks.services import endpoint_test
from kindling_platform.keys.services import key_create
from kindling_platform.usage.services import usage_ingest

pytestmark = pytest.mark.django_db
SECRETS = (
    *("treasure-alias", "treasure-key", "treasure-adapter", "treasure-deployment", "treasure-model"),
    "treasure-prompt",
    "treasure-hook",
)


@pytest.fixture(scope="module")
def ada(module_rows: None) -> Customer:
    return make_customer("ada")


@pytest.fixture(scope="module")
def bobs(module_rows: None) -> list[ApiClient]:
    """Another customer with a key, and with a session."""
    bob = make_customer("bob")
    return [bob.client(), bob.browser()]


@pytest.fixture(scope="module")
def targets(ada: Customer) -> dict[str, str]:
    """One object of ada's for each kind of id in the addresses."""
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
    alias_set(org=ada.org, alias="treasure-alias", target="treasure-adapter", actor=ada.actor)
    keep_request(ada, record.request_id, prompt=b"treasure-prompt")
    payment_received(intent_id="pi_treasure", owner_id=ada.org.id, amount_cents=2000)
    payment = payment_list(owner_id=ada.org.id).get()
    customer_known(owner_id=ada.org.id, customer_id="cus_treasure")
    card_apply({"id": "pm_treasure", "customer": "cus_treasure", "card": {"brand": "visa", "last4": "4242"}})
    invited, _ = invitation_create(org=ada.org, email="new@example.test", role="viewer", actor=ada.actor)
    endpoint, _ = hook(ada, "https://hooks.example.com/treasure-hook")
    sent = endpoint_test(org=ada.org, endpoint_id=endpoint.id, actor=ada.actor)
    return {
        "webhook_id": endpoint.id, "delivery_id": sent.id,
        "organisation_id": ada.org.id, "price_id": price.id, "model_id": model.id, "invoice_id": "inv_treasure",
        "movement_id": "ch_treasure", "kind": "usage", "record_id": record.request_id, "action": "release",
        "rerating_id": "1", "letter_id": "notice-1", "invitation_id": invited.id,
        "payment_id": payment.id, "card_id": "pm_treasure",
        "alias": "treasure-alias",
        "key_id": key.id, "user_id": ada.user.id, "adapter_id": adapter.id, "deployment_id": deployment.id,
        "request_id": record.request_id, "ref": model.ref, "name": "adapter_config.json",
    }  # fmt: skip


def addresses() -> Iterator[tuple[str, str]]:
    """(method, route) of every view."""
    for pattern in urls.urlpatterns:
        route = str(pattern.pattern)
        if isinstance(pattern, URLPattern) and route.startswith("v1/"):
            for method in pattern.callback.view_class.actions:
                yield method.lower(), route.removeprefix("v1/")


def filled(route: str, targets: dict[str, str]) -> str:
    return re.sub(r"<\w+:(\w+)>", lambda found: targets[found[1]], route)


def walk(client: ApiClient, method: str, path: str):
    if method == "put":
        return client.send(path, b"{}")
    return client.call(method, path, {} if method in ("post", "patch") else None)


@pytest.mark.parametrize(("method", "route"), list(addresses()))
def test_another_tenants_objects_do_not_exist(
    ada: Customer, bobs: list[ApiClient], targets: dict[str, str], method: str, route: str
):
    for client in bobs:
        reply = walk(client, method, filled(route, targets))
        text = (b"".join(reply) if reply.streaming else reply.content).decode()
        assert not [secret for secret in SECRETS if secret in text and secret not in filled(route, targets)]
        assert ada.org.id not in text
        if "<" in route:
            assert reply.status_code == 404, text
            assert reply.json()["error"]["code"] in {"not_found", "model_not_found"}


# The operator's own have a walk of their own, in test_operator_access.
OWNED = [
    (method, route) for method, route in addresses() if method == "get" and not route.startswith("operator/")
]


@pytest.mark.parametrize(("method", "route"), OWNED)
def test_the_owner_sees_them(ada: Customer, targets: dict[str, str], method: str, route: str):
    # Without this, a walk over wrong addresses would pass as well.
    assert walk(ada.client(), method, filled(route, targets)).status_code == 200


@pytest.mark.parametrize(("method", "route"), list(addresses()))
def test_a_stranger_gets_401(targets: dict[str, str], method: str, route: str):
    stranger = ApiClient()
    assert walk(stranger, method, filled(route, targets)).status_code == 401


def test_every_view_names_the_action_of_every_method():
    for pattern in urls.urlpatterns:
        view = getattr(pattern.callback, "view_class", None)
        if view is None or not str(pattern.pattern).startswith("v1/"):
            continue
        methods = {m.upper() for m in ("get", "post", "put", "patch", "delete") if hasattr(view, m)}
        assert methods == set(view.actions), view
