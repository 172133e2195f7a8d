"""Other names for models over REST: set, set anew, list, delete, and each refusal."""

import pytest

from kindling_people import Customer, make_model
from kindling_platform.adapters.aliases import alias_list
from kindling_platform.adapters.services import adapter_create
from kindling_platform.audit.models import AuditEvent

pytestmark = pytest.mark.django_db
FIREWORKS = "accounts/fireworks/models/voice"


@pytest.fixture
def voice(ada: Customer, operator: Customer) -> str:
    model = make_model(operator, "words")
    files = [{"name": "adapter_config.json", "size_bytes": 10}]
    return adapter_create(org=ada.org, name="voice", base_ref=model.ref, files=files, actor=ada.actor).ref


def test_an_alias_is_set_listed_and_forgotten(ada: Customer, voice: str):
    client = ada.client()
    made = client.call("post", "aliases", {"alias": FIREWORKS, "target": "voice"})
    assert made.status_code == 201
    assert made.json()["target"] == voice
    again = client.call("post", "aliases", {"alias": FIREWORKS, "target": "kindling/words"})
    assert again.json()["target"] == "kindling/words"
    listed = client.call("get", "aliases").json()["data"]
    assert [(row["alias"], row["target"]) for row in listed] == [(FIREWORKS, "kindling/words")]
    assert client.call("get", f"aliases/{FIREWORKS}").json() == listed[0]
    assert client.call("delete", f"aliases/{FIREWORKS}").status_code == 204
    assert client.call("get", f"aliases/{FIREWORKS}").json()["error"]["code"] == "not_found"
    assert client.call("delete", f"aliases/{FIREWORKS}").status_code == 404
    assert not alias_list(org=ada.org).exists()
    actions = AuditEvent.objects.filter(organisation_id=ada.org.id, action__startswith="alias.")
    assert list(actions.order_by("id").values_list("action", flat=True)) == [
        "alias.set",
        "alias.set",
        "alias.delete",
    ]


@pytest.mark.parametrize(
    "alias", ["a b", "a/b/c", "x#y", "/x", "x" * 201, "../x", "accounts/a/deployments/b"]
)
def test_a_name_that_no_client_can_send_is_refused(ada: Customer, voice: str, alias: str):
    reply = ada.client().call("post", "aliases", {"alias": alias, "target": "voice"})
    assert reply.status_code in {400, 422}
    assert reply.json()["error"]["param"] == "alias"


def test_a_models_own_name_is_no_alias_of_it(ada: Customer, voice: str):
    for alias in (voice, "voice"):
        reply = ada.client().call("post", "aliases", {"alias": alias, "target": "voice"})
        assert reply.json()["error"]["code"] == "alias_invalid"


def test_what_the_organisation_cannot_call_has_no_alias(ada: Customer, bob: Customer, voice: str):
    make_model(ada, "secret", is_public=False)
    for target in ("voice", voice, f"{ada.org.slug}/secret", "nothing"):
        reply = bob.client().call("post", "aliases", {"alias": "mine", "target": target})
        assert reply.status_code == 404
