"""The playground's raw mode: what has no chat template opens with it, and what chats can be given a raw text too."""

import json
import re

import pytest
from asgiref.sync import sync_to_async

from kindling_console.quickstart import snippet_templates, snippets
from kindling_console_world import Member, World
from kindling_platform.catalog.models import Model
from kindling_platform.deployments.models import Deployment
from kindling_playground import RUN, Scene, backend, chunks, scene

__all__ = ["backend", "scene"]

pytestmark = pytest.mark.django_db(transaction=True)
PAGE = "/console/playground/"
RAW = 'data-mode="raw"'


def sibling(world: World, name: str, **fields: object) -> Model:
    """Another model that runs."""
    model = Model.objects.get(id=world.model.id)
    model.pk, model.name = None, name
    model.id = f"mdl_{name}"
    for field, value in fields.items():
        setattr(model, field, value)
    model.save(force_insert=True)
    Deployment.objects.create(organisation=model.organisation, model=model, name=name, state="live")
    return model


def opened(member: Member, query: str = "") -> str:
    reply = member.client.get(f"{PAGE}?{query}")
    assert reply.status_code == 200
    return reply.content.decode()


def chosen(html: str) -> list[str]:
    return re.findall(
        r'<option value="([^"]+)" selected', html.split('id="id_model"')[1].split("</select>")[0]
    )


def test_what_has_no_chat_template_opens_raw(world: World, member: Member):
    sibling(world, "base", chat_ready=False)
    html = opened(member, "model=kindling/base")
    assert RAW in html and "playground_raw.js" in html and "console/playground.js" not in html
    assert 'name="prompt"' in html and 'name="message"' not in html and 'name="system"' not in html
    assert chosen(html) == ["kindling/base"] and re.search(r'id="pg-modes"[^>]* hidden', html)
    # Whatever is asked for: it cannot chat.
    assert RAW in opened(member, "model=kindling/base&mode=chat")


def test_what_chats_opens_with_a_chat_and_can_be_given_a_raw_text(world: World, member: Member):
    sibling(world, "base", chat_ready=False)
    html = opened(member, "model=kindling/spark")
    assert RAW not in html and 'name="message"' in html
    assert not re.search(r'id="pg-modes"[^>]* hidden', html)
    assert '?model=kindling/spark&amp;mode=raw"' in html
    raw = opened(member, "model=kindling/spark&mode=raw")
    assert RAW in raw and chosen(raw) == ["kindling/spark"]
    assert '?model=kindling/spark&amp;mode=chat"' in raw
    # A page that names none chats, if anything does.
    assert chosen(opened(member)) == ["kindling/spark"]


def test_only_what_chats_is_compared(world: World, member: Member):
    sibling(world, "base", chat_ready=False)
    html = opened(member, "model=kindling/spark&compare=kindling/base")
    lane = html.split('id="id_compare"')[1].split("</select>")[0]
    assert "kindling/spark" in lane and "kindling/base" not in lane
    assert '<option value="kindling/base" data-raw>' in html.split('id="id_model"')[1].split("</select>")[0]


def test_where_nothing_chats_the_page_opens_raw(world: World, member: Member):
    Model.objects.update(chat_ready=False)
    html = opened(member)
    assert RAW in html and chosen(html) == ["kindling/spark"]
    adapter = world.adapter(member)
    html = opened(member, f"model={adapter.ref}")
    assert RAW in html and chosen(html) == [adapter.ref]
    page = member.client.get(f"/console/adapters/{adapter.id}/").content.decode()
    assert f'playground/?model={adapter.ref}">' in page
    model = member.client.get("/console/catalog/kindling/spark/").content.decode()
    assert 'playground/?model=kindling/spark">' in model


def test_what_makes_vectors_is_not_offered_and_leads_to_its_quickstart(world: World, member: Member):
    model = sibling(world, "embed", task="embed")
    html = opened(member, "model=kindling/embed")
    assert '<strong class="mono">kindling/embed</strong> makes vectors' in html
    assert '<a href="/console/catalog/kindling/embed/#quickstart">' in html
    assert "cannot be called" not in html and chosen(html) == []
    assert 'value="kindling/embed"' not in html
    quickstart = member.client.get("/console/catalog/kindling/embed/").content.decode()
    assert 'id="quickstart"' in quickstart
    adapter = world.adapter(member, name="ranker")
    adapter.base = model
    adapter.save()
    html = opened(member, f"model={adapter.ref}")
    assert f'<a href="/console/adapters/{adapter.id}/#quickstart">' in html
    Deployment.objects.exclude(model=model).update(desired_state="stopped")
    html = opened(member, "model=kindling/embed")
    assert "No model to talk to" in html and "makes vectors" in html


def test_what_is_gone_is_said_in_this_mode_too(world: World, member: Member):
    html = opened(member, "model=kindling/gone&mode=raw")
    assert RAW in html and '<strong class="mono">kindling/gone</strong> cannot be called.' in html
    assert chosen(html) == []


async def test_a_completion_streams_with_its_usage(scene: Scene):
    ask = {
        "model": "kindling/spark",
        "prompt": " Once upon",
        "max_tokens": 8,
        "system": "dropped",
        "seed": "",
    }
    reply = await scene.client.post(RUN, json.dumps(ask), content_type="application/json")
    assert reply.status_code == 200 and reply["Content-Type"].startswith("text/event-stream")
    seen = await chunks(reply)
    assert "".join(c["choices"][0]["text"] for c in seen if c["choices"])
    assert seen[-1]["usage"]["completion_tokens"] == 8
    (received,) = scene.engine.received
    assert received.path == "/v1/completions" and received.id == reply["X-Kindling-Request"]
    assert received.body["prompt"] == " Once upon"
    assert {"messages", "system", "seed"} & set(received.body) == set()


async def test_refusals_carry_the_address_of_their_entry(scene: Scene):
    ask = {"model": "kindling/none", "prompt": "Once"}
    reply = await scene.client.post(RUN, json.dumps(ask), content_type="application/json")
    error = json.loads(reply.content)["error"]
    assert (reply.status_code, error["code"]) == (404, "model_not_found")
    assert error["doc_url"].endswith("/errors/#model_not_found")
    form = {"mode": "raw", "model": "kindling/spark", "prompt": "Once", "max_tokens": "8"}
    scene.engine.behaviour.fail_status, scene.engine.behaviour.fail_code = 400, "context_length_exceeded"
    html = (await scene.client.post(PAGE, form)).content.decode()
    assert re.search(r'errors/#(\w+)" target="_blank"><code>\1</code></a>', html)
    unreadable = await scene.client.post(RUN, "[", content_type="application/json")
    assert json.loads(unreadable.content)["error"]["doc_url"].endswith("/errors/#invalid_json")


async def test_without_scripts_a_post_completes_in_whole(scene: Scene):
    form = {"mode": "raw", "model": "kindling/spark", "prompt": "Once <upon>", "max_tokens": "8"}
    reply = await scene.client.post(PAGE, form)
    html = reply.content.decode()
    assert reply.status_code == 200
    assert '<span class="pg-given">Once &lt;upon&gt;</span><mark class="pg-made">' in html
    assert ">Once &lt;upon&gt;</textarea>" in html
    (received,) = scene.engine.received
    assert (received.path, received.body["prompt"]) == ("/v1/completions", "Once <upon>")
    assert f"/console/usage/requests/{received.id}/" in html
    empty = await scene.client.post(PAGE, form | {"prompt": ""})
    assert empty.status_code == 422 and "This field is required." in empty.content.decode()
    wrong = await scene.client.post(PAGE, form | {"model": "kindling/none"})
    assert wrong.status_code == 422 and "There is no such model." in wrong.content.decode()


async def test_a_message_to_what_cannot_chat_is_kept_as_a_prompt(scene: Scene):
    await sync_to_async(sibling)(scene.world, "base", chat_ready=False)
    form = {"mode": "chat", "model": "kindling/base", "message": "Hello there", "max_tokens": "8"}
    reply = await scene.client.post(PAGE, form)
    html = reply.content.decode()
    assert reply.status_code == 422 and RAW in html and ">Hello there</textarea>" in html
    assert scene.engine.received == []


def test_the_quickstart_of_a_base_model_ends_somewhere():
    for snippet in snippets("kindling/base", surface="completions"):
        assert re.search(r"max_tokens\W{1,3} ?120", snippet.text), snippet.id
        assert "%" not in snippet.text.replace("%}", "")
    assert all("%PARAMS%" in template.text for template in snippet_templates("completions"))
