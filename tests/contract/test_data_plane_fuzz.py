"""Made-up values in every known field of every route, by one of two tenants: no 5xx, and nothing of the other's."""

import json
import secrets
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kindling_api_page import names_in, table
from kindling_doorway import Doorway
from kindling_examples import examples

pytestmark = pytest.mark.stack
TEXT = st.text(max_size=12)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
CHAT = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}
ROUTES: dict[str, tuple[str, int, dict[str, Any]]] = {
    "chat/completions": ("Fields", 1, CHAT),
    "completions": ("Fields", 2, {"prompt": "Hi", "max_tokens": 2}),
    "embeddings": ("Fields", 3, {"input": "w5"}),
    "messages": ("Messages", 1, CHAT),
    "messages/count_tokens": ("Messages", 1, {"messages": CHAT["messages"]}),
    "responses": ("Responses", 1, {"input": "Hi", "max_output_tokens": 2}),
    "rerank": ("Rerank and feedback", 1, {"query": "w5", "documents": ["w6"]}),
    "tokenize": ("Tokens", 1, {"messages": CHAT["messages"]}),
    "detokenize": ("Tokens", 2, {"tokens": [5]}),
    "feedback": ("Rerank and feedback", 2, {"request_id": "x", "score": 1}),
}
SECRET = f"treasure{secrets.token_hex(4)}"


@pytest.fixture(scope="module")
def kept(doorway: Doorway) -> Iterator[str]:
    """The id of a response that the other organisation keeps, with a secret in it."""
    headers = {"authorization": f"Bearer {doorway.other_key}"}
    body = {"model": doorway.model, "input": SECRET, "max_output_tokens": 2}
    reply = httpx.post(f"{doorway.url}/v1/responses", json=body, headers=headers, timeout=60)
    assert reply.status_code == 200, reply.text
    yield reply.json()["id"]


def fields_of(route: str) -> list[str]:
    heading, column, _ = ROUTES[route]
    return [name for row in table(heading) if row[column] != "no" for name in names_in(row[0])]


@pytest.mark.parametrize("route", ROUTES)
def test_made_up_values_break_nothing(doorway: Doorway, kept: str, route: str):
    names = fields_of(route)
    model = doorway.encoder if route in ("embeddings", "rerank") else doorway.model
    values = JSON | st.sampled_from([kept, SECRET, doorway.model])

    with doorway.client() as http:

        @settings(
            max_examples=examples(60),
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        )
        @given(st.dictionaries(st.sampled_from(names), values, min_size=1, max_size=3))
        def check(fields: dict[str, Any]) -> None:
            body = {"model": model} | ROUTES[route][2] | fields
            content = json.dumps(body).encode()
            reply = http.post(f"/v1/{route}", content=content)
            assert reply.status_code < 500, (body, reply.text)
            if SECRET not in content.decode():
                assert SECRET not in reply.text
            if reply.status_code >= 400:
                error = reply.json()["error"]
                assert error["message"] and error["type"]

        check()


@pytest.mark.parametrize("method", ["GET", "DELETE", "POST", "PUT", "HEAD", "OPTIONS", "PATCH"])
def test_made_up_paths_break_nothing_and_tell_nothing(doorway: Doorway, kept: str, method: str):
    words = [
        "v1",
        "inference",
        "customer",
        "responses",
        "input_items",
        "cancel",
        "messages",
        "models",
        "%00",
        "..",
    ]
    parts = st.sampled_from([*words, kept, ""])
    with doorway.client() as http:

        @settings(
            max_examples=examples(60),
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        )
        @given(st.lists(parts, min_size=1, max_size=5), st.text(alphabet="abc=&%0123after", max_size=12))
        def check(path: list[str], query: str) -> None:
            reply = http.request(method, f"/{'/'.join(path)}?{query}")
            assert reply.status_code < 500, (path, query, reply.text)
            assert SECRET not in reply.text

        check()
    headers = {"authorization": f"Bearer {doorway.other_key}"}
    assert httpx.get(f"{doorway.url}/v1/responses/{kept}", headers=headers, timeout=60).status_code == 200
