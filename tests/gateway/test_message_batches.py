"""`/v1/messages/batches` by the official client: the batches that `/v1/batches` knows, in Anthropic's shape."""

import json
from dataclasses import replace
from typing import Any

import anthropic
import httpx
import openai
import pytest

from kindling_gateway import BATCH_PERCENT, INPUT, OUTPUT, GatewayServer, eventually, held_nano
from kindling_platform.gateway.surface.batches.store import BatchStore

ASKED = {
    "model": "kindling/words",
    "max_tokens": 8,
    "messages": [{"role": "user", "content": "Say something."}],
}


@pytest.fixture
def client(server: GatewayServer, scene) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=server.url, api_key=scene.key, max_retries=0)


def asked(name: str, **params: Any) -> dict[str, Any]:
    return {"custom_id": name, "params": ASKED | params}


def ended(client: anthropic.Anthropic, batch_id: str) -> Any:
    def look() -> Any:
        batch = client.messages.batches.retrieve(batch_id)
        return batch if batch.processing_status == "ended" else None

    return eventually(look, seconds=60)


def results_of(client: anthropic.Anthropic, batch: Any) -> dict[str, Any]:
    path = f"/v1/messages/batches/{batch.id}/results"
    assert batch.results_url.endswith(path)
    lines = client.get(path, cast_to=str).splitlines()
    return {line["custom_id"]: line["result"] for line in map(json.loads, lines)}


def test_messages_are_answered_at_the_batchs_price(client: anthropic.Anthropic, server: GatewayServer, scene):
    wrong = asked("wrong", max_tokens=0)
    made = client.messages.batches.create(requests=[asked("a"), asked("b", system="Be brief."), wrong])
    assert made.id.startswith("msgbatch_") and made.processing_status == "in_progress"
    assert made.request_counts.processing == 3 and made.results_url is None
    batch = ended(client, made.id)
    counts = batch.request_counts
    assert (counts.succeeded, counts.errored, counts.processing, counts.canceled) == (2, 1, 0, 0)
    assert batch.created_at <= batch.ended_at <= batch.expires_at
    results = results_of(client, batch)
    message = results["a"]["message"]
    assert (results["a"]["type"], message["role"], message["content"][0]["type"]) == (
        "succeeded",
        "assistant",
        "text",
    )
    assert (message["usage"]["output_tokens"], message["usage"]["service_tier"]) == (8, "batch")
    assert results["wrong"]["type"] == "errored"
    assert results["wrong"]["error"]["error"]["type"] == "invalid_request_error"
    cost = (7 * INPUT + 8 * OUTPUT) * BATCH_PERCENT // 100
    held = eventually(
        lambda: (
            (found := list(held_nano(scene.valkey, scene.customer).values())) and len(found) == 2 and found
        )
    )
    assert -(-cost // 1000) in held


def test_lists_deletes_and_the_other_shape(client: anthropic.Anthropic, server: GatewayServer, scene):
    ids = [ended(client, client.messages.batches.create(requests=[asked("a")]).id).id for _ in range(3)]
    assert [one.id for one in client.messages.batches.list(limit=2)] == ids[::-1]
    page = client.messages.batches.list(limit=2, before_id=ids[0])
    assert [one.id for one in page.data] == [ids[2], ids[1]] and not page.has_more
    with pytest.raises(anthropic.BadRequestError, match="not both"):
        client.messages.batches.list(before_id=ids[0], after_id=ids[1])
    others = openai.OpenAI(base_url=f"{server.url}/v1", api_key=scene.key, max_retries=0)
    known = {one.id: one.endpoint for one in others.batches.list()}
    assert known[ids[0].replace("msgbatch_", "batch_")] == "/v1/messages"
    assert client.messages.batches.delete(ids[0]).type == "message_batch_deleted"
    with pytest.raises(anthropic.NotFoundError):
        client.messages.batches.retrieve(ids[0])
    assert [one.id for one in client.messages.batches.list()] == ids[:0:-1]
    stranger = anthropic.Anthropic(
        base_url=server.url,
        api_key=scene.world.key(scene.world.org(f"other-{scene.customer.slug}")),
        max_retries=0,
    )
    for call in (
        stranger.messages.batches.retrieve,
        stranger.messages.batches.cancel,
        stranger.messages.batches.delete,
    ):
        with pytest.raises(anthropic.NotFoundError):
            call(ids[1])
    assert list(stranger.messages.batches.list()) == []


def test_one_that_ends_while_it_is_deleted_leaves_no_files(
    client: anthropic.Anthropic, server: GatewayServer, scene, monkeypatch: pytest.MonkeyPatch
):
    batch = ended(client, client.messages.batches.create(requests=[asked("a")]).id)
    real = BatchStore.get

    async def read_before(self: BatchStore, org_id: str, batch_id: str, **given: str) -> Any:
        return replace(await real(self, org_id, batch_id, **given), ended_at=None, output_file_id="")

    monkeypatch.setattr(BatchStore, "get", read_before)
    assert client.messages.batches.delete(batch.id).type == "message_batch_deleted"
    others = openai.OpenAI(base_url=f"{server.url}/v1", api_key=scene.key, max_retries=0)
    assert list(others.files.list()) == []


def test_one_for_which_there_is_no_room_leaves_nothing_and_goes_on_at_once(
    server: GatewayServer, scene, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("kindling_platform.gateway.surface.files.store.MAX_ORG_BYTES", 0)
    reply = httpx.post(
        f"{server.url}/v1/messages/batches", json={"requests": [asked("a")]}, headers={"x-api-key": scene.key}
    )
    assert (reply.status_code, reply.json()["error"]["type"]) == (413, "request_too_large")
    # Its body was read: there is nothing to hear out, for which a connection would be held.
    assert reply.headers.get("connection") != "close"
    held = "SELECT count(*) FROM batches_storedfile WHERE organisation_id = %s"
    assert scene.world.value(held, scene.customer.id) == 0


def test_one_that_is_cancelled_ends_with_what_it_has(client: anthropic.Anthropic, scene):
    scene.engine.behaviour.held_at = 3
    made = client.messages.batches.create(requests=[asked(f"r{number}") for number in range(80)])
    eventually(lambda: scene.engine.active)
    with pytest.raises(anthropic.ConflictError):
        client.messages.batches.delete(made.id)
    with pytest.raises(anthropic.ConflictError):
        client.get(f"/v1/messages/batches/{made.id}/results", cast_to=str)
    cancelled = client.messages.batches.cancel(made.id)
    assert cancelled.processing_status == "canceling" and cancelled.cancel_initiated_at
    scene.engine.behaviour.held_at = None
    batch = ended(client, made.id)
    counts = batch.request_counts
    assert counts.succeeded + counts.canceled == 80 and counts.canceled > 0
    kinds = [result["type"] for result in results_of(client, batch).values()]
    assert (kinds.count("succeeded"), kinds.count("canceled")) == (counts.succeeded, counts.canceled)


def test_results_whose_files_are_gone_are_refused_and_not_cut_off(
    client: anthropic.Anthropic, server: GatewayServer, scene
):
    made = client.messages.batches.create(requests=[asked("a"), asked("wrong", max_tokens=0)])
    batch = ended(client, made.id)
    others = openai.OpenAI(base_url=f"{server.url}/v1", api_key=scene.key, max_retries=0)
    known = others.batches.retrieve(batch.id.replace("msgbatch_", "batch_"))
    assert known.output_file_id and known.error_file_id
    others.files.delete(known.error_file_id)
    reply = httpx.get(
        f"{server.url}/v1/messages/batches/{batch.id}/results", headers={"x-api-key": scene.key}
    )
    assert (reply.status_code, reply.json()["error"]["type"]) == (404, "not_found_error")
    assert client.messages.batches.delete(batch.id).type == "message_batch_deleted"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "requests"),
        ({"requests": []}, "no lines"),
        ({"requests": [asked("a"), asked("a")]}, "same custom_id"),
        ({"requests": [asked("a", stream=True)]}, "stream"),
        ({"requests": [{"custom_id": "a"}]}, "params"),
        ({"requests": [asked("a") | {"x": 1}]}, "x"),
        ({"requests": [{"custom_id": "a", "params": 5}]}, "object"),
        ({"requests": [{"custom_id": "", "params": ASKED}]}, "custom_id"),
    ],
)
def test_what_is_no_batch_is_refused_before_anything_is_kept(
    client: anthropic.Anthropic, scene, body: dict[str, Any], said: str
):
    with pytest.raises(anthropic.BadRequestError) as refused:
        client.post("/v1/messages/batches", body=body, cast_to=str)
    assert said in refused.value.body["error"]["message"]  # type: ignore[index,call-overload]
    assert (
        scene.world.value("SELECT count(*) FROM batches_batch WHERE organisation_id = %s", scene.customer.id)
        == 0
    )
    assert (
        scene.world.value(
            "SELECT count(*) FROM batches_storedfile WHERE organisation_id = %s", scene.customer.id
        )
        == 0
    )


@pytest.mark.parametrize(
    "request_text",
    [
        b'{"custom_id": "a", "params": {"model": "kindling/words", "x": %b}}'
        % (b"[" * 100_000 + b"]" * 100_000),
        b'{"custom_id": "\\ud800", "params": {"model": "kindling/words"}}',
        b'{"custom_id": "a", "params": {',
    ],
    ids=["deep", "half a character", "cut"],
)
def test_bodies_that_no_client_makes_are_refused(server: GatewayServer, scene, request_text: bytes):
    body = b'{"requests": [%b]}' % request_text
    reply = httpx.post(f"{server.url}/v1/messages/batches", content=body, headers={"x-api-key": scene.key})
    assert (reply.status_code, reply.json()["error"]["type"]) == (400, "invalid_request_error")
