"""Responses that nobody waits for, by the official `openai` client: queued, polled, cancelled, never lost silently."""

import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types.responses import Response

from kindling_gateway import GatewayServer, eventually, held_nano
from kindling_gateways import GatewayProcess
from kindling_platform.gateway.errors import books_unavailable
from kindling_platform.gateway.surface.responses import background
from kindling_platform.gateway.surface.responses.store import ResponseStore

ASK = {"model": "kindling/words", "max_output_tokens": 20, "input": "Hello!", "background": True}
RUNS = ("queued", "in_progress")


def client_of(url: str, key: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0)


@pytest.fixture
def client(server: GatewayServer, scene) -> openai.OpenAI:
    return client_of(server.url, scene.key)


def ended(client: openai.OpenAI, response_id: str, *, seconds: float = 60) -> Response:
    """The response once it is no longer made."""

    def look() -> Response | None:
        read = client.responses.retrieve(response_id)
        return None if read.status in RUNS else read

    return eventually(look, seconds=seconds)


def test_it_is_answered_at_once_and_made_meanwhile(client: openai.OpenAI, scene):
    scene.engine.behaviour.delay_s = 0.02
    made = client.responses.create(**ASK, metadata={"a": "b"})
    assert (made.status, made.background, made.output, made.metadata) == ("queued", True, [], {"a": "b"})
    read = ended(client, made.id)
    assert (read.id, read.status, read.background, read.error) == (made.id, "completed", True, None)
    assert read.output_text == "w1 w2 w3 w4 w5 w6 w7 w8 "
    assert (read.usage.input_tokens, read.usage.output_tokens) == (7, 8)
    assert read.created_at >= made.created_at
    assert [item.content[0].text for item in client.responses.input_items.list(made.id)] == ["Hello!"]
    eventually(
        lambda: scene.world.value("SELECT verdict FROM usage_spooledusage ORDER BY shipped_at DESC LIMIT 1")
    )


def test_a_client_that_hangs_up_gets_it_all_the_same(client: openai.OpenAI, scene):
    scene.engine.behaviour.delay_s = 0.02
    made = client.responses.create(**ASK)
    client.close()
    eventually(lambda: scene.engine.records)
    assert scene.engine.records[0]["finish"] == "stop"
    assert made.id


def test_a_length_makes_it_incomplete(client: openai.OpenAI):
    made = client.responses.create(**ASK | {"max_output_tokens": 3})
    read = ended(client, made.id)
    assert (read.status, read.incomplete_details.reason) == ("incomplete", "max_output_tokens")


def test_a_cancelled_one_ends_and_is_billed_for_what_was_made(client: openai.OpenAI, scene):
    scene.engine.behaviour.tokens, scene.engine.behaviour.delay_s = 2000, 0.01
    made = client.responses.create(**ASK | {"max_output_tokens": 2000})
    eventually(lambda: any(running.made > 2 for running in scene.engine.active.values()))
    assert client.responses.retrieve(made.id).status == "in_progress"
    cancelled = client.responses.cancel(made.id)
    assert (cancelled.id, cancelled.status) == (made.id, "cancelled")
    eventually(lambda: scene.engine.records)
    assert scene.engine.records[0]["finish"] == "cancelled"
    verdict = "SELECT verdict FROM usage_spooledusage WHERE request_id = %s"
    eventually(lambda: scene.world.value(verdict, scene.engine.received[0].id) == "cut")
    assert client.responses.cancel(made.id).status == "cancelled"  # twice changes nothing
    assert client.responses.retrieve(made.id).status == "cancelled"


def test_a_cancelled_one_tells_what_the_books_have_settled(client: openai.OpenAI, scene):
    scene.engine.behaviour.tokens, scene.engine.behaviour.delay_s = 2000, 0.01
    made = client.responses.create(**ASK | {"max_output_tokens": 2000})
    eventually(lambda: scene.engine.active)
    assert client.responses.cancel(made.id).usage is None  # nobody knows yet
    settle = "INSERT INTO gateway_settled VALUES (%s, %s, 7, 3, 21, 5)"
    scene.world.execute(settle, "org_other", scene.engine.received[0].id)
    assert client.responses.retrieve(made.id).usage is None
    scene.world.execute(settle, scene.customer.id, scene.engine.received[0].id)
    for read in (client.responses.retrieve(made.id), client.responses.cancel(made.id)):
        assert (read.status, read.usage.input_tokens, read.usage.output_tokens) == ("cancelled", 7, 21)
        assert (read.usage.total_tokens, read.usage.input_tokens_details.cached_tokens) == (28, 3)
        assert read.usage.output_tokens_details.reasoning_tokens == 5


def test_a_deleted_one_ends_too(client: openai.OpenAI, scene):
    scene.engine.behaviour.tokens, scene.engine.behaviour.delay_s = 2000, 0.01
    made = client.responses.create(**ASK | {"max_output_tokens": 2000})
    eventually(lambda: scene.engine.active)
    client.responses.delete(made.id)
    eventually(lambda: scene.engine.records)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(made.id)


def test_one_that_has_ended_is_cancelled_in_vain(client: openai.OpenAI):
    made = client.responses.create(**ASK)
    assert ended(client, made.id).status == "completed"
    assert client.responses.cancel(made.id).status == "completed"


def test_a_failure_of_ours_is_told_and_free(client: openai.OpenAI, scene):
    scene.engine.behaviour.cut_before_first = 9
    made = client.responses.create(**ASK)
    read = ended(client, made.id)
    assert (read.status, read.error.code, read.output) == ("failed", "upstream_failed", [])
    eventually(lambda: not held_nano(scene.valkey, scene.customer))


def test_one_that_could_not_be_kept_is_free(client: openai.OpenAI, scene, monkeypatch: pytest.MonkeyPatch):
    real = ResponseStore.move

    async def away(store: ResponseStore, caller: Any, response: dict[str, Any], *, ends: bool) -> bool:
        if response["status"] == "completed":
            raise books_unavailable()
        return await real(store, caller, response, ends=ends)

    monkeypatch.setattr(ResponseStore, "move", away)
    monkeypatch.setattr(background, "RETRY_S", 0.01)
    made = client.responses.create(**ASK)
    read = ended(client, made.id)
    assert (read.status, read.error.code, read.output) == ("failed", "database_unavailable", [])
    verdict = "SELECT verdict FROM usage_spooledusage WHERE request_id = %s"
    eventually(lambda: scene.world.value(verdict, scene.engine.received[0].id) == "void")
    assert held_nano(scene.valkey, scene.customer) == {}


def test_what_the_engine_refuses_is_told(client: openai.OpenAI, scene):
    scene.engine.behaviour.fail_status, scene.engine.behaviour.fail_code = 400, "context_length_exceeded"
    made = client.responses.create(**ASK)
    read = ended(client, made.id)
    assert (read.status, read.error.code) == ("failed", "context_length_exceeded")


def test_without_money_it_fails_and_says_why(server: GatewayServer, scene):
    poor = scene.world.org(f"poor-{secrets.token_hex(4)}", usd=0)
    client = client_of(server.url, scene.world.key(poor))
    read = ended(client, client.responses.create(**ASK).id)
    assert (read.status, read.error.code) == ("failed", "insufficient_credit")


def test_one_that_runs_cannot_be_gone_on_from(client: openai.OpenAI, scene):
    scene.engine.behaviour.tokens, scene.engine.behaviour.delay_s = 2000, 0.01
    made = client.responses.create(**ASK | {"max_output_tokens": 2000})
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.create(model="kindling/words", input="And?", previous_response_id=made.id)
    assert refused.value.param == "previous_response_id"
    client.responses.cancel(made.id)


def test_an_organisation_that_keeps_nothing_cannot_ask_for_it(client: openai.OpenAI, scene):
    scene.world.execute("INSERT INTO responses_retention VALUES (%s, 0)", scene.customer.id)
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.create(**ASK)
    assert (refused.value.code, refused.value.param) == ("unsupported_field", "background")
    assert scene.engine.received == []


def test_nobody_else_reads_or_cancels_it(server: GatewayServer, client: openai.OpenAI, scene):
    scene.engine.behaviour.tokens, scene.engine.behaviour.delay_s = 2000, 0.01
    made = client.responses.create(**ASK | {"max_output_tokens": 2000})
    other = client_of(server.url, scene.world.key(scene.world.org(f"nosy-{secrets.token_hex(4)}")))
    for call in (other.responses.retrieve, other.responses.cancel, other.responses.delete):
        with pytest.raises(openai.NotFoundError):
            call(made.id)
    assert client.responses.retrieve(made.id).status in RUNS
    client.responses.cancel(made.id)


def test_a_second_try_keeps_the_responses_id(client: openai.OpenAI, scene):
    scene.engine.behaviour.cut_before_first = 1
    made = client.responses.create(**ASK)
    read = ended(client, made.id)
    assert (read.id, read.status) == (made.id, "completed")
    assert len(scene.engine.received) == 2


def test_there_is_a_bound(server: GatewayServer, client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(background, "MOST_JOBS", 0)
    with pytest.raises(openai.InternalServerError) as refused:
        client.responses.create(**ASK)
    assert (refused.value.status_code, refused.value.code) == (503, "overloaded")


@pytest.fixture
def other(scene, tmp_path: Path) -> Iterator[GatewayProcess]:
    with GatewayProcess(scene.world, tmp_path / "log") as running:
        yield running


def test_one_whose_process_died_is_told_as_failed(client: openai.OpenAI, scene, other: GatewayProcess):
    made = running_on(other, scene)
    assert client.responses.retrieve(made.id).status in RUNS
    other.kill()
    # Its lease is over: nobody renews it any more.
    scene.world.execute(
        "UPDATE responses_storedresponse SET leased_until = now() - interval '1 s' WHERE id = %s", made.id
    )
    read = client.responses.retrieve(made.id)
    assert (read.status, read.error.code, read.usage) == ("failed", "server_error", None)
    scene.world.execute(
        "INSERT INTO gateway_settled VALUES (%s, %s, 7, 0, 2, 0)",
        scene.customer.id,
        made.id.removeprefix("resp_"),
    )
    read = client.responses.cancel(made.id)
    assert (read.status, read.usage.total_tokens) == ("failed", 9)


def test_one_of_another_process_can_be_cancelled(client: openai.OpenAI, scene, other: GatewayProcess):
    made = running_on(other, scene)
    assert client.responses.cancel(made.id).status == "cancelled"
    eventually(lambda: scene.engine.records)
    assert scene.engine.records[0]["finish"] == "cancelled"


def running_on(process: GatewayProcess, scene: Any) -> Response:
    scene.engine.behaviour.tokens, scene.engine.behaviour.delay_s = 2000, 0.01
    made = client_of(process.url, scene.key).responses.create(**ASK | {"max_output_tokens": 2000})
    eventually(lambda: scene.engine.active)
    return made
