"""`/v1/batches` by the official client: each line answered once, at the batch's price, whatever goes wrong."""

import json
import secrets
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import openai
import pytest

from kindling_batches import CHAT, begin, ended, lines_of, request
from kindling_gateway import (
    BATCH_PERCENT,
    CACHED_INPUT,
    INPUT,
    OUTPUT,
    GatewayServer,
    chat,
    eventually,
    held_nano,
    limit_row,
)
from kindling_platform.gateway.surface.batches import call, lines, store
from kindling_platform.gateway.surface.batches.job import LINES_AT_ONCE
from kindling_spools import shipped


@pytest.fixture
def client(server: GatewayServer, scene) -> openai.OpenAI:
    return client_of(server.url, scene.key)


def client_of(url: str, key: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0)


def own_rows(scene) -> dict[str, Any]:
    return {name: row for name, row in shipped(scene.world).items() if row.record.tenant == scene.customer.id}


def contexts(scene) -> list[dict[str, Any]]:
    return [json.loads(row.record.context) for row in own_rows(scene).values()]


def test_each_line_is_answered_in_the_order_of_the_file(client: openai.OpenAI, scene):
    made = begin(client, [request(n) for n in range(20)], metadata={"night": "1"})
    assert (made.status, made.endpoint, made.metadata) == ("validating", CHAT, {"night": "1"})
    read = ended(client, made)
    assert (read.status, read.error_file_id, read.errors, read.model) == (
        "completed",
        None,
        None,
        "kindling/words",
    )
    counts = read.request_counts
    assert (counts.total, counts.completed, counts.failed) == (20, 20, 0)
    answers = lines_of(client, read.output_file_id)
    assert [line["custom_id"] for line in answers] == [f"r{n}" for n in range(20)]
    assert {line["response"]["status_code"] for line in answers} == {200}
    assert answers[0]["response"]["body"]["choices"][0]["message"]["content"].startswith("w1 w2")
    assert len({line["response"]["request_id"] for line in answers}) == 20
    assert (read.usage.input_tokens, read.usage.output_tokens) == (20 * 7, 20 * 8)
    assert read.in_progress_at is not None
    assert read.created_at <= read.in_progress_at <= read.completed_at <= read.expires_at
    assert client.files.retrieve(read.output_file_id).purpose == "batch_output"
    assert scene.world.value("SELECT count(*) FROM batches_batchresult WHERE batch_id = %s", made.id) == 0


def test_its_requests_pay_the_batchs_price_and_come_behind_others(client: openai.OpenAI, scene):
    scene.engine.behaviour.cached_tokens = 3
    ended(client, begin(client, [request(n, body=chat(include_cost=True)) for n in range(3)]))
    ours = [one for one in scene.engine.received if one.headers["x-kindling-tenant"] == scene.customer.id]
    assert {int(one.headers["x-kindling-priority"]) for one in ours} == {int(call_priority())}
    eventually(lambda: len(own_rows(scene)) == 3)
    assert [context["batch"] for context in contexts(scene)] == [True] * 3
    batch = client.batches.list().data[0]
    costs = {line["response"]["body"]["usage"]["cost_usd"] for line in lines_of(client, batch.output_file_id)}
    expected = (4 * INPUT + 3 * CACHED_INPUT + 8 * OUTPUT) * BATCH_PERCENT // 100
    assert costs == {f"0.{expected:012d}"}
    eventually(lambda: list(held_nano(scene.valkey, scene.customer).values()) == [-(-expected // 1000)] * 3)
    client.chat.completions.create(**chat())
    eventually(lambda: len(own_rows(scene)) == 4)
    assert sorted("batch" in context for context in contexts(scene)) == [False, True, True, True]


def call_priority() -> str:
    from kindling_platform.gateway.errand import BATCH_PRIORITY

    assert int(BATCH_PRIORITY) < 0
    return BATCH_PRIORITY


@pytest.mark.parametrize(
    ("endpoint", "body"),
    [
        ("/v1/completions", {"model": "kindling/words", "prompt": "One", "max_tokens": 4}),
        ("/v1/responses", {"model": "kindling/words", "input": "One", "max_output_tokens": 4}),
        ("/v1/embeddings", {"model": "kindling/words", "input": "One"}),
    ],
)
def test_every_endpoint_can_be_asked(client: openai.OpenAI, endpoint: str, body: dict[str, Any]):
    lines = [request(n, url=endpoint, body=body) for n in range(2)]
    read = ended(client, begin(client, lines, endpoint=endpoint))
    answers = lines_of(client, read.output_file_id)
    assert (read.status, [line["response"]["status_code"] for line in answers]) == ("completed", [200, 200])
    assert read.usage.input_tokens > 0


def test_what_is_refused_stands_in_the_file_of_errors(client: openai.OpenAI):
    lines = [
        request(0),
        request(1, body=chat(model="kindling/nothing")),
        request(2, body=chat(temperature="hot")),
        request(3),
    ]
    read = ended(client, begin(client, lines))
    assert (read.status, read.request_counts.completed, read.request_counts.failed) == ("completed", 3, 1)
    assert [line["custom_id"] for line in lines_of(client, read.output_file_id)] == ["r0", "r2", "r3"]
    [wrong] = lines_of(client, read.error_file_id)
    assert (wrong["custom_id"], wrong["response"]["status_code"], wrong["error"]) == ("r1", 404, None)
    assert wrong["response"]["body"]["error"]["code"] == "model_not_found"


@pytest.mark.parametrize(
    ("bad", "code", "param"),
    [
        (b"{", "invalid_line", None),
        (b"[]", "invalid_line", None),
        (b"\xff\xfe", "invalid_line", None),
        (request(1, colour="red"), "invalid_line", None),
        (request(0), "duplicate_custom_id", "custom_id"),
        (request(1, custom_id=""), "invalid_custom_id", "custom_id"),
        (request(1, method="GET"), "invalid_method", "method"),
        (request(1, url="/v1/embeddings"), "mismatched_url", "url"),
        (request(1, body=chat(stream=True)), "unsupported_field", "body.stream"),
        (request(1, body={"messages": []}), "missing_field", "body.model"),
        (request(1) | {"body": []}, "invalid_body", "body"),
        (request(1) | {"body": "x"}, "invalid_body", "body"),
    ],
)
def test_a_file_with_a_wrong_line_runs_nothing(
    client: openai.OpenAI, scene, bad: Any, code: str, param: str | None
):
    read = ended(client, begin(client, [request(0), b"", bad]))
    [error] = read.errors.data
    assert (read.status, error.code, error.line, error.param) == ("failed", code, 3, param)
    assert error.message
    assert read.failed_at is not None
    assert [
        one for one in scene.engine.received if one.headers["x-kindling-tenant"] == scene.customer.id
    ] == []


def test_errors_are_bounded_and_too_many_lines_refused(
    client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch
):
    read = ended(client, begin(client, [b"{"] * 500))
    assert (read.status, len(read.errors.data)) == ("failed", lines.MAX_ERRORS)
    monkeypatch.setattr(lines, "MAX_LINES", 3)
    read = ended(client, begin(client, [request(n) for n in range(4)]))
    assert [error.code for error in read.errors.data] == ["too_many_lines"]
    read = ended(client, begin(client, [b" "]))
    assert [error.code for error in read.errors.data] == ["empty_file"]


def test_a_line_without_an_end_is_refused(client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(lines, "BODY_CAP_BYTES", 1000)
    read = ended(client, begin(client, [request(0), b"x" * 1001]))
    assert [(error.code, error.line) for error in read.errors.data] == [("line_too_long", 2)]


def test_rates_do_not_hold_it_up_and_budgets_do(
    server: GatewayServer, scene, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(call.WAITS, "budget_exceeded", 0.1)
    slow = limit_row("organisation", requests_per_minute=60, generated_tokens_per_minute=10)
    client = client_of(server.url, scene.world.key(scene.customer, limits=[slow]))
    watching = client_of(server.url, scene.key)
    assert ended(watching, begin(client, [request(n) for n in range(40)])).request_counts.completed == 40
    poor = limit_row("organisation", budget_total_picousd=1)
    client = client_of(server.url, scene.world.key(scene.customer, limits=[poor]))
    made = begin(client, [request(n) for n in range(3)])
    eventually(lambda: client.batches.retrieve(made.id).to_dict()["waits_for"] == "budget_exceeded")
    assert client.batches.retrieve(made.id).status == "in_progress"
    client.batches.cancel(made.id)
    assert ended(client, made).status == "cancelled"


def test_it_waits_for_credit_and_goes_on(server: GatewayServer, scene, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(call.WAITS, "insufficient_credit", 0.1)
    poor = scene.world.org(f"poor-{secrets.token_hex(4)}", usd=0)
    client = client_of(server.url, scene.world.key(poor))
    made = begin(client, [request(n) for n in range(5)])
    eventually(lambda: client.batches.retrieve(made.id).to_dict()["waits_for"] == "insufficient_credit")
    scene.world.execute(
        "UPDATE gateway_balance SET balance_picousd = 1e12, version = 2 WHERE org_id = %s", poor.id
    )
    read = ended(client, made)
    assert (read.status, read.request_counts.completed, read.to_dict()["waits_for"]) == ("completed", 5, None)


def test_a_revoked_key_ends_it(client: openai.OpenAI, scene):
    scene.engine.behaviour.held_at = 1
    made = begin(client, [request(n) for n in range(100)])
    eventually(lambda: len(scene.engine.active) == LINES_AT_ONCE)
    scene.world.execute(
        "UPDATE gateway_key SET revoked = true WHERE digest = (SELECT key_digest FROM batches_batch WHERE id = %s)",
        made.id,
    )
    time.sleep(1.1)  # for as long callers are remembered
    scene.engine.behaviour.held_at = None
    row = "SELECT status, errors, completed, output_file_id <> '' FROM batches_batch WHERE id = %s"
    eventually(lambda: scene.world.rows(row, made.id)[0][0] == "failed")
    [(_, errors, completed, has_output)] = scene.world.rows(row, made.id)
    assert ([error["code"] for error in errors], completed, has_output) == (
        ["key_revoked"],
        LINES_AT_ONCE,
        True,
    )


def test_a_suspended_organisation_waits(client: openai.OpenAI, scene, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(call.WAITS, "account_suspended", 0.1)
    scene.engine.behaviour.held_at = 1
    made = begin(client, [request(n) for n in range(100)])
    eventually(lambda: len(scene.engine.active) == LINES_AT_ONCE)
    suspend = "UPDATE gateway_key SET suspended_for = %s WHERE org_id = %s"
    scene.world.execute(suspend, "operator", scene.customer.id)
    time.sleep(1.1)  # for as long callers are remembered
    scene.engine.behaviour.held_at = None
    row = "SELECT status, waits_for, completed FROM batches_batch WHERE id = %s"
    expected = ("in_progress", "account_suspended", LINES_AT_ONCE)
    eventually(lambda: scene.world.rows(row, made.id) == [expected])
    scene.world.execute(suspend, "", scene.customer.id)
    eventually(lambda: scene.world.rows(row, made.id) == [("completed", "", 100)])
    assert ended(client, made).request_counts.completed == 100


def test_a_cancelled_one_ends_with_what_it_has(client: openai.OpenAI, scene):
    scene.engine.behaviour.held_at = 2
    made = begin(client, [request(n) for n in range(100)])
    eventually(lambda: len(scene.engine.active) >= 60)
    assert client.batches.cancel(made.id).status == "cancelling"
    scene.engine.behaviour.held_at = None
    read = ended(client, made)
    assert (read.status, client.batches.cancel(made.id).status) == ("cancelled", "cancelled")
    done, rest = lines_of(client, read.output_file_id), lines_of(client, read.error_file_id)
    assert (len(done), len(done) + len(rest)) == (read.request_counts.completed, 100)
    assert {line["error"]["code"] for line in rest} == {"batch_cancelled"}


def test_one_that_is_over_is_not_cancelled(client: openai.OpenAI):
    made = begin(client, [request(0)])
    ended(client, made)
    with pytest.raises(openai.ConflictError) as refused:
        client.batches.cancel(made.id)
    assert refused.value.code == "batch_over"


def test_an_expired_one_tells_what_was_not_made(
    client: openai.OpenAI, scene, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(call, "ROOM_S", 0.1)
    scene.engine.behaviour.fail_status, scene.engine.behaviour.fail_code = 503, "overloaded"
    made = begin(client, [request(n) for n in range(3)])
    eventually(lambda: client.batches.retrieve(made.id).to_dict()["waits_for"] == "overloaded")
    scene.world.execute("UPDATE batches_batch SET expires_at = now() WHERE id = %s", made.id)
    read = ended(client, made)
    assert (read.status, read.output_file_id, read.expired_at is not None) == ("expired", None, True)
    assert {line["error"]["code"] for line in lines_of(client, read.error_file_id)} == {"batch_expired"}


def test_a_busy_engine_is_waited_for(client: openai.OpenAI, scene, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(call, "ROOM_S", 0.1)
    scene.engine.behaviour.fail_status, scene.engine.behaviour.fail_code = 503, "overloaded"
    made = begin(client, [request(n) for n in range(3)])
    eventually(lambda: client.batches.retrieve(made.id).to_dict()["waits_for"] == "overloaded")
    scene.engine.behaviour.fail_status = 0
    assert ended(client, made).request_counts.completed == 3


def test_a_failure_of_ours_is_tried_again_and_free(
    client: openai.OpenAI, scene, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(call, "PAUSES_S", (0.0, 0.0))
    scene.engine.behaviour.cut_before_first = 3
    read = ended(client, begin(client, [request(0)]))
    assert (read.status, read.request_counts.completed) == ("completed", 1)
    scene.engine.behaviour.cut_before_first = 99
    read = ended(client, begin(client, [request(0)]))
    [wrong] = lines_of(client, read.error_file_id)
    assert (read.request_counts.failed, wrong["response"]["status_code"]) == (1, 502)
    eventually(lambda: len(own_rows(scene)) == 10)
    assert sum(row.verdict == "closed" for row in own_rows(scene).values()) == 1


def test_nobody_else_sees_or_cancels_it(server: GatewayServer, client: openai.OpenAI, scene):
    made = begin(client, [request(0)])
    other = client_of(server.url, scene.world.key(scene.world.org(f"nosy-{secrets.token_hex(4)}")))
    assert other.batches.list().data == []
    for look in (other.batches.retrieve, other.batches.cancel):
        with pytest.raises(openai.NotFoundError) as refused:
            look(made.id)
        assert refused.value.code == "batch_not_found"
    with pytest.raises(openai.NotFoundError):
        other.batches.create(input_file_id=made.input_file_id, endpoint=CHAT, completion_window="24h")
    read = ended(client, made)
    with pytest.raises(openai.NotFoundError):
        other.files.content(read.output_file_id)
    with server.client(scene.key) as http:
        token = http.post("/v1/client_tokens", json={"expires_in": 60}).json()["token"]
    with pytest.raises(openai.PermissionDeniedError):
        client_of(server.url, token).batches.list()


def test_its_file_cannot_be_deleted_meanwhile(client: openai.OpenAI, scene):
    scene.engine.behaviour.held_at = 1
    made = begin(client, [request(0)])
    eventually(lambda: scene.engine.active)
    with pytest.raises(openai.ConflictError) as refused:
        client.files.delete(made.input_file_id)
    assert refused.value.code == "file_in_use"
    scene.engine.behaviour.held_at = None
    ended(client, made)
    assert client.files.delete(made.input_file_id).deleted


def test_one_that_nobody_looked_at_in_its_day_ends_without_files(client: openai.OpenAI, monkeypatch):
    monkeypatch.setattr(store, "WINDOW_S", 0)
    read = ended(client, begin(client, [request(0)]))
    assert (read.status, read.output_file_id, read.error_file_id) == ("expired", None, None)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"endpoint": "/v1/moderations"}, "endpoint"),
        ({"completion_window": "1h"}, "completion_window"),
        ({"metadata": {"a": 1}}, "metadata"),
        ({"metadata": {"a": "\0"}}, "metadata"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 1}}, "output_expires_after.seconds"),
        ({"output_expires_after": {"anchor": "now", "seconds": 3600}}, "output_expires_after.anchor"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_what_cannot_be_is_refused_by_name(client: openai.OpenAI, fields: dict[str, Any], param: str):
    file = client.files.create(file=("in.jsonl", b"x"), purpose="batch")
    asked = {"input_file_id": file.id, "endpoint": CHAT, "completion_window": "24h"} | fields
    extra = {name: asked.pop(name) for name in ("colour",) if name in asked}
    with pytest.raises(openai.BadRequestError) as refused:
        client.batches.create(**asked, extra_body=extra)
    assert refused.value.param == param


def test_batches_are_listed_newest_first_and_bounded(client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch):
    made = [begin(client, [request(0)]) for _ in range(3)]
    assert [batch.id for batch in client.batches.list(limit=2)] == [batch.id for batch in made[::-1]]
    monkeypatch.setattr(store, "MAX_ACTIVE", 0)
    with pytest.raises(openai.RateLimitError) as refused:
        begin(client, [request(0)])
    assert refused.value.code == "too_many_batches"


def test_output_lives_as_long_as_its_owner_says(client: openai.OpenAI):
    expiry = {"anchor": "created_at", "seconds": 7200}
    read = ended(client, begin(client, [request(0)], output_expires_after=expiry))
    file = client.files.retrieve(read.output_file_id)
    assert file.expires_at - file.created_at == 7200
    assert datetime.fromtimestamp(file.expires_at, UTC) > datetime.now(UTC) + timedelta(hours=1)
