"""The official `openai` client's Responses against the gateway: kept, continued, listed, deleted, and one's own."""

import secrets

import httpx
import openai
import pytest

from kindling_gateway import GatewayServer, eventually, held_nano
from kindling_platform.gateway.surface.body import INLINE_BODY_BYTES
from kindling_platform.gateway.surface.responses import store
from kindling_platform.responses.seal import SEALED

ASK = {"model": "kindling/words", "max_output_tokens": 3}


def client_of(server: GatewayServer, key: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0)


@pytest.fixture
def client(server: GatewayServer, scene) -> openai.OpenAI:
    return client_of(server, scene.key)


def test_a_response_is_kept_and_can_be_read(client: openai.OpenAI, scene):
    made = client.responses.create(**ASK, input="Hello!", instructions="Be kind.", metadata={"a": "b"})
    assert made.output_text == "w1 w2 w3 "
    assert (made.status, made.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert (made.usage.input_tokens, made.usage.output_tokens) == (7, 3)
    assert made.id == "resp_" + scene.engine.received[0].id.replace("-", "")
    assert made.store is True
    read = client.responses.retrieve(made.id)
    assert read.to_dict() == made.to_dict()
    assert read.metadata == {"a": "b"}


def test_a_response_goes_on_behind_another(client: openai.OpenAI, scene):
    first = client.responses.create(**ASK, input="One?", instructions="Be kind.")
    second = client.responses.create(**ASK, input="Two?", previous_response_id=first.id)
    third = client.responses.create(**ASK, input="Three?", previous_response_id=second.id)
    assert third.previous_response_id == second.id
    messages = scene.engine.received[-1].body["messages"]
    assert [(one["role"], one["content"]) for one in messages] == [
        ("user", "One?"),
        ("assistant", "w1 w2 w3 "),
        ("user", "Two?"),
        ("assistant", "w1 w2 w3 "),
        ("user", "Three?"),
    ]


def test_a_conversation_beyond_all_bounds_does_not_go_on(client: openai.OpenAI, scene, monkeypatch):
    first = client.responses.create(**ASK, input="One?")
    second = client.responses.create(**ASK, input="Two?", previous_response_id=first.id)
    monkeypatch.setattr(store, "MAX_BYTES", 700)
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.create(**ASK, input="Three?", previous_response_id=second.id)
    assert refused.value.code == "context_length_exceeded"


def test_what_is_small_only_while_it_is_sealed_is_too_long_as_well(client: openai.OpenAI, scene, monkeypatch):
    first = client.responses.create(**ASK, input="a" * 100_000)
    second = client.responses.create(**ASK, input="Two?", previous_response_id=first.id)
    stored = "SELECT octet_length(input) FROM responses_storedresponse WHERE id = %s"
    assert scene.world.value(stored, first.id) < 2_000
    monkeypatch.setattr(store, "MAX_OPEN_BYTES", 90_000)
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.create(**ASK, input="Three?", previous_response_id=second.id)
    assert refused.value.code == "context_length_exceeded"
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(first.id)


def test_a_conversation_with_a_hole_does_not_go_on(client: openai.OpenAI, scene):
    first = client.responses.create(**ASK, input="One?")
    second = client.responses.create(**ASK, input="Two?", previous_response_id=first.id)
    client.responses.delete(first.id)
    asked = len(scene.engine.received)
    for gone in (first.id, second.id, "resp_" + "0" * 32, "nonsense", "x\x00"):
        with pytest.raises(openai.NotFoundError) as refused:
            client.responses.create(**ASK, input="Three?", previous_response_id=gone)
        assert refused.value.code == "previous_response_not_found"
    assert len(scene.engine.received) == asked


def test_what_is_not_to_be_kept_is_not(client: openai.OpenAI):
    made = client.responses.create(**ASK, input="Hello!", store=False)
    assert made.store is False
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(made.id)


def test_deleted_is_gone(client: openai.OpenAI):
    made = client.responses.create(**ASK, input="Hello!")
    client.responses.delete(made.id)
    for call in (client.responses.retrieve, client.responses.delete):
        with pytest.raises(openai.NotFoundError) as gone:
            call(made.id)
        assert gone.value.code == "response_not_found"


def test_nobody_else_sees_it(server: GatewayServer, client: openai.OpenAI, scene):
    made = client.responses.create(**ASK, input="Hello!")
    other = client_of(server, scene.world.key(scene.world.org(f"nosy-{secrets.token_hex(4)}")))
    for call in (
        other.responses.retrieve,
        other.responses.delete,
        other.responses.cancel,
        other.responses.input_items.list,
    ):
        with pytest.raises(openai.NotFoundError) as refused:
            call(made.id)
        assert refused.value.code == "response_not_found"
    with pytest.raises(openai.NotFoundError):
        other.responses.create(**ASK, input="?", previous_response_id=made.id)
    assert client.responses.retrieve(made.id).id == made.id


def test_input_items_come_in_pages(client: openai.OpenAI):
    items = [{"role": "user", "content": f"Word {number}"} for number in range(5)]
    made = client.responses.create(**ASK, input=items)
    page = client.responses.input_items.list(made.id, limit=2)
    assert [item.content[0].text for item in page.data] == ["Word 4", "Word 3"]
    assert page.has_more
    everything = [item.content[0].text for item in client.responses.input_items.list(made.id, limit=2)]
    assert everything == [f"Word {number}" for number in (4, 3, 2, 1, 0)]
    oldest = client.responses.input_items.list(made.id, order="asc", limit=1)
    assert oldest.data[0].content[0].text == "Word 0"
    for bad in ({"limit": 0}, {"limit": 101}, {"order": "up"}, {"after": "msg_none"}):
        with pytest.raises(openai.BadRequestError):
            client.responses.input_items.list(made.id, **bad)


def test_pages_end_though_items_have_the_same_ids(client: openai.OpenAI):
    block = [{"role": "user", "content": f"{n}", "id": f"msg_{n}", "type": "message"} for n in range(5)]
    made = client.responses.create(**ASK, input=block * 6)
    listed = [item.content[0].text for item in client.responses.input_items.list(made.id, order="asc")]
    assert listed == [f"{n}" for n in range(5)] * 6
    assert len({item.id for item in client.responses.input_items.list(made.id)}) == 30


def test_what_somebody_waited_for_cannot_be_cancelled(client: openai.OpenAI):
    made = client.responses.create(**ASK, input="Hello!")
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.cancel(made.id)
    assert (refused.value.code, refused.value.param) == ("unsupported_operation", "background")


def test_a_stream_is_kept_before_its_last_event(client: openai.OpenAI, scene):
    events = list(client.responses.create(**ASK, input="Hello!", stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(deltas) == "w1 w2 w3 "
    last = events[-1].response
    assert client.responses.retrieve(last.id).to_dict() == last.to_dict()


def test_a_stream_that_breaks_fails_is_free_and_is_not_kept(client: openai.OpenAI, scene):
    scene.engine.behaviour.cut_after = 2
    events = list(client.responses.create(**ASK, input="Hello!", stream=True))
    assert events[-1].type == "response.failed"
    assert events[-1].response.error.code == "server_error"
    eventually(lambda: held_nano(scene.valkey, scene.customer) == {})
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(events[-1].response.id)


def test_an_organisation_may_keep_nothing_or_for_days(client: openai.OpenAI, scene):
    scene.world.execute("INSERT INTO responses_retention VALUES (%s, 0)", scene.customer.id)
    assert client.responses.create(**ASK, input="Hello!").store is False
    scene.world.execute(
        "UPDATE responses_retention SET days = 7 WHERE organisation_id = %s", scene.customer.id
    )
    made = client.responses.create(**ASK, input="Hello!")
    assert made.store is True
    scene.world.execute("UPDATE responses_storedresponse SET expires_at = now() WHERE id = %s", made.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(made.id)


def test_a_text_with_any_character_is_kept(client: openai.OpenAI):
    made = client.responses.create(**ASK, input="a\x00b\u2028✈")
    (item,) = client.responses.input_items.list(made.id).data
    assert item.content[0].text == "a\x00b\u2028✈"


def test_a_copy_of_the_database_says_nothing(client: openai.OpenAI, scene):
    secret = "the harvest of the northern field"
    made = client.responses.create(**ASK, input=secret)
    row = scene.world.rows("SELECT body, input FROM responses_storedresponse WHERE id = %s", made.id)[0]
    for stored in map(bytes, row):
        assert stored.startswith(SEALED) and made.id.encode() not in stored and secret.encode() not in stored
    assert client.responses.input_items.list(made.id).data[0].content[0].text == secret


@pytest.mark.parametrize("column", ["body", "input"])
def test_what_was_not_sealed_for_its_row_is_no_response(client: openai.OpenAI, scene, column: str):
    one, other = (client.responses.create(**ASK, input=text) for text in ("one", "other"))
    scene.world.execute(
        f"UPDATE responses_storedresponse SET {column} = (SELECT {column} FROM responses_storedresponse"
        " WHERE id = %s) WHERE id = %s",
        other.id,
        one.id,
    )
    with pytest.raises(openai.NotFoundError) as gone:
        client.responses.retrieve(one.id)
    assert gone.value.code == "response_not_found"
    with pytest.raises(openai.NotFoundError) as gone:
        client.responses.create(**ASK, input="and then", previous_response_id=one.id)
    assert gone.value.code == "previous_response_not_found"


def test_rows_from_before_the_seal_are_read(client: openai.OpenAI, scene):
    made = client.responses.create(**ASK, input="Hello!")
    scene.world.execute(
        "UPDATE responses_storedresponse SET body = %s, input = %s WHERE id = %s",
        made.to_json().encode(),
        b'[{"type":"message","role":"user","content":[{"type":"input_text","text":"from before"}]}]',
        made.id,
    )
    assert client.responses.retrieve(made.id).to_dict() == made.to_dict()
    again = client.responses.create(**ASK, input="and then", previous_response_id=made.id)
    assert scene.engine.received[-1].body["messages"][0]["content"] == "from before"
    assert client.responses.retrieve(again.id).output_text == again.output_text


def test_long_conversations_are_sealed_and_opened_beside_the_loop(client: openai.OpenAI, scene):
    text = "x" * (INLINE_BODY_BYTES + 1)
    made = client.responses.create(**ASK, input=text)
    assert client.responses.input_items.list(made.id).data[0].content[0].text == text
    client.responses.create(**ASK, input="and then", previous_response_id=made.id)
    assert scene.engine.received[-1].body["messages"][0]["content"] == text


def test_a_client_token_keeps_and_reads_nothing(
    server: GatewayServer, client: openai.OpenAI, http: httpx.Client
):
    made = client.responses.create(**ASK, input="Hello!")
    token = http.post("/v1/client_tokens", json={}).json()["token"]
    guest = client_of(server, token)
    assert guest.responses.create(**ASK, input="Hello!").store is False
    with pytest.raises(openai.PermissionDeniedError) as refused:
        guest.responses.retrieve(made.id)
    assert refused.value.code == "key_required"
    with pytest.raises(openai.PermissionDeniedError):
        guest.responses.create(**ASK, input="?", previous_response_id=made.id)


def test_tokens_of_a_prompt_are_counted_and_cost_nothing(client: openai.OpenAI, scene):
    first = client.responses.create(**ASK, input="One?")
    asked = {"model": "kindling/words", "input": "Two?", "previous_response_id": first.id}
    counted = client.responses.input_tokens.count(**asked, instructions="Be kind.")
    assert (counted.object, counted.input_tokens) == ("response.input_tokens", 7)
    got = scene.engine.received[-1]
    assert got.path == "/v1/chat/tokens"
    assert [one["role"] for one in got.body["messages"]] == ["system", "user", "assistant", "user"]
    assert len(scene.engine.records) == 1
    scene.engine.behaviour.refused_field = "reasoning_effort"
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.input_tokens.count(**asked, reasoning={"effort": "low"})
    assert refused.value.param == "reasoning.effort"


@pytest.mark.parametrize("background", [False, True])
def test_what_an_engine_refuses_is_told_in_the_clients_names(client: openai.OpenAI, scene, background: bool):
    scene.engine.behaviour.refused_field = "reasoning_effort"
    asked = ASK | {"input": "Hello!", "reasoning": {"effort": "low"}}
    if background:
        made = client.responses.create(**asked, background=True)
        eventually(lambda: client.responses.retrieve(made.id).status == "failed")
        assert client.responses.retrieve(made.id).error.message == "No reasoning.effort here."
        return
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.create(**asked)
    assert (refused.value.param, refused.value.code) == ("reasoning.effort", "unsupported_field")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/responses/resp_1/input_items/nothing"),
        ("GET", "/v1/responses/resp_1/nothing"),
        ("GET", "/v1/responses/resp_1/cancel/nothing"),
        ("POST", "/v1/responses/compact"),
        ("GET", "/v1/responses/compact"),
        ("POST", "/v1/responses/input_tokens/cancel"),
    ],
)
def test_paths_that_are_none(http: httpx.Client, method: str, path: str):
    assert http.request(method, path).json()["error"]["code"] == "unknown_url"
