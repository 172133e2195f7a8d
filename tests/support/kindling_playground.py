"""A customer in front of the playground, with the real gateway and an engine that does as it is told behind it."""

import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

import pytest
from asgiref.sync import sync_to_async
from django.db import connection, connections
from django.test import AsyncClient

from kindling_console import playground_keys
from kindling_console_world import Member, World, make_world
from kindling_fake_engine import FakeEngine
from kindling_gateway import GatewayServer, gateway_env
from kindling_platform.deployments.models import Replica
from kindling_platform.gateway.app import create_app

RUN = "/console/playground/run/"
ASK = {"model": "kindling/spark", "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 8}


@dataclass(slots=True)
class Scene:
    """A customer in front of the playground, with the gateway and an engine behind it."""

    world: World
    member: Member
    engine: FakeEngine
    client: AsyncClient

    async def run(self, **fields):
        return await self.client.post(RUN, json.dumps(ASK | fields), content_type="application/json")


@pytest.fixture
def backend(db, settings) -> Iterator[FakeEngine]:
    playground_keys._kept.clear()
    parts = urlsplit(gateway_env().database_url)
    url = urlunsplit(parts._replace(path=f"/{connection.settings_dict['NAME']}"))
    with FakeEngine() as engine, GatewayServer(create_app(gateway_env(database_url=url))) as gateway:
        settings.KINDLING_GATEWAY_URL = gateway.url
        yield engine


@pytest.fixture
async def scene(backend: FakeEngine) -> AsyncIterator[Scene]:
    world = await sync_to_async(make_world)()
    member = await sync_to_async(world.member)("ada")
    await Replica.objects.aupdate(url=backend.url)
    client = AsyncClient()
    await client.aforce_login(member.user)
    yield Scene(world, member, backend, client)
    # Or the thread that asked for this test keeps its connection, and the database cannot be dropped.
    await sync_to_async(connections.close_all)()


async def chunks(reply) -> list[dict]:
    text = b"".join([piece async for piece in reply.streaming_content]).decode()
    return [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
