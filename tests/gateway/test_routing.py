"""Affinity to adapters and prompts, and how long one that fails is left alone."""

from collections import Counter
from collections.abc import Iterator

import httpx
import pytest

from kindling_fake_engine import FakeEngine
from kindling_gateway import chat
from kindling_platform.gateway import routing
from kindling_platform.gateway.affinity import PREFIX_BYTES, affinity_key, favourite
from kindling_platform.gateway.routing import SLACK, Replica, Router

LONG = "You are a careful assistant. " * 60


@pytest.fixture
def engines() -> Iterator[list[FakeEngine]]:
    with (
        FakeEngine(replica="a") as first,
        FakeEngine(replica="b") as second,
        FakeEngine(replica="c") as third,
    ):
        yield [first, second, third]


def ask(http: httpx.Client, model: str, *contents: str, **headers: str) -> None:
    messages = [{"role": "user", "content": content} for content in contents]
    reply = http.post("/v1/chat/completions", json=chat(model, messages=messages), headers=headers)
    assert reply.status_code == 200


def shares(engines: list[FakeEngine]) -> list[int]:
    return [len(engine.received) for engine in engines]


def test_prompts_with_the_same_long_beginning_meet_on_one_replica(http: httpx.Client, scene, engines):
    model = scene.new_model(*(engine.url for engine in engines))
    for turn in range(6):
        ask(http, model, LONG, f"Question {turn}")
    assert sorted(shares(engines)) == [0, 0, 6]


def test_different_beginnings_spread(http: httpx.Client, scene, engines):
    model = scene.new_model(*(engine.url for engine in engines))
    for number in range(24):
        ask(http, model, f"{number} {LONG}")
    assert min(shares(engines)) > 0


def test_a_session_named_by_the_client_stays_where_it_is(http: httpx.Client, scene, engines):
    model = scene.new_model(*(engine.url for engine in engines))
    for _ in range(6):
        ask(http, model, "Hi", **{"x-session-affinity": "conversation-7"})
    assert sorted(shares(engines)) == [0, 0, 6]


def test_a_short_prompt_has_nothing_to_gain():
    assert affinity_key({}, b'{"messages":[{"role":"user","content":"Hi"}]}') == b""
    body = b'{"model":"m","messages":[' + b"x" * 2 * PREFIX_BYTES + b"]}"
    assert affinity_key({}, body) == affinity_key({}, b'{"model":"other-model","messages":[' + b"x" * 9999)
    assert affinity_key({b"x-session-affinity": b"s"}, body) == b"s"


def test_few_keys_move_when_a_replica_leaves():
    keys = [b"%d" % number for number in range(600)]
    before = {key: favourite(key, "abcd") for key in keys}
    after = {key: favourite(key, "abc") for key in keys}
    assert all(after[key] == before[key] for key in keys if before[key] != "d")
    assert min(Counter(before.values()).values()) > 100


def replicas(count: int) -> list[Replica]:
    return [Replica("dep_1", "main", "kindling", f"r{rank}", f"http://r{rank}") for rank in range(count)]


class Scenery:
    """A router alone, with a model on some replicas; the caller is the model's owner."""

    def __init__(self, count: int, *, tiers: dict[str, str] | None = None) -> None:
        self.ready = replicas(count)
        self.asked: list[str] = []
        self.tiers = tiers or {}
        self.router = Router(None, adapters_of=self._adapters_of)  # type: ignore[arg-type]  # it reads no row here

    async def _adapters_of(self, url: str) -> dict[str, str]:
        self.asked.append(url)
        return {"ad": self.tiers[url]} if url in self.tiers else {}

    def choose(self, *, adapter: str = "", affinity: bytes = b"") -> Replica:
        return self.router._choose(self.ready, FakeModel(adapter), affinity)  # type: ignore[arg-type]


class FakeModel:
    """Of a model the choice sees the adapter alone."""

    def __init__(self, adapter_hash: str) -> None:
        self.adapter_hash = adapter_hash


async def settle(scenery: Scenery) -> None:
    for task in list(scenery.router._tiers._tasks):
        await task


async def test_an_adapter_goes_where_it_is_loaded():
    scenery = Scenery(4, tiers={"http://r1": "disk", "http://r2": "device", "http://r3": "host"})
    scenery.choose(adapter="ad")
    await settle(scenery)
    assert sorted(scenery.asked) == [f"http://r{rank}" for rank in range(4)]
    assert {scenery.choose(adapter="ad").name for _ in range(8)} == {"r2"}
    assert len(scenery.asked) == 4


async def test_a_busy_favourite_hands_over_to_the_next_tier():
    scenery = Scenery(3, tiers={"http://r1": "device", "http://r2": "host"})
    scenery.choose(adapter="ad")
    await settle(scenery)
    for _ in range(SLACK + 1):
        replica = scenery.choose(adapter="ad")
        assert replica.name == "r1"
        scenery.router.enter(replica)
    assert scenery.choose(adapter="ad").name == "r2"


async def test_an_adapter_that_nobody_has_stays_with_one():
    scenery = Scenery(4)
    assert len({scenery.choose(adapter="ad").name for _ in range(12)}) == 1


def test_who_fails_again_is_left_alone_longer_until_it_answers(monkeypatch: pytest.MonkeyPatch):
    now = 100.0
    monkeypatch.setattr(routing, "monotonic", lambda: now)
    scenery = Scenery(2)
    broken, sound = scenery.ready
    pauses = []
    for _ in range(7):
        scenery.router.suspect(broken)
        pauses.append(scenery.router._suspects[broken.url].until - now)
    assert pauses == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 16.0]
    assert not scenery.router._is_sound(broken, now)
    assert scenery.router._is_sound(sound, now)
    scenery.router.trust(broken)
    assert scenery.router._is_sound(broken, now)
