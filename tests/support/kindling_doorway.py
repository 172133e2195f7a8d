"""A gateway before a real engine with the starter model: what official clients are held against, short of a stack."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from kindling_engine.starter import SPARK_NAME
from kindling_engine_process import EngineProcess
from kindling_gateway import Org, World, gateway_env, start_gateway
from kindling_tiny_encoders import encoder_make


@dataclass(frozen=True, slots=True)
class Doorway:
    """`url` without ``/v1``; `key` is a customer's with ten dollars, `other_key` another organisation's."""

    url: str
    key: str
    other_key: str
    world: World
    customer: Org
    engine: EngineProcess
    model: str = SPARK_NAME
    encoder: str = "kindling/vectors"

    def client(self) -> httpx.Client:
        headers = {"authorization": f"Bearer {self.key}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=60)


@pytest.fixture(scope="session")
def doorway() -> Iterator[Doorway]:
    """One for every test that leaves it as it found it."""
    env = gateway_env()
    world = World(env.database_url, env.key_pepper)
    operator, customer = world.org("kindling"), world.org("customer", usd=10)
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in ("chat", "vectors", "model")]
        for path in paths[:2]:
            path.mkdir()
        encoder = encoder_make("bert", paths[2])
        with (
            EngineProcess(paths[0]) as engine,
            EngineProcess(paths[1], model=encoder, ref="kindling/vectors") as vectors,
            start_gateway(world) as server,
        ):
            world.replica(operator, world.base(operator, "spark"), engine.url)
            world.replica(operator, world.base(operator, "vectors"), vectors.url)
            world.execute("UPDATE gateway_model SET context_length = 1024")
            yield Doorway(
                url=server.url,
                key=world.key(customer),
                other_key=world.key(world.org("other", usd=10)),
                world=world,
                customer=customer,
                engine=engine,
            )
    world.drop()
