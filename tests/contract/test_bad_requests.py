"""What no model can answer, through a gateway to a real engine: an error of the route's shape, no charge, no leak."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from kindling_doorway import Doorway
from kindling_gateway import eventually, held_nano, valkey_client
from kindling_spools import shipped

pytestmark = pytest.mark.stack
MESSAGES = [{"role": "user", "content": "Hi"}]
BODIES: dict[str, dict[str, Any]] = {
    "chat/completions": {"messages": MESSAGES, "max_tokens": 4},
    "completions": {"prompt": "Hi", "max_tokens": 4},
    "embeddings": {"input": "w5"},
    "messages": {"messages": MESSAGES, "max_tokens": 4},
    "responses": {"input": "Hi", "max_output_tokens": 4},
    "rerank": {"query": "w5", "documents": ["w6"]},
}
NUMBERS = {
    "chat/completions": ["max_tokens", "seed", "n", "top_k", "top_logprobs"],
    "completions": ["max_tokens", "seed", "n", "best_of"],
    "embeddings": ["dimensions"],
    "messages": ["max_tokens", "top_k"],
    "responses": ["max_output_tokens", "top_logprobs"],
    "rerank": ["top_n"],
}
# Nothing is fetched for anybody: not from this machine, not from the network that it stands in.
PLACES = ["file:///etc/passwd", "http://169.254.169.254/latest/meta-data/", "http://127.0.0.1/", "data:,x"]


class Guest:
    """A customer of one test, who has a dollar and shall keep it."""

    def __init__(self, doorway: Doorway) -> None:
        self._doorway = doorway
        self.org = doorway.world.org("guest")
        key = doorway.world.key(self.org)
        self.http = httpx.Client(base_url=doorway.url, headers={"authorization": f"Bearer {key}"}, timeout=60)

    def body(self, route: str, **fields: Any) -> dict[str, Any]:
        encodes = route in ("embeddings", "rerank")
        return {"model": self._doorway.encoder if encodes else self._doorway.model} | BODIES[route] | fields

    def refused(self, route: str, content: bytes) -> str:
        """Send a body that has to be refused; the sentence that says why."""
        reply = self.http.post(f"/v1/{route}", content=content)
        assert reply.status_code == 400, (route, content[:200], reply.status_code, reply.text)
        said = reply.json()
        if route == "messages":
            assert said["type"] == "error"
            assert said["error"]["type"] == "invalid_request_error"
        else:
            assert set(said["error"]) == {"message", "type", "param", "code", "doc_url"}
        assert "Traceback" not in reply.text
        assert self._doorway.engine.url not in reply.text
        return str(said["error"]["message"])


@pytest.fixture
def guest(doorway: Doorway) -> Iterator[Guest]:
    """Whatever a test sends, its sender has paid nothing and holds nothing afterwards."""
    guest = Guest(doorway)
    yield guest
    guest.http.close()
    with valkey_client() as valkey:
        eventually(lambda: held_nano(valkey, guest.org) == {})
    # What others have used may be shipped meanwhile.
    used = [row.record for row in shipped(doorway.world).values() if row.verdict != "void"]
    assert [record for record in used if record.tenant == guest.org.id] == []


@pytest.mark.parametrize("route", BODIES)
def test_what_is_no_json_object(guest: Guest, route: str):
    good = json.dumps(guest.body(route))[:-1].encode()
    for content in (
        b"",
        good,
        good + b', "user": "\xff"}',
        good + b', "temperature": NaN}',
        good + b', "temperature": -Infinity}',
        good + b', "user": "a", "user": "b"}',
        good + b', "user": ' + b'{"a":' * 10_000 + b"1" + b"}" * 10_001,
        good + b"} {}",
        b"[" * 100_000,
    ):
        assert guest.refused(route, content), content[:40]


@pytest.mark.parametrize("route", NUMBERS)
def test_numbers_that_nobody_can_mean(guest: Guest, route: str):
    for name in NUMBERS[route]:
        for number in ("9" * 25, "9" * 4_000, "-1" + "0" * 30, "1e400", "0.5"):
            body = guest.body(route, logprobs=True) if name == "top_logprobs" else guest.body(route)
            body.pop(name, None)
            content = json.dumps(body)[:-1] + f', "{name}": {number}' + "}"
            assert guest.refused(route, content.encode()), (name, number)


def test_a_prompt_beyond_the_context(guest: Guest):
    long = "word " * 3_000
    messages = [{"role": "user", "content": long}]
    for route, fields in (
        ("chat/completions", {"messages": messages}),
        ("completions", {"prompt": long}),
        ("embeddings", {"input": "w5 " * 3_000}),
        ("messages", {"messages": messages}),
        ("responses", {"input": long}),
    ):
        said = guest.refused(route, json.dumps(guest.body(route, **fields)).encode())
        assert "tokens" in said or "characters" in said, (route, said)


@pytest.mark.parametrize("place", PLACES)
def test_images_are_fetched_from_nowhere(guest: Guest, place: str):
    parts: dict[str, list[dict[str, Any]]] = {
        "chat/completions": [{"type": "image_url", "image_url": {"url": place}}],
        "messages": [{"type": "image", "source": {"type": "url", "url": place}}],
        "responses": [{"type": "input_image", "image_url": place}],
    }
    for route, content in parts.items():
        field = "input" if route == "responses" else "messages"
        body = guest.body(route, **{field: [{"role": "user", "content": content}]})
        assert guest.refused(route, json.dumps(body).encode()), route


@pytest.mark.parametrize("kind", ["video", "input_audio", "file", "text\u0000", "", 7, None, ["text"]])
def test_parts_that_nobody_knows(guest: Guest, kind: Any):
    for route in ("chat/completions", "messages", "responses"):
        field = "input" if route == "responses" else "messages"
        content = [{"type": kind, "file": {"file_id": "file-1"}}]
        body = guest.body(route, **{field: [{"role": "user", "content": content}]})
        assert guest.refused(route, json.dumps(body).encode()), route
