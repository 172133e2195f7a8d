"""A body with a name that there is not is refused: whoever writes one means something by it."""

import inspect
import re
from importlib import import_module
from pathlib import Path

import pytest

from kindling_people import Customer, make_model
from kindling_platform import api
from kindling_platform.api.strict import StrictShape
from kindling_platform.keys.models import ApiKey

pytestmark = pytest.mark.django_db
BODIES = [
    ("post", "keys", {"name": "ci", "scopes": ["read"], "model": ["kindling/other"]}, "model"),
    ("patch", "limits", {"request_per_minute": 1}, "request_per_minute"),
    ("post", "payments", {"amount_cents": 1000, "currency": "eur"}, "currency"),
    ("post", "invitations", {"email": "x@example.test", "role": "viewer", "note": "hi"}, "note"),
    ("post", "adapters", {"name": "a", "base_model": "kindling/spark", "fils": []}, "fils"),
    (
        "post",
        "adapters",
        {"name": "a", "base_model": "kindling/spark", "files": [{"name": "x", "size_bytes": 1, "sha": ""}]},
        "files.0.sha",
    ),
    ("put", "auto-topup", {"enabled": True, "limit": 1}, "limit"),
]


@pytest.mark.parametrize(("method", "path", "body", "param"), BODIES)
def test_it_is_named_and_nothing_is_done(ada: Customer, method: str, path: str, body: dict, param: str):
    client = ada.client()
    reply = client.call(method, path, body)
    error = reply.json()["error"]
    assert (reply.status_code, error["code"], error["param"]) == (422, "validation_failed", param)
    assert "no such field" in error["message"]
    assert ApiKey.objects.filter(name="ci").count() == 0


def test_the_operators_bodies_too(operator: Customer, ada: Customer):
    make_model(operator)
    path = f"operator/organisations/{ada.org.id}/grants"
    reply = operator.browser().call("post", path, {"amount_usd": "1", "memo": "x", "amount": 5})
    assert (reply.status_code, reply.json()["error"]["param"]) == (422, "amount")


def test_every_body_that_is_read_is_strict():
    folder = Path(api.__file__).parent
    asked, shapes = set(), {}
    for path in folder.rglob("*.py"):
        asked |= set(re.findall(r"(\w+)\(data=request\.data", path.read_text()))
        if "shapes" in str(path.relative_to(folder)):
            name = ".".join(("kindling_platform", *path.relative_to(folder.parent).with_suffix("").parts))
            shapes |= dict(inspect.getmembers(import_module(name), inspect.isclass))
    assert len(asked) > 20
    assert [name for name in sorted(asked) if not issubclass(shapes[name], StrictShape)] == []


@pytest.mark.parametrize("path", ["members/{}/limits", "responses", "request-log"])
def test_an_answer_may_be_sent_back(ada: Customer, path: str):
    client, path = ada.client(), path.format(ada.user.id)
    assert client.call("patch", path, client.call("get", path).json()).status_code == 200
