"""Deployments of an organisation's own making over the API: opened by the operator, made, changed and set back."""

import pytest

from kindling_gpu_time import GPU_MS, gpu_price
from kindling_people import Customer, make_model
from kindling_platform.catalog.models import Model
from kindling_platform.deployments.models import Deployment

pytestmark = pytest.mark.django_db


@pytest.fixture
def model(operator: Customer) -> Model:
    found = make_model(operator, priced=False)
    gpu_price(found.id)
    return found


def code_of(reply) -> tuple[int, str]:
    return reply.status_code, reply.json()["error"]["code"]


def test_from_the_operators_word_to_a_deployment_that_is_set_back(
    operator: Customer, ada: Customer, bob: Customer, model: Model
):
    till, theirs = operator.browser(), ada.client()
    body = {"name": "mine", "model": model.ref, "replicas": 2}
    assert code_of(theirs.call("post", "deployments", body)) == (403, "deployments_closed")
    terms = f"operator/organisations/{ada.org.id}/terms"
    assert till.call("patch", terms, {"own_replicas": 2}).json()["own_replicas"] == 2
    assert till.call("patch", terms, {"own_replicas": 65}).status_code == 422
    assert code_of(theirs.call("post", "deployments", body)) == (403, "model_not_deployable")
    opened = till.call("patch", f"operator/models/{model.id}", {"deployable": True})
    assert opened.json() == {"id": model.id, "ref": model.ref, "deployable": True}
    assert theirs.call("patch", f"operator/models/{model.id}", {"deployable": False}).status_code == 404

    (offer,) = theirs.call("get", "models").json()["data"]
    assert (offer["deployable"], offer["gpu_hour_picousd"]) == (True, str(GPU_MS * 3_600_000))
    # Nobody says here what the machine is.
    said = theirs.call("get", "deployments/allowance").json()
    assert said == {"replicas": 2, "running": 0, "left": 2, "runs_on": ""}
    made = theirs.call("post", "deployments", body)
    assert (made.status_code, made.json()["self_made"], made.json()["state"]) == (201, True, "pending")
    assert code_of(theirs.call("post", "deployments", body | {"name": "more"})) == (409, "replica_limit")
    path = f"deployments/{made.json()['id']}"
    assert theirs.call("patch", path, {"replicas": 1}).json()["desired_replicas"] == 1
    rows = theirs.call("get", f"{path}/revisions").json()["data"]
    assert [(row["number"], row["replicas"], row["is_current"]) for row in rows] == [
        (2, 1, True),
        (1, 2, False),
    ]
    assert rows[0]["changes"] == [{"name": "replicas", "before": "2", "after": "1"}]
    assert theirs.call("post", f"{path}/restore", {"revision": 1}).json()["desired_replicas"] == 2
    assert theirs.call("post", f"{path}/restore", {"revision": 7}).status_code == 404
    assert theirs.call("post", f"{path}/restore", {"revision": 0}).status_code == 422
    rows = till.call("get", f"operator/{path}/revisions").json()["data"]
    assert [(row["number"], row["restored"]) for row in rows] == [(3, 1), (2, None), (1, None)]
    restored = till.call("post", f"operator/{path}/restore", {"revision": 2}).json()
    assert (restored["organisation"], restored["desired_replicas"]) == (ada.org.slug, 1)
    for action in ("revisions", "restore"):
        sent = {"revision": 1} if action == "restore" else None
        assert bob.client().call("post" if sent else "get", f"{path}/{action}", sent).status_code == 404


def test_keys_that_only_read_and_suspended_organisations_deploy_nothing(
    operator: Customer, ada: Customer, model: Model
):
    till, body = operator.browser(), {"name": "mine", "model": model.ref}
    till.call("patch", f"operator/organisations/{ada.org.id}/terms", {"own_replicas": 2})
    till.call("patch", f"operator/models/{model.id}", {"deployable": True})
    assert code_of(ada.client("read").call("post", "deployments", body)) == (403, "scope_missing")
    client = ada.client()
    till.call("post", f"operator/organisations/{ada.org.id}/suspend", {"reason": "Late."})
    assert code_of(client.call("post", "deployments", body)) == (412, "account_suspended")
    assert not Deployment.objects.exists()
