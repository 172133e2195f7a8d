"""One database, engine and gateway for the session, and a new customer for each test."""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import redis

from kindling_fake_engine import FakeEngine
from kindling_gateway import GatewayServer, Org, World, gateway_env, start_gateway, valkey_client
from kindling_patience import patience

__all__ = ["patience"]


@dataclass(slots=True)
class Shared:
    """What stays the same for the session: an operator's public model `kindling/words` on one engine."""

    world: World
    engine: FakeEngine
    operator: Org
    model_id: str


@pytest.fixture(scope="session")
def shared() -> Iterator[Shared]:
    env = gateway_env()
    world = World(env.database_url, env.key_pepper)
    with FakeEngine() as engine:
        operator = world.org("kindling")
        model_id = world.base(operator, "words")
        world.replica(operator, model_id, engine.url)
        yield Shared(world, engine, operator, model_id)
    world.drop()


@pytest.fixture(scope="session")
def server(shared: Shared) -> Iterator[GatewayServer]:
    with start_gateway(shared.world, cors_origins=("https://app.example.com",)) as running:
        yield running


@pytest.fixture
def valkey() -> Iterator[redis.Redis]:
    client = valkey_client()
    yield client
    client.close()


@dataclass(slots=True)
class Scene:
    """What a test starts with: besides the shared things a new customer with a key and a dollar."""

    world: World
    valkey: redis.Redis
    engine: FakeEngine
    operator: Org
    model_id: str
    customer: Org
    key: str

    def new_model(self, *urls: str, owner: Org | None = None, **columns: Any) -> str:
        """Another model on these engines; gives its reference."""
        name = f"m{secrets.token_hex(4)}"
        owner = owner or self.operator
        model_id = self.world.base(owner, name, **columns)
        for url in urls:
            self.world.replica(owner, model_id, url)
        return f"{owner.slug}/{name}"


@pytest.fixture
def scene(shared: Shared, valkey: redis.Redis) -> Iterator[Scene]:
    customer = shared.world.org(f"acme-{secrets.token_hex(4)}")
    key = shared.world.key(customer)
    yield Scene(shared.world, valkey, shared.engine, shared.operator, shared.model_id, customer, key)
    shared.engine.reset(over=customer.id)  # a request that was left in the background may still be on its way


@pytest.fixture
def http(server: GatewayServer, scene: Scene) -> Iterator[httpx.Client]:
    with server.client(scene.key) as client:
        yield client
