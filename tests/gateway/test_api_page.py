"""docs/api.md against the gateway's routes and forwarded headers."""

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from kindling_api_page import names_in, table
from kindling_platform.gateway.affinity import SESSION_HEADERS
from kindling_platform.gateway.errand import FORWARDED_HEADERS
from kindling_platform.gateway.idempotency.guard import HEADER as IDEMPOTENCY_KEY
from kindling_platform.gateway.limits.caps import HEADERS
from kindling_platform.gateway.routes import METHODS, Action, route_find
from kindling_platform.gateway.surface.fields import Fields
from kindling_platform.gateway.surface.messages.request import message_body_read
from kindling_platform.gateway.surface.rerank.request import rerank_body_read
from kindling_platform.gateway.surface.responses.request import response_body_read


def test_every_route_of_the_page_is_served_and_no_action_is_missing():
    found = set()
    for row in table("Routes"):
        for name in names_in(row[0]):
            method, path = name.split(" ")
            for prefix in ("", "/inference", "/acme"):
                given = "acme/words#fast" if "models" in path else "resp_1"
                route = route_find(prefix + path.replace("{id}", given))
                assert route is not None
                assert method in METHODS[route.action]
                found.add(route.action)
    assert found == set(Action) - {Action.ROOT, Action.UNKNOWN}


def test_the_headers_of_the_page_are_passed_on():
    named = {name for row in table("Headers of a request") for name in names_in(row[0])[:1]}
    # Those that lead a request to its replica have done their work.
    passed = {name.decode() for name in (*FORWARDED_HEADERS, *SESSION_HEADERS)}
    assert passed == named - {
        "authorization",
        "x-api-key",
        IDEMPOTENCY_KEY.decode(),
    } - {name.decode() for name in HEADERS.values()}


class Readings:
    """Which top-level fields a body's reader looked at."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.read: set[str] = set()
        end = Fields.end

        def recorded(fields: Fields) -> None:
            if not fields.path(""):
                self.read |= fields._read
            end(fields)

        monkeypatch.setattr(Fields, "end", recorded)


def promised(heading: str, column: int = 1) -> set[str]:
    answers = ("yes", "ignored", "only")
    rows = table(heading)
    return {name for row in rows if row[column].split(" ")[0] in answers for name in names_in(row[0])}


@pytest.mark.parametrize(
    ("heading", "column", "read", "body"),
    [
        ("Messages", 1, message_body_read, {"max_tokens": 1, "messages": [{"role": "user", "content": "x"}]}),
        ("Responses", 1, response_body_read, {"input": "x"}),
        ("Rerank and feedback", 1, rerank_body_read, {"query": "x", "documents": ["y"]}),
    ],
)
def test_translated_routes_read_what_the_page_says(
    monkeypatch: pytest.MonkeyPatch, heading: str, column: int, read: Callable[[bytes], Any], body: dict
):
    readings = Readings(monkeypatch)
    read(json.dumps({"model": "m", **body}).encode())
    assert readings.read == promised(heading, column)


def test_feedback_has_the_fields_of_the_page(http: httpx.Client, monkeypatch: pytest.MonkeyPatch):
    readings = Readings(monkeypatch)
    http.post("/v1/feedback", json={"request_id": "x", "score": 1})
    assert readings.read == promised("Rerank and feedback", 2)
