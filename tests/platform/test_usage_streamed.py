"""Sums and requests as CSV, streamed while they are read from the database."""

from datetime import UTC, datetime, timedelta

import pytest
from asgiref.sync import sync_to_async
from django.db import connections
from django.test import AsyncClient

from kindling_people import make_customer
from kindling_usage import Books

START = datetime(2026, 9, 1, tzinfo=UTC)
SPAN = {"from": "2026-09-01", "to": "2026-09-10"}


@pytest.mark.django_db(transaction=True)
@pytest.mark.filterwarnings("error:StreamingHttpResponse must consume")
async def test_csv_streams_on_the_event_loop_without_a_warning():
    def booked():
        books = Books(customer=make_customer("ada"))
        books.book([books.record(START + timedelta(minutes=minute)) for minute in range(30)])
        return books.customer

    ada = await sync_to_async(booked)()
    client = AsyncClient()
    await client.aforce_login(ada.user)
    for path, rows in (("usage.csv", 1), ("usage/requests.csv", 30)):
        reply = await client.get(f"/api/v1/{path}", SPAN)
        assert reply.streaming and reply.is_async
        text = b"".join([block async for block in reply.streaming_content]).decode()
        assert len(text.splitlines()) == rows + 1
    await sync_to_async(connections.close_all)()
