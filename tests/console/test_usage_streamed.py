"""Requests as CSV, streamed while they are read from the database."""

import csv
import io

import pytest
from asgiref.sync import sync_to_async
from django.db import connections
from django.test import AsyncClient

from kindling_console_world import make_world

EACH_PICOUSD = 10 * 100_000 + 5 * 400_000


@pytest.mark.django_db(transaction=True)
async def test_the_csv_holds_every_request_and_the_exact_sum():
    world = await sync_to_async(make_world)()
    member = await sync_to_async(world.member)("ada")
    ids = await sync_to_async(world.use)(member, requests=7)
    client = AsyncClient()
    await client.aforce_login(member.user)
    reply = await client.get("/console/usage/requests.csv")
    assert reply.streaming
    assert 'filename="kindling-requests-' in reply["Content-Disposition"]
    text = b"".join([piece async for piece in reply.streaming_content]).decode()
    rows = list(csv.DictReader(io.StringIO(text)))
    assert {row["request_id"] for row in rows} == set(ids)
    assert sum(int(row["cost_picousd"]) for row in rows) == 7 * EACH_PICOUSD
    assert rows[0]["cost_usd"] == "0.000003000000"
    await sync_to_async(connections.close_all)()
