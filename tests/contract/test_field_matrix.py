"""Every field of the surface, by an official client to a real engine: honoured, named as ignored, or refused by name.

The cells come from the tables of docs/api.md, those of routes and headers among them; what has no example here is a
failure, and so is a field of the public vendors' surface that the page leaves out.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import anthropic
import httpx
import openai
import pytest

from kindling_api_page import names_in, table
from kindling_doorway import Doorway
from kindling_platform.common.ids import uuid7_text

pytestmark = pytest.mark.stack
MESSAGES = [{"role": "user", "content": "Hello!"}]
FUNCTION = {"name": "look", "parameters": {"type": "object", "properties": {}}}
SCHEMA = {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]}
OBJECT = {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}}
SKIP = {"model", "messages", "prompt", "input", "query", "documents"}
BODIES: dict[str, dict[str, Any]] = {
    "Chat": {"messages": MESSAGES, "max_tokens": 4},
    "Completions": {"prompt": "Once", "max_tokens": 4},
    "Embeddings": {"input": "w5 w6"},
    "Messages": {"messages": MESSAGES, "max_tokens": 4},
    "Responses": {"input": "Hello!", "max_output_tokens": 4},
    "Rerank": {"query": "w5", "documents": ["w5", "w6"]},
    "Feedback": {"request_id": uuid7_text(), "score": 0.5},
    "Tokenize": {"messages": MESSAGES},
    "Detokenize": {"tokens": [5]},
    "Client tokens": {},
}
# Routes that no official client has a name for.
OWN_ROUTES = {
    "Rerank": "/rerank",
    "Feedback": "/feedback",
    "Tokenize": "/tokenize",
    "Detokenize": "/detokenize",
    "Client tokens": "/client_tokens",
}
# What a request may bound itself with stands in a table of its own, for the routes of OpenAI's shape.
OPENAI_SHAPE = ("Chat", "Completions", "Embeddings")
BOUNDS = ("max_cost", "deadline_ms")
# What the public APIs of OpenAI, Fireworks and others take; each has to stand on the page.
CHAT_SURFACE = [
    "messages", "stream", "stream_options", "n", "stop", "max_tokens", "max_completion_tokens", "seed",
    "user", "metadata", "store", "temperature", "top_p", "top_k", "min_p", "typical_p", "frequency_penalty",
    "presence_penalty", "repetition_penalty", "logit_bias", "ignore_eos", "logprobs", "top_logprobs",
    "echo", "return_token_ids", "raw_output", "tools", "tool_choice", "parallel_tool_calls", "functions",
    "function_call", "response_format", "reasoning_effort", "thinking", "reasoning_history",
    "prompt_cache_key", "prompt_cache_isolation_key", "context_length_exceeded_behavior",
    "prompt_truncate_len", "prediction", "service_tier", "perf_metrics_in_response", "safe_tokenization",
    "guided_json", "guided_regex", "guided_grammar", "chat_template_kwargs", "prompt_cache_retention",
    "prompt_cache_options", "verbosity",
]  # fmt: skip
# A value that asks for something, by field; where routes differ, by route.
VALUES: dict[str, Any] = {
    "context_management": {"edits": []},
    "client_metadata": {"a": "b"},
    "stream": True, "stream_options": {"include_usage": True}, "max_tokens": 5, "max_completion_tokens": 5,
    "min_tokens": 2, "prompt_truncate_len": 40, "context_length_exceeded_behavior": "truncate",
    "truncate_prompt_tokens": 1, "n": 2, "best_of": 2, "stop": ["zzz"], "stop_token_ids": [7],
    "include_stop_str_in_output": True, "ignore_eos": True, "seed": 7, "temperature": 0.5, "top_p": 0.9,
    "min_p": 0.1, "typical_p": 0.9, "top_k": 5, "frequency_penalty": 0.5, "presence_penalty": 0.5,
    "repetition_penalty": 1.1, "logit_bias": {"5": 1}, "logprobs": 1, "top_logprobs": 2, "echo": True,
    "return_token_ids": True, "tools": [{"type": "function", "function": FUNCTION}], "tool_choice": "auto",
    "parallel_tool_calls": False, "functions": [FUNCTION], "function_call": "auto", "response_format": OBJECT,
    "guided_json": SCHEMA, "guided_regex": "[a-z]{3}", "guided_grammar": 'start: "ab"',
    "reasoning_effort": "none", "thinking": {"type": "disabled"}, "reasoning_history": "disabled",
    "chat_template_kwargs": {}, "safe_tokenization": True, "prompt_cache_isolation_key": "k",
    "prompt_cache_key": "k", "dimensions": 8, "encoding_format": "base64", "user": "u", "metadata": {"a": "b"},
    "safety_identifier": "s", "store": True, "service_tier": "default", "modalities": ["audio"],
    "raw_output": True, "perf_metrics_in_response": True, "suffix": "end", "prediction": "Hello",
    "max_cost": "0.5", "deadline_ms": 60_000, "system": "Be kind.", "stop_sequences": ["zzz"],
    "output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}, "cache_control": {"type": "ephemeral"},
    "speed": "fast", "instructions": "Be kind.", "max_output_tokens": 5, "include": ["message.output_text.logprobs"],
    "text": {"format": {"type": "json_object"}}, "reasoning": {"effort": "none"}, "truncation": "auto",
    "prompt_cache_retention": "24h", "prompt_cache_options": {"ttl": "24h"}, "verbosity": "low",
    "max_tool_calls": 3, "background": True, "top_n": 1, "return_documents": True,
    "include_cost": True, "request_id": uuid7_text(), "score": 1, "label": "good", "models": ["kindling/spark"],
    "tokens": [5], "add_special_tokens": True, "add_generation_prompt": False, "return_token_strs": True,
    "continue_final_message": True, "mm_processor_kwargs": {"a": 1},
    "origins": ["https://app.example.com"], "budget": "0.5", "expires_in": 60,
}  # fmt: skip
OTHER_VALUES: dict[tuple[str, str], Any] = {
    ("Chat", "logprobs"): True,
    ("Messages", "tools"): [{"name": "look", "input_schema": {"type": "object"}}],
    ("Messages", "tool_choice"): {"type": "auto"},
    ("Messages", "metadata"): {"user_id": "u"},
    ("Messages", "service_tier"): "fast",
    ("Messages", "thread"): {"type": "create"},
    ("Responses", "tools"): [{"type": "function", **FUNCTION}],
    ("Responses", "stream_options"): {"include_obfuscation": False},
}
# What a field needs beside it.
BESIDE: dict[tuple[str, str], dict[str, Any]] = {
    ("Chat", "stream_options"): {"stream": True},
    ("Completions", "stream_options"): {"stream": True},
    ("Chat", "top_logprobs"): {"logprobs": True},
    ("Chat", "tool_choice"): {"tools": VALUES["tools"]},
    ("Tokenize", "tool_choice"): {"tools": VALUES["tools"]},
    ("Tokenize", "function_call"): {"functions": [FUNCTION]},
    ("Messages", "tool_choice"): {"tools": OTHER_VALUES["Messages", "tools"]},
    ("Chat", "function_call"): {"functions": [FUNCTION]},
    ("Chat", "min_tokens"): {"max_tokens": 8},
    ("Chat", "max_completion_tokens"): {"max_tokens": None},
    ("Completions", "max_completion_tokens"): {"max_tokens": None},
    ("Responses", "stream_options"): {"stream": True},
}
# By header a value that is taken, and one that is refused with this param or code; None where any will do.
HEADERS: dict[str, tuple[str, tuple[str, str] | None]] = {
    "authorization": ("Bearer {key}", ("Bearer kd_inf_no", "invalid_api_key")),
    "x-api-key": ("{key}", ("kd_inf_no", "invalid_api_key")),
    "x-prompt-cache-isolation-key": ("k", ("k" * 300, "x-prompt-cache-isolation-key")),
    "x-session-affinity": ("s", None),
    "x-kindling-max-cost": ("0.5", ("much", "max_cost")),
    "x-kindling-deadline-ms": ("60000", ("soon", "deadline_ms")),
    "idempotency-key": ("matrix", ("k" * 300, "idempotency-key")),
}


@dataclass(frozen=True, slots=True)
class Cell:
    """One field on one route, and what the page says of it."""

    route: str
    field: str
    answer: str


def cells() -> Iterator[Cell]:
    columns = [("Fields", index, name) for index, name in enumerate(("Chat", "Completions", "Embeddings"), 1)]
    columns += [
        ("Messages", 1, "Messages"),
        ("Responses", 1, "Responses"),
        ("Rerank and feedback", 1, "Rerank"),
        ("Rerank and feedback", 2, "Feedback"),
        ("Tokens", 1, "Tokenize"),
        ("Tokens", 2, "Detokenize"),
    ]
    for heading, column, route in columns:
        for row in table(heading):
            for field in names_in(row[0]):
                if field not in SKIP:
                    yield Cell(route, field, row[column].split(" ")[0])
    for field in [name for row in table("Limits") for name in names_in(row[0])]:
        for route in OPENAI_SHAPE if field in BOUNDS else ("Client tokens",):
            yield Cell(route, field, "yes")
    for route in OPENAI_SHAPE:
        yield Cell(route, "include_cost", "yes")


CELLS = list(cells())


def body_of(doorway: Doorway, cell: Cell) -> dict[str, Any]:
    value = OTHER_VALUES.get((cell.route, cell.field), VALUES.get(cell.field))
    if cell.field == "previous_response_id":
        value = send(doorway, "Responses", BODIES["Responses"]).json()["id"]
    assert value is not None, f"no example of {cell.field}"
    beside = BESIDE.get((cell.route, cell.field), {})
    body = BODIES[cell.route] | beside | {cell.field: value}
    return {name: one for name, one in body.items() if one is not None}


def send(doorway: Doorway, route: str, body: dict[str, Any]) -> httpx.Response:
    """Send a body by the official client of its route; fields that it has no name for go as its extra ones."""
    ids = {"model": doorway.encoder if route in ("Embeddings", "Rerank") else doorway.model}
    if route == "Messages":
        vendor = anthropic.Anthropic(base_url=doorway.url, api_key=doorway.key, max_retries=0)
        return vendor.messages.with_raw_response.create(
            model=ids["model"], max_tokens=body["max_tokens"], messages=body["messages"], extra_body=body
        ).http_response
    client = openai.OpenAI(base_url=f"{doorway.url}/v1", api_key=doorway.key, max_retries=0)
    if route in OWN_ROUTES:
        whole = ids | body if route in ("Rerank", "Tokenize", "Detokenize") else body
        return client.post(OWN_ROUTES[route], cast_to=httpx.Response, body=whole)
    calls: dict[str, Any] = {
        "Chat": client.chat.completions,
        "Completions": client.completions,
        "Embeddings": client.embeddings,
        "Responses": client.responses,
    }
    needed = {name: body[name] for name in ("messages", "prompt", "input") if name in body}
    if route == "Embeddings":
        needed["encoding_format"] = body.get("encoding_format", "float")
    raw = calls[route].with_raw_response.create(**ids, **needed, extra_body=body)
    reply: httpx.Response = raw.http_response
    return reply


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: f"{cell.route}-{cell.field}")
def test_a_field_does_what_the_page_says(doorway: Doorway, cell: Cell):
    body = body_of(doorway, cell)
    if cell.answer in ("yes", "ignored"):
        reply = send(doorway, cell.route, body)
        ignored = reply.headers.get("x-kindling-ignored", "").split(",")
        assert (reply.status_code, cell.field in ignored) == (200, cell.answer == "ignored"), reply.text
        return
    assert cell.answer in ("no", "only"), cell
    with pytest.raises((openai.BadRequestError, anthropic.BadRequestError)) as refused:
        send(doorway, cell.route, body)
    error = json.loads(refused.value.response.content)["error"]
    if cell.route == "Messages":
        assert cell.field in error["message"]
    else:
        assert (error["code"], error["param"]) == ("unsupported_field", cell.field)


def test_the_page_has_every_field_of_the_public_surface():
    assert set(CHAT_SURFACE) <= {name for row in table("Fields") for name in names_in(row[0])}


def test_a_field_that_nobody_knows_is_refused_by_name_on_every_route(doorway: Doorway):
    for route, body in BODIES.items():
        with pytest.raises((openai.BadRequestError, anthropic.BadRequestError)) as refused:
            send(doorway, route, body | {"no_such_field": 1})
        assert "no_such_field" in refused.value.response.text, route


@pytest.mark.parametrize("row", table("Headers of a request"), ids=lambda row: names_in(row[0])[0])
def test_a_header_is_taken_or_refused_by_name(doorway: Doorway, row: list[str]):
    name = names_in(row[0])[0]
    assert name in HEADERS, f"no example of {name}"
    taken, refused = HEADERS[name]
    body = {"model": doorway.model, **BODIES["Chat"]}
    own = {} if name in ("authorization", "x-api-key") else {"authorization": f"Bearer {doorway.key}"}
    with httpx.Client(base_url=doorway.url, timeout=60) as client:
        reply = client.post(
            "/v1/chat/completions", json=body, headers=own | {name: taken.format(key=doorway.key)}
        )
        assert reply.status_code == 200, reply.text
        if refused:
            reply = client.post("/v1/chat/completions", json=body, headers=own | {name: refused[0]})
            error = reply.json()["error"]
            assert reply.status_code in (400, 401)
            assert refused[1] in (error["code"], (error["param"] or "").lower())


@pytest.mark.parametrize("name", [name for row in table("Routes") for name in names_in(row[0])])
def test_a_route_is_served_under_every_prefix(doorway: Doorway, name: str):
    method, path = name.split(" ")
    path = path.replace("{id}", doorway.model if "models" in path else "resp_none")
    for prefix in ("", "/inference", f"/{doorway.customer.slug}"):
        with doorway.client() as client:
            reply = client.request(method, prefix + path, json={} if method == "POST" else None)
        assert reply.headers["x-request-id"]
        if reply.status_code != 200:
            error = reply.json()["error"]
            # In Anthropic's shape, which has no codes, nobody is a type of its own.
            nobody = "not_found_error" if "messages" in path else ""
            assert error["type"] in ("invalid_request_error", nobody), reply.text
            assert "on this server" not in error["message"], reply.text
            assert error.get("code") not in ("unknown_url", "method_not_allowed"), reply.text
