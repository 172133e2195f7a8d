"""Names of models and adapters, and what is listed."""

import httpx
import pytest

from kindling_gateway import GatewayServer, chat
from kindling_platform.gateway.names import ModelName, parse_model_name


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("words", ModelName("", "words")),
        ("kindling/words", ModelName("kindling", "words")),
        ("accounts/kindling/models/words", ModelName("kindling", "words")),
        ("kindling/words#blue", ModelName("kindling", "words", "", "blue")),
        ("words#acme/blue", ModelName("", "words", "acme", "blue")),
        (
            "accounts/a/models/m#accounts/b/deployments/d",
            ModelName("a", "m", "b", "d"),
        ),
        ("accounts/a/deployments/d", None),
        ("a#b#c", None),
        ("", None),
        ("a b", None),
    ],
)
def test_names(text: str, expected: ModelName | None):
    assert parse_model_name(text) == expected


def test_public_and_own_models_are_listed(http: httpx.Client, scene):
    scene.world.adapter(scene.customer, "voice", model_id=scene.model_id, base_ref="kindling/words")
    other = scene.world.org("someone")
    scene.world.base(other, "hidden", is_public=False)
    reply = http.get("/v1/models")
    listed = {model["id"]: model for model in reply.json()["data"]}
    assert reply.json()["object"] == "list"
    assert {"kindling/words", f"{scene.customer.slug}/voice"} <= set(listed)
    assert "someone/hidden" not in listed
    assert listed["kindling/words"]["owned_by"] == "kindling"
    assert listed[f"{scene.customer.slug}/voice"]["base_model"] == "kindling/words"
    assert listed["kindling/words"]["price_per_token_picousd"]["output"] == "400000"


@pytest.mark.parametrize(
    "path", ["kindling/words", "kindling%2Fwords", "accounts/kindling/models/words", "kindling/words%23main"]
)
def test_one_model(http: httpx.Client, path: str):
    reply = http.get(f"/v1/models/{path}")
    assert reply.status_code == 200, reply.text
    assert reply.json()["id"] == "kindling/words"
    assert reply.json()["object"] == "model"


def test_a_deployment_that_is_none_of_the_models_is_found_nowhere(http: httpx.Client):
    for path in ("kindling/words%23nope", "kindling/words%23someone/main"):
        assert http.get(f"/v1/models/{path}").json()["error"]["code"] == "model_not_found"
        assert http.post("/v1/chat/completions", json=chat(path.replace("%23", "#"))).status_code == 404


def test_every_list_has_the_prices_of_the_organisations_plan(http: httpx.Client, scene):
    scene.world.adapter(scene.customer, "voice", model_id=scene.model_id, base_ref="kindling/words")
    alias(scene, "gpt-4o", "kindling/words")
    scene.world.execute(
        "INSERT INTO gateway_plan_price VALUES (%s, %s, 'prv_plan', 7, 5, 11, 13, 50)",
        scene.customer.id,
        scene.model_id,
    )
    theirs = {"input": "7", "cached_input": "5", "output": "11", "reasoning": "13"}
    listed = http.get("/v1/models").json()["data"]
    assert len(listed) >= 3
    for model in listed:
        if "kindling/words" in (model["id"], model["base_model"], model["alias_of"]):
            assert model["price_per_token_picousd"] == theirs, model["id"]
            single = http.get(f"/v1/models/{model['id']}").json()
            assert single["price_per_token_picousd"] == theirs


@pytest.mark.parametrize("form", ["{own}/voice", "voice", "accounts/{own}/models/voice", "voice#main"])
def test_an_adapter_is_called_by_every_form_of_its_name(http: httpx.Client, scene, form: str):
    digest = scene.world.adapter(scene.customer, "voice", model_id=scene.model_id, base_ref="kindling/words")
    name = form.format(own=scene.customer.slug)
    reply = http.post("/v1/chat/completions", json=chat(name))
    assert reply.status_code == 200, reply.text
    assert reply.json()["model"] == name
    assert scene.engine.received[0].headers["x-kindling-adapter"] == digest


def test_a_bare_name_under_the_own_prefix(http: httpx.Client, scene):
    scene.world.adapter(scene.customer, "voice", model_id=scene.model_id, base_ref="kindling/words")
    reply = http.post(f"/{scene.customer.slug}/v1/chat/completions", json=chat("voice"))
    assert reply.status_code == 200, reply.text


def test_organisations_have_different_salts(server: GatewayServer, scene):
    other = scene.world.org("salty")
    scene.world.execute("UPDATE gateway_key SET org_salt = 'ff' WHERE org_id = %s", other.id)
    key = scene.world.key(other)
    scene.world.execute("UPDATE gateway_key SET org_salt = 'ff' WHERE org_id = %s", other.id)
    for each in (scene.key, key, scene.key):
        with server.client(each) as client:
            assert client.post("/v1/chat/completions", json=chat()).status_code == 200
    salts = [got.headers["x-kindling-salt"] for got in scene.engine.received]
    assert salts[0] == salts[2] != salts[1]


def alias(scene, text: str, ref: str) -> None:
    scene.world.execute(
        "INSERT INTO gateway_alias VALUES (%s, %s, %s, %s)", scene.customer.id, text, *ref.split("/")
    )


def test_an_alias_is_called_under_its_own_name(http: httpx.Client, scene):
    scene.world.adapter(scene.customer, "voice", model_id=scene.model_id, base_ref="kindling/words")
    alias(scene, "accounts/fireworks/models/voice", f"{scene.customer.slug}/voice")
    alias(scene, "gpt-4o", "kindling/words")
    for name, ref in (
        ("accounts/fireworks/models/voice", f"{scene.customer.slug}/voice"),
        ("gpt-4o", "kindling/words"),
    ):
        reply = http.post("/v1/chat/completions", json=chat(name))
        assert reply.status_code == 200, reply.text
        one = http.get(f"/v1/models/{name}").json()
        assert (one["id"], one["alias_of"]) == (name, ref)
        assert one in http.get("/v1/models").json()["data"]
    assert http.post("/v1/chat/completions", json=chat("gpt-4o#main")).status_code == 200


def test_aliases_are_listed_where_they_stand_for_something(http: httpx.Client, server: GatewayServer, scene):
    scene.world.adapter(scene.customer, "voice", model_id=scene.model_id, base_ref="kindling/words")
    other = scene.world.org("somebody")
    scene.world.base(other, "hidden", is_public=False)
    for text, ref in (
        ("gpt-4o", "kindling/words"),
        ("accounts/fireworks/models/voice", f"{scene.customer.slug}/voice"),
        ("gone", "kindling/nothing"),
        ("peek", "somebody/hidden"),
        ("voice", "kindling/words"),  # the name of a model goes before it
        ("kindling/words", f"{scene.customer.slug}/voice"),
    ):
        alias(scene, text, ref)
    listed = http.get("/v1/models").json()["data"]
    assert {model["id"]: model["alias_of"] for model in listed if model["alias_of"]} == {
        "gpt-4o": "kindling/words",
        "accounts/fireworks/models/voice": f"{scene.customer.slug}/voice",
    }
    assert len({model["id"] for model in listed}) == len(listed)
    shaped = http.get("/v1/models", headers={"anthropic-version": "2023-06-01"}).json()["data"]
    assert [model["id"] for model in shaped] == [model["id"] for model in listed]
    with server.client(scene.world.key(scene.customer, models=["kindling/words"])) as bound:
        assert [model["id"] for model in bound.get("/v1/models").json()["data"]] == [
            "kindling/words",
            "gpt-4o",
        ]
    with server.client(scene.world.key(scene.world.org("outsider"))) as stranger:
        assert "gpt-4o" not in stranger.get("/v1/models").text


def test_an_alias_is_its_organisations_alone_and_hides_nothing(
    http: httpx.Client, server: GatewayServer, scene
):
    alias(scene, "gpt-4o", "kindling/words")
    alias(scene, "kindling/words", f"{scene.customer.slug}/nothing")
    assert http.post("/v1/chat/completions", json=chat("kindling/words")).status_code == 200
    with server.client(scene.world.key(scene.world.org("stranger"))) as stranger:
        assert stranger.post("/v1/chat/completions", json=chat("gpt-4o")).status_code == 404
    other = scene.world.org("someone-else")
    scene.world.base(other, "hidden", is_public=False)
    alias(scene, "peek", "someone-else/hidden")
    assert http.post("/v1/chat/completions", json=chat("peek")).status_code == 404
