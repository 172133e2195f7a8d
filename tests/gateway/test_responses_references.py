"""Items of earlier responses by their ids, as Vercel's SDK sends a conversation."""

import secrets

import httpx
import openai
import pytest

from kindling_gateway import GatewayServer
from kindling_platform.gateway.surface.responses import store

ASK = {"model": "kindling/words", "max_output_tokens": 3}


@pytest.fixture
def client(server: GatewayServer, scene) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=scene.key, max_retries=0)


def reference(item_id: str) -> dict[str, str]:
    return {"type": "item_reference", "id": item_id}


def said(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def test_an_item_stands_where_its_id_does(client: openai.OpenAI, scene):
    first = client.responses.create(**ASK, input="One?")
    second = client.responses.create(**ASK, input=[said("One?"), reference(first.output[0].id), said("Two?")])
    items = [
        said("One?"),
        reference(first.output[0].id),
        said("Two?"),
        reference(second.output[0].id),
        said("?"),
    ]
    third = client.responses.create(**ASK, input=items)
    assert [(one["role"], one["content"]) for one in scene.engine.received[-1].body["messages"]] == [
        ("user", "One?"),
        ("assistant", "w1 w2 w3 "),
        ("user", "Two?"),
        ("assistant", "w1 w2 w3 "),
        ("user", "?"),
    ]
    # What is kept of a turn needs the others no more.
    for gone in (first, second):
        client.responses.delete(gone.id)
    client.responses.create(**ASK, input="And then?", previous_response_id=third.id)
    assert len(scene.engine.received[-1].body["messages"]) == 7
    kept = client.responses.input_items.list(third.id, order="asc").data
    assert [item.type for item in kept] == ["message"] * 5


def test_tokens_are_counted_with_it(client: openai.OpenAI, scene):
    first = client.responses.create(**ASK, input="One?")
    client.responses.input_tokens.count(
        model="kindling/words", input=[reference(first.output[0].id), said("?")]
    )
    assert scene.engine.received[-1].body["messages"][0]["content"] == "w1 w2 w3 "


def test_an_item_that_is_gone_is_named_by_its_place(server: GatewayServer, client: openai.OpenAI, scene):
    made = client.responses.create(**ASK, input="One?")
    known, asked = made.output[0].id, len(scene.engine.received)
    other = made.output[0].id[:-2] + "7f"
    for item_id in ("msg_" + "0" * 34, "msg_1", "nonsense", "x\x00", other):
        with pytest.raises(openai.NotFoundError) as refused:
            client.responses.create(**ASK, input=[reference(known), said("?"), reference(item_id)])
        assert (refused.value.code, refused.value.param) == ("item_not_found", "input[2].id")
    stranger = client.with_options(api_key=scene.world.key(scene.world.org(f"nosy-{secrets.token_hex(4)}")))
    with pytest.raises(openai.NotFoundError) as refused:
        stranger.responses.create(**ASK, input=[said("?"), reference(known)])
    assert (refused.value.code, refused.value.param) == ("item_not_found", "input[1].id")
    client.responses.delete(made.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.create(**ASK, input=[reference(known), said("?")])
    assert len(scene.engine.received) == asked


def test_what_was_not_sealed_for_its_row_is_gone(client: openai.OpenAI, scene):
    one, other = (client.responses.create(**ASK, input=text) for text in ("one", "other"))
    scene.world.execute(
        "UPDATE responses_storedresponse SET body = (SELECT body FROM responses_storedresponse WHERE id = %s)"
        " WHERE id = %s",
        other.id,
        one.id,
    )
    with pytest.raises(openai.NotFoundError) as gone:
        client.responses.create(**ASK, input=[reference(one.output[0].id), said("?")])
    assert gone.value.code == "item_not_found"


def test_references_have_bounds(client: openai.OpenAI, scene, monkeypatch: pytest.MonkeyPatch):
    made = client.responses.create(**ASK, input="One?")
    known = reference(made.output[0].id)
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.create(**ASK, input=[known, said("?"), known])
    assert refused.value.param == "input[2].id"
    monkeypatch.setattr(store, "MAX_BYTES", 100)
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.create(**ASK, input=[known, said("?")])
    assert (refused.value.code, refused.value.param) == ("context_length_exceeded", "input")


def test_a_client_token_refers_to_nothing(server: GatewayServer, client: openai.OpenAI, http: httpx.Client):
    made = client.responses.create(**ASK, input="One?")
    guest = client.with_options(api_key=http.post("/v1/client_tokens", json={}).json()["token"])
    with pytest.raises(openai.PermissionDeniedError) as refused:
        guest.responses.create(**ASK, input=[reference(made.output[0].id), said("?")])
    assert refused.value.code == "key_required"
