"""docs/api.md against the code: every field that is read is on the page, and the page promises no other."""

from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kindling_api_page import FieldRecord, names_in, table
from kindling_engine.protocol import headers
from kindling_engine.server.app import create_app
from kindling_engine.server.chat_body import chat_body_read
from kindling_engine.server.completion_body import completion_body_read
from kindling_engine.server.embedding_body import embedding_body_read
from kindling_engine.server.messages import ROLES
from kindling_engine.server.model_text import model_text_load
from kindling_engine.server.request_common import ModelFacts
from kindling_engine.server.tokens_body import detokenize_body_read, tokenize_body_read
from kindling_engine.starter import SPARK_PATH
from kindling_fake_core import Bench, fake_bench

CHAT, COMPLETIONS, EMBEDDINGS = range(1, 4)
MESSAGES = [{"role": "user", "content": "Hi"}]
FACTS = ModelFacts("kindling/spark", 1024, 2048, frozenset({2}))
BODIES: dict[int, tuple[str, dict[str, Any]]] = {
    CHAT: ("/v1/chat/completions", {"model": "m", "messages": MESSAGES}),
    COMPLETIONS: ("/v1/completions", {"model": "m", "prompt": "Hi"}),
}


def said(route: int, *answers: str) -> set[str]:
    """The fields for which the page gives one of these answers."""
    return {
        name for row in table("Fields") if row[route].split(" ")[0] in answers for name in names_in(row[0])
    }


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with fake_bench(tmp_path) as made:
        made.say("x")
        yield made


async def test_generating_routes_read_what_the_page_says(monkeypatch: pytest.MonkeyPatch):
    text = model_text_load(SPARK_PATH)
    for route, read in ((CHAT, chat_body_read), (COMPLETIONS, completion_body_read)):
        body = BODIES[route][1]
        record = await FieldRecord.of(monkeypatch, read, text, FACTS, body=body)
        assert record.read == said(route, "yes", "ignored", "only"), route
        if route == CHAT:  # tools have two forms, and each takes only a harmless word of the other's
            older = {**body, "functions": [{"name": "f"}]}
            record.only &= (await FieldRecord.of(monkeypatch, read, text, FACTS, body=older)).only
        assert record.only == said(route, "only"), route


async def test_embeddings_read_what_the_page_says(monkeypatch: pytest.MonkeyPatch):
    text = SimpleNamespace(hidden_size=8)  # token ids need no tokenizer
    body = {"model": "m", "input": [5, 6]}
    record = await FieldRecord.of(monkeypatch, embedding_body_read, text, FACTS, body=body)
    assert record.read == said(EMBEDDINGS, "yes", "ignored")


async def test_routes_of_tokens_read_what_the_page_says(monkeypatch: pytest.MonkeyPatch):
    text = model_text_load(SPARK_PATH)
    rows = table("Tokens")
    routes = (
        (1, tokenize_body_read, [{"model": "m", "messages": MESSAGES}, {"model": "m", "prompt": "Hi"}]),
        (2, detokenize_body_read, [{"model": "m", "tokens": [5]}]),
    )
    for column, read, bodies in routes:
        found = [await FieldRecord.of(monkeypatch, read, text, FACTS, body=body) for body in bodies]
        fields = {name for row in rows if row[column] != "no" for name in names_in(row[0])}
        assert set().union(*(record.read for record in found)) == fields


@pytest.mark.parametrize("route", BODIES)
async def test_what_has_no_effect_is_named_and_what_is_not_served_is_refused(bench: Bench, route: int):
    path, body = BODIES[route]
    ignored = said(route, "ignored")
    async with bench.post(path, body | dict.fromkeys(ignored, "x")) as reply:
        assert reply.status == 200, await reply.text()
        assert set(reply.headers["x-kindling-ignored"].split(",")) == ignored
    for name in said(route, "no", "only"):
        async with bench.post(path, body | {name: "priority"}) as reply:
            error = (await reply.json())["error"]
            assert (reply.status, error["code"], error["param"]) == (400, "unsupported_field", name)


async def test_the_harmless_values_are_taken(bench: Bench):
    values = {"false": False, "auto": "auto", "default": "default", "text": ["text"]}
    for route, (path, body) in BODIES.items():
        for row in table("Fields"):
            for value in names_in(row[route]) or ([""] if "empty" in row[route] else []):
                field = {names_in(row[0])[0]: values.get(value, value)}
                async with bench.post(path, body | field) as reply:
                    assert reply.status == 200, await reply.text()
                    assert "x-kindling-ignored" not in reply.headers


def test_no_field_stands_twice():
    names = [name for row in table("Fields") for name in names_in(row[0])]
    assert len(names) == len(set(names)) > 50


def test_headers_and_roles_are_those_of_the_code():
    named = {name for row in table("Headers of a request") for name in names_in(row[0])}
    assert {headers.ISOLATION, headers.AFFINITY} <= named
    page = (Path(__file__).parents[2] / "docs" / "api.md").read_text()
    assert all(f"`{role}`" in page.split("**Messages**")[1] for role in ROLES)


async def test_an_engine_has_the_routes_of_the_page(bench: Bench):
    served = {
        f"{route.method} {route.resource.canonical}"
        for route in create_app(bench.front).router.routes()
        if route.resource and route.method != "HEAD"
    }
    assert served == {name for row in table("An engine's own routes") for name in names_in(row[0])}
