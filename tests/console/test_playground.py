"""The playground talks to the real gateway as a customer would, and keeps its key to itself."""

import asyncio
import json
import threading
from datetime import timedelta

import httpx
import pytest
import uvicorn
from asgiref.sync import sync_to_async
from django.core.asgi import get_asgi_application
from django.db import connection, connections
from django.test import AsyncClient

from kindling_billing.selectors import balance_get
from kindling_billing.services import credit_grant
from kindling_console import playground_keys
from kindling_fake_engine import Behaviour
from kindling_gateway import eventually
from kindling_platform.accounts.models import Membership
from kindling_platform.common.clock import now
from kindling_platform.keys.models import ApiKey
from kindling_playground import ASK, RUN, Scene, backend, chunks, scene

__all__ = ["backend", "scene"]

pytestmark = pytest.mark.django_db(transaction=True)


class DjangoServer:
    """Django under uvicorn, as in production, in a thread."""

    def __init__(self) -> None:
        config = uvicorn.Config(
            get_asgi_application(),
            host="127.0.0.1",
            port=0,
            lifespan="off",
            access_log=False,
            log_level="warning",
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)

    def __enter__(self) -> str:
        self._thread.start()
        eventually(lambda: self._server.started)
        return f"http://127.0.0.1:{self._server.servers[0].sockets[0].getsockname()[1]}"

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(60)


async def test_an_answer_streams_with_its_usage_and_request_id(scene: Scene):
    reply = await scene.run(temperature=0.5, seed="", unknown="dropped")
    assert reply.status_code == 200
    assert reply["Content-Type"].startswith("text/event-stream")
    assert reply["Cache-Control"] == "no-store"
    seen = await chunks(reply)
    assert "".join(c["choices"][0]["delta"].get("content", "") for c in seen if c["choices"])
    assert seen[-1]["usage"]["completion_tokens"] == 8

    (received,) = scene.engine.received
    assert received.id == reply["X-Kindling-Request"]
    # The customer's organisation asks, with what the page knows to ask for and nothing else.
    assert received.headers["x-kindling-tenant"] == scene.member.org.id
    assert received.body["temperature"] == 0.5
    assert {"seed", "unknown"} & set(received.body) == set()


async def test_one_short_lived_key_serves_many_answers(scene: Scene):
    for _ in range(3):
        await chunks(await scene.run())
    (key,) = [key async for key in ApiKey.objects.filter(organisation=scene.member.org)]
    assert (key.kind, key.scopes) == ("playground", ["inference"])
    assert 0 < (key.expires_at - key.created_at).total_seconds() <= 600


async def test_a_revoked_key_is_replaced_without_a_word(scene: Scene):
    await chunks(await scene.run())
    await ApiKey.objects.filter(organisation=scene.member.org).aupdate(revoked_at="2026-01-01T00:00Z")
    # The gateway may know the key for another second; no answer fails, before or after.
    async with asyncio.timeout(60):
        while await ApiKey.objects.filter(organisation=scene.member.org).acount() == 1:
            assert (await chunks(await scene.run()))[-1]["usage"]


async def test_leaving_stops_the_engine(scene: Scene):
    scene.engine.behaviour = Behaviour(tokens=2000, delay_s=0.02)
    reply = await scene.run(max_tokens=400)
    # A server cancels the task that sends when its client is gone.
    sending = asyncio.create_task(chunks(reply))
    await asyncio.to_thread(eventually, lambda: scene.engine.active)
    await asyncio.sleep(0.1)
    sending.cancel()
    await asyncio.to_thread(eventually, lambda: not scene.engine.active)
    assert scene.engine.records[-1]["completion_tokens"] < 400


async def test_a_browser_that_leaves_a_real_server_stops_the_engine(scene: Scene):
    scene.engine.behaviour = Behaviour(tokens=2000, delay_s=0.02)
    await sync_to_async(scene.client.cookies.load)(f"csrftoken={'a' * 32}")
    cookies = {name: morsel.value for name, morsel in scene.client.cookies.items()}
    with DjangoServer() as url:
        async with (
            httpx.AsyncClient(base_url=url, cookies=cookies, headers={"X-CSRFToken": "a" * 32}) as browser,
            browser.stream("POST", RUN, json=ASK | {"max_tokens": 400}) as reply,
        ):
            assert reply.status_code == 200
            await anext(reply.aiter_bytes())
            assert scene.engine.active
        await asyncio.to_thread(eventually, lambda: not scene.engine.active)
    assert 0 < scene.engine.records[-1]["completion_tokens"] < 400


async def test_an_answer_on_its_way_leaves_the_database_to_others(scene: Scene, monkeypatch):
    scene.engine.behaviour = Behaviour(tokens=2000, delay_s=0.02)
    await sync_to_async(scene.client.cookies.load)(f"csrftoken={'a' * 32}")
    cookies = {name: morsel.value for name, morsel in scene.client.cookies.items()}
    client = httpx.AsyncClient(cookies=cookies, headers={"X-CSRFToken": "a" * 32}, timeout=60)
    with monkeypatch.context() as patch:
        pool = {"min_size": 0, "max_size": 1, "timeout": 3}
        patch.setitem(connections.settings["default"]["OPTIONS"], "pool", pool)
        patch.setitem(connections.settings["default"], "CONN_MAX_AGE", 0)
        with DjangoServer() as url:
            async with client, client.stream("POST", url + RUN, json=ASK | {"max_tokens": 400}) as reply:
                pieces = reply.aiter_bytes()
                await anext(pieces)
                assert (await client.get(url + "/console/keys/")).status_code == 200
                assert scene.engine.active
            await asyncio.to_thread(eventually, lambda: not scene.engine.active)
        await asyncio.to_thread(lambda: connection.close_pool())


async def test_keys_that_are_over_are_used_again(scene: Scene):
    keys = ApiKey.objects.filter(organisation=scene.member.org)
    await chunks(await scene.run())
    first = await keys.aget()
    for age in (timedelta(minutes=1), timedelta(minutes=6)):
        playground_keys._kept.clear()
        await keys.aupdate(expires_at=now() - age)
        assert (await chunks(await scene.run()))[-1]["usage"]
    assert await keys.acount() == 2
    again = await keys.aget(expires_at__gt=now())
    assert again.epoch > 1 and bytes(again.digest) != bytes(first.digest)


async def test_refusals_of_the_gateway_arrive_as_they_are(scene: Scene):
    def spend() -> None:
        balance = balance_get(owner_id=scene.member.org.id).picousd
        scene.world.use(scene.member, prompt_tokens=balance // 100_000 - 5)

    await sync_to_async(spend)()
    await sync_to_async(credit_grant)(
        owner_id=scene.member.org.id, amount_picousd=1, source_id="test:dust", memo="Dust", actor_id="test"
    )
    broke = await scene.run()
    assert broke.status_code == 402
    assert json.loads(broke.content)["error"]["code"] == "insufficient_credit"
    unknown = await scene.run(model="kindling/none")
    assert unknown.status_code == 404
    assert json.loads(unknown.content)["error"]["code"] == "model_not_found"


async def test_a_gateway_that_is_gone_is_a_sentence(scene: Scene, settings):
    settings.KINDLING_GATEWAY_URL = "http://127.0.0.1:9"
    reply = await scene.run()
    assert reply.status_code == 502
    assert "Try again" in json.loads(reply.content)["error"]["message"]


async def test_strangers_viewers_and_nonsense_are_refused(scene: Scene):
    assert (await AsyncClient().post(RUN, "{}", content_type="application/json")).status_code == 401
    assert (await scene.client.post(RUN, "[", content_type="application/json")).status_code == 400
    assert (await scene.client.post(RUN, "[]", content_type="application/json")).status_code == 400
    assert (await scene.client.put(RUN)).status_code == 405
    assert (await scene.client.get(RUN))["Location"] == "/console/playground/"
    strict = AsyncClient(enforce_csrf_checks=True)
    await strict.aforce_login(scene.member.user)
    assert (await strict.post(RUN, "{}", content_type="application/json")).status_code == 403
    await sync_to_async(scene.member.role)("viewer")
    assert (await scene.run()).status_code == 403
    assert scene.engine.received == []


async def test_without_scripts_a_post_answers_in_whole(scene: Scene):
    form = {"model": "kindling/spark", "message": "Hello!", "system": "Be kind.", "max_tokens": "8"}
    reply = await scene.client.post("/console/playground/", form)
    html = reply.content.decode()
    assert reply.status_code == 200
    assert 'class="msg is-model"' in html
    assert f"/console/usage/requests/{scene.engine.received[0].id}/" in html
    assert scene.engine.received[0].body["messages"][0] == {"role": "system", "content": "Be kind."}

    assert "msg-thought" not in html
    scene.engine.behaviour.thought = "<b>Hm.</b>"
    html = (await scene.client.post("/console/playground/", form)).content.decode()
    assert (
        '<details class="msg-thought"><summary>Thought</summary><div>&lt;b&gt;Hm.&lt;/b&gt;</div></details>'
        in html
    )

    wrong = await scene.client.post("/console/playground/", form | {"model": "kindling/none"})
    assert wrong.status_code == 422
    html = wrong.content.decode()
    assert "There is no such model." in html and '<option value="" selected disabled>' in html
    form.pop("model")
    assert "Choose a model." in (await scene.client.post("/console/playground/", form)).content.decode()


async def test_a_model_that_is_gone_is_said_and_nothing_is_chosen_in_its_place(scene: Scene):
    for query, gone in (("model=kindling/gone", True), ("model=kindling/spark", False), ("", False)):
        html = (await scene.client.get(f"/console/playground/?{query}")).content.decode()
        assert ('<strong class="mono">kindling/gone</strong> cannot be called.' in html) is gone
        assert ('<option value="" selected disabled>Choose a model</option>' in html) is gone
        assert ('<option value="kindling/spark" selected>' in html) is not gone
    compared = await scene.client.get("/console/playground/?model=kindling/spark&compare=kindling/gone")
    assert "cannot be called." in compared.content.decode()


async def test_a_page_of_another_organisation_asks_nothing(scene: Scene):
    dev = await sync_to_async(scene.world.member)("grace")
    await Membership.objects.acreate(user=scene.member.user, organisation=dev.org, role="developer")
    shown = {"X-Kindling-Org": dev.org.id}
    body = json.dumps(ASK)
    reply = await scene.client.post(RUN, body, content_type="application/json", headers=shown)
    refusal = json.loads(reply.content)["error"]
    assert (reply.status_code, refusal["code"]) == (409, "organisation_changed")
    assert f"This page was for {dev.org.name}; nothing was done." in refusal["message"]
    form = {"model": "kindling/spark", "message": "Hello!", "kindling_org": dev.org.id}
    assert (await scene.client.post("/console/playground/", form)).status_code == 409
    # Who was removed asks nothing in the name of his own organisation either.
    await Membership.objects.filter(organisation=dev.org, user=scene.member.user).adelete()
    again = await scene.client.post(RUN, body, content_type="application/json", headers=shown)
    refusal = json.loads(again.content)["error"]
    assert (again.status_code, refusal["code"]) == (409, "organisation_left")
    assert "not a member of any more" in refusal["message"]
    assert scene.engine.received == []
    own = {"X-Kindling-Org": scene.member.org.id}
    reply = await scene.client.post(RUN, body, content_type="application/json", headers=own)
    assert (await chunks(reply))[-1]["usage"]


async def test_the_page_names_what_helps_those_who_may_do_it(scene: Scene):
    html = (await scene.client.get("/console/playground/")).content.decode()
    assert 'data-billing="/console/billing/" data-limits="/console/limits/"' in html
    await sync_to_async(scene.member.role)("developer")
    html = (await scene.client.get("/console/playground/")).content.decode()
    assert "data-billing" not in html and 'data-limits="/console/limits/"' in html


async def test_an_answer_of_one_token_or_none_has_no_speed(scene: Scene):
    for made in (0, 1):
        (request_id,) = await sync_to_async(scene.world.use)(scene.member, completion_tokens=made)
        booked = (await scene.client.get(f"/console/playground/receipt/{request_id}/")).json()
        assert (booked["completion_tokens"], booked["tokens_per_s"]) == (made, None)


async def test_the_receipt_appears_when_the_request_is_booked(scene: Scene):
    reply = await scene.run()
    await chunks(reply)
    url = f"/console/playground/receipt/{reply['X-Kindling-Request']}/"
    assert (await scene.client.get(url)).status_code == 404
    (request_id,) = await sync_to_async(scene.world.use)(scene.member)
    booked = (await scene.client.get(f"/console/playground/receipt/{request_id}/")).json()
    assert booked["cost_exact_usd"] == "0.000003000000"
    assert (booked["first_token_ms"], booked["tokens_per_s"]) == (20, 100.0)
    assert booked["balance"] == "$0.999997"
