"""Opinions about answers: one's own requests, known or on their way, and the last word holds."""

import uuid
from typing import Any

import httpx
import pytest

from kindling_gateway import chat
from kindling_platform.common.ids import uuid7


def stored(scene) -> list[dict[str, Any]]:
    query = (
        "SELECT coalesce(json_agg(json_build_object('id', request_id, 'score', score, 'label', label)), '[]')"
        " FROM usage_feedback WHERE organisation_id = %s"
    )
    rows: list[dict[str, Any]] = scene.world.value(query, scene.customer.id)
    return rows


def test_an_opinion_may_come_before_the_books(http: httpx.Client, scene):
    request_id = http.post("/v1/chat/completions", json=chat()).headers["x-request-id"]
    reply = http.post("/v1/feedback", json={"request_id": request_id, "score": 1, "label": "good"})
    assert reply.status_code == 200, reply.text
    assert reply.json() == {
        "object": "feedback", "request_id": request_id, "score": 1.0, "label": "good", "status": "pending",
    }  # fmt: skip
    assert stored(scene) == [{"id": request_id, "score": 1, "label": "good"}]


def test_the_last_opinion_about_a_known_request_holds(http: httpx.Client, scene):
    old = uuid.uuid4()
    scene.world.execute("INSERT INTO gateway_request VALUES (%s, %s)", old, scene.customer.id)
    for score in (0, 0.5):
        reply = http.post("/v1/feedback", json={"request_id": str(old), "score": score})
        assert reply.json()["status"] == "recorded"
    assert stored(scene) == [{"id": str(old), "score": 0.5, "label": ""}]


@pytest.mark.parametrize("form", ["chatcmpl-{}", "msg_{}", "resp_{}"])
def test_an_answers_own_id_names_its_request(http: httpx.Client, form: str):
    request_id = uuid7()
    named = form.format(request_id.hex if "resp" in form else request_id)
    reply = http.post("/v1/feedback", json={"request_id": named, "label": "wrong"})
    assert reply.json()["request_id"] == str(request_id)


def test_other_peoples_requests_do_not_exist(http: httpx.Client, scene):
    theirs = uuid7()
    scene.world.execute("INSERT INTO gateway_request VALUES (%s, %s)", theirs, scene.operator.id)
    old = uuid.UUID(int=theirs.int - (7_200_000 << 80))
    for request_id in (theirs, uuid.uuid4(), old, "nonsense"):
        reply = http.post("/v1/feedback", json={"request_id": str(request_id), "score": 1})
        assert (reply.status_code, reply.json()["error"]["code"]) == (404, "request_not_found")
    assert stored(scene) == []


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"request_id": None}, "request_id"),
        ({"score": None}, "score"),
        ({"score": 2}, "score"),
        ({"score": True}, "score"),
        ({"score": "1"}, "score"),
        ({"label": "x" * 65}, "label"),
        ({"label": "a\x00"}, "label"),
        ({"comment": "x"}, "comment"),
    ],
)
def test_what_is_refused_is_named(http: httpx.Client, change: dict[str, Any], param: str):
    reply = http.post("/v1/feedback", json={"request_id": str(uuid7()), "score": 1} | change)
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, param)
