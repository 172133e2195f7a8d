"""Prompts and answers are kept where an organisation asks for that: sealed, whole, and nobody else's."""

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import httpx
import pytest

from kindling_gateway import GatewayServer, Org, chat, eventually, gateway_env
from kindling_platform.common.org_seal import SealBrokenError
from kindling_platform.gateway.app import create_app
from kindling_platform.gateway.request_log.copy import ANSWER_BYTES, PROMPT_BYTES, Copy
from kindling_platform.gateway.request_log.log import RequestLog
from kindling_platform.requestlog.seal import Said, Seal

SECRET = "a prompt that is kept for its own people alone"
MESSAGES = [{"role": "user", "content": SECRET}]


@pytest.fixture(scope="module")
def logging(shared: Any) -> Iterator[GatewayServer]:
    """A gateway that looks for changed wishes all the time."""
    gateway = create_app(gateway_env(database_url=shared.world.url, home=shared.world.home), grace_s=1.0)
    gateway._request_log._look_every_s = 0.05
    with GatewayServer(gateway) as running:
        yield running


def wish(logging: GatewayServer, scene: Any, org: Org, days: int) -> None:
    """An organisation asks for so many days, and the gateway has heard of it."""
    scene.world.execute(
        "INSERT INTO requestlog_logsetting VALUES (%s, %s) ON CONFLICT (organisation_id) DO UPDATE SET days = %s",
        org.id, days, days,
    )  # fmt: skip
    eventually(lambda: (org.id in (logging.gateway._request_log.wanted or ())) == bool(days))


def kept(scene: Any, request_id: str) -> tuple[Any, ...] | None:
    rows = scene.world.rows(
        "SELECT organisation_id, key_id, model_name, route, status, size_bytes, sealed,"
        " extract(epoch FROM expires_at - created_at) FROM requestlog_loggedrequest WHERE request_id = %s",
        request_id,
    )
    return rows[0] if rows else None


def said(scene: Any, request_id: str) -> Said:
    row = eventually(lambda: kept(scene, request_id))
    return Seal(gateway_env().secret_key).open(bytes(row[6]), org_id=row[0], request_id=UUID(request_id))


def ask(logging: GatewayServer, key: str, **fields: Any) -> httpx.Response:
    with logging.client(key) as client:
        return client.post("/v1/chat/completions", json=chat(messages=MESSAGES, **fields))


@pytest.mark.parametrize("stream", [False, True])
def test_what_was_said_is_kept_as_the_client_had_it(logging: GatewayServer, scene, stream: bool):
    wish(logging, scene, scene.customer, 7)
    reply = ask(logging, scene.key, stream=stream)
    found = said(scene, reply.headers["x-request-id"])
    assert found.answer == reply.content
    assert found.answer_type == reply.headers["content-type"]
    assert SECRET.encode() in found.prompt
    assert not found.is_cut
    row = kept(scene, reply.headers["x-request-id"])
    assert (row[0], row[2:5]) == (scene.customer.id, ("kindling/words", "chat", 200))
    assert row[5] == len(found.prompt) + len(found.answer)
    assert row[7] == 7 * 24 * 3600
    assert SECRET.encode() not in bytes(row[6])


def test_other_shapes_are_kept_as_their_clients_had_them(logging: GatewayServer, scene):
    wish(logging, scene, scene.customer, 1)
    with logging.client(scene.key) as client:
        body = {"model": "kindling/words", "max_tokens": 8, "messages": MESSAGES, "stream": True}
        reply = client.post("/v1/messages", json=body)
    assert said(scene, reply.headers["x-request-id"]).answer == reply.content
    assert b"message_start" in reply.content


def test_a_refusal_is_kept_too(logging: GatewayServer, scene):
    wish(logging, scene, scene.customer, 1)
    reply = ask(logging, scene.key, model="kindling/none")
    assert reply.status_code == 404
    assert said(scene, reply.headers["x-request-id"]).answer == reply.content


def test_nobody_elses_requests_are_kept(logging: GatewayServer, scene):
    other = scene.world.org("other")
    wish(logging, scene, other, 1)
    unkept = ask(logging, scene.key).headers["x-request-id"]
    theirs = ask(logging, scene.world.key(other)).headers["x-request-id"]
    assert eventually(lambda: kept(scene, theirs))[0] == other.id
    assert kept(scene, unkept) is None


def test_nothing_is_kept_behind_a_switch_off(logging: GatewayServer, scene):
    """The request began while its organisation wanted it kept: Postgres refuses the row."""
    wish(logging, scene, scene.customer, 1)
    log, before = logging.gateway._request_log, logging.gateway._request_log.refused
    scene.engine.behaviour.held_at = 0
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask, logging, scene.key)
        eventually(lambda: scene.engine.active)
        scene.world.execute(
            "UPDATE requestlog_logsetting SET days = 0 WHERE organisation_id = %s", scene.customer.id
        )
        scene.engine.behaviour.held_at = None
        reply = asked.result()
    assert reply.status_code == 200
    eventually(lambda: log.refused == before + 1)
    assert kept(scene, reply.headers["x-request-id"]) is None


def test_without_memory_a_request_is_answered_and_not_kept(logging: GatewayServer, scene):
    wish(logging, scene, scene.customer, 1)
    log = logging.gateway._request_log
    before, log._most_bytes = log.dropped, 64
    try:
        reply = ask(logging, scene.key)
        assert reply.status_code == 200
        eventually(lambda: log.dropped == before + 1)
    finally:
        log._most_bytes = 32 * 1024 * 1024
    assert kept(scene, reply.headers["x-request-id"]) is None
    eventually(lambda: log.held_bytes == 0)
    with logging.client() as client:
        assert f'kindling_gateway_request_log_requests_total{{outcome="dropped"}} {log.dropped}.0' in (
            client.get("/metrics").text
        )


def test_memory_is_given_back(logging: GatewayServer, scene):
    wish(logging, scene, scene.customer, 1)
    for stream in (False, True):
        reply = ask(logging, scene.key, stream=stream)
        assert eventually(lambda reply=reply: kept(scene, reply.headers["x-request-id"]))
    eventually(lambda: logging.gateway._request_log.held_bytes == 0)


def test_what_waits_is_written_at_a_shutdown(shared: Any, scene):
    gateway = create_app(gateway_env(database_url=shared.world.url, home=shared.world.home), grace_s=1.0)
    with GatewayServer(gateway) as running:
        wish(running, scene, scene.customer, 1)
        reply = ask(running, scene.key)
    assert kept(scene, reply.headers["x-request-id"]) is not None


def test_before_it_is_known_who_wants_a_log_those_who_do_get_one(
    shared: Any, scene, monkeypatch: pytest.MonkeyPatch
):
    told, look = threading.Event(), RequestLog._look

    async def late(log: RequestLog) -> None:
        while not told.is_set():
            await asyncio.sleep(0.01)
        await look(log)

    monkeypatch.setattr(RequestLog, "_look", late)
    other = scene.world.org("other")
    scene.world.execute("INSERT INTO requestlog_logsetting VALUES (%s, 7)", scene.customer.id)
    gateway = create_app(gateway_env(database_url=shared.world.url, home=shared.world.home), grace_s=1.0)
    log = gateway._request_log
    with GatewayServer(gateway) as running:
        unkept = ask(running, scene.world.key(other)).headers["x-request-id"]
        theirs = ask(running, scene.key).headers["x-request-id"]
        eventually(lambda: len(log._queue) == 2)
        told.set()
        assert eventually(lambda: kept(scene, theirs))[0] == scene.customer.id
        eventually(lambda: log.kept == 1 and log.held_bytes == 0)
        assert (log.dropped, log.refused) == (0, 0)
    assert kept(scene, unkept) is None


def test_bodies_are_kept_up_to_a_bound():
    copy = Copy(b"p" * (PROMPT_BYTES + 1), org_id="o", key_id="k", route="chat", room=lambda size: True)
    copy.begin(b"application/json")
    for _ in range(3):
        copy.hear(b"a" * (ANSWER_BYTES // 2))
    found = copy.said()
    assert (len(found.prompt), len(found.answer)) == (PROMPT_BYTES, ANSWER_BYTES)
    assert (found.prompt_bytes, found.answer_bytes) == (PROMPT_BYTES + 1, ANSWER_BYTES // 2 * 3)
    assert found.is_cut
    assert copy.bytes == PROMPT_BYTES + ANSWER_BYTES
    assert copy.at_s <= time.time()


def test_a_seal_is_bound_to_secret_organisation_and_request():
    text = Said(b"{}", b"yes", "text/plain", 2, 3)
    one, two = UUID(int=1), UUID(int=2)
    sealed = Seal("secret").close(text, org_id="org_a", request_id=one)
    assert Seal("secret").open(sealed, org_id="org_a", request_id=one) == text
    for secret, org, request_id in (
        ("other", "org_a", one),
        ("secret", "org_b", one),
        ("secret", "org_a", two),
    ):
        with pytest.raises(SealBrokenError):
            Seal(secret).open(sealed, org_id=org, request_id=request_id)
    assert Seal("secret").close(text, org_id="org_a", request_id=one) != sealed
