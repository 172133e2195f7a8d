"""Usage: sums, chart, breakdowns, CSV and single requests tell the same story as the ledger."""

import csv
import io
from datetime import timedelta

import pytest
from django.db import connections
from django.test import AsyncClient
from django.urls import reverse

from kindling_billing.selectors import balance_get
from kindling_console_world import Member, World
from kindling_platform.common.clock import now

URL = "/console/usage/"
EACH_PICOUSD = 10 * 100_000 + 5 * 400_000


def page(member: Member, **query: str) -> str:
    return member.client.get(URL, query).content.decode()


def ms(**ago: int) -> int:
    return int((now() - timedelta(**ago)).timestamp() * 1000)


def test_totals_equal_what_left_the_wallet(world: World, member: Member):
    before = balance_get(owner_id=member.org.id).picousd
    world.use(member, requests=4)
    assert before - balance_get(owner_id=member.org.id).picousd == 4 * EACH_PICOUSD
    html = page(member)
    assert "$0.000012000000" in html
    assert "$0.000012 over 7 days" in html


def test_spans_cut_off_what_is_older(world: World, member: Member):
    old = {"started_ms": ms(days=10), "first_token_ms": ms(days=10), "finished_ms": ms(days=10)}
    world.use(member, requests=2, **old)
    world.use(member)
    assert "$0.000003 over 7 days" in page(member)
    assert "$0.000009 over 30 days" in page(member, range="30d")
    assert "$0.000003 over 24 hours" in page(member, range="24h")
    assert "over 7 days" in page(member, range="nonsense")


def test_an_empty_range_says_what_to_do(member: Member):
    assert "Nothing in this range" in page(member)


def test_breakdowns_name_things_and_lead_to_their_requests(world: World, member: Member):
    adapter = world.adapter(member)
    key = member.key("staging")
    world.use(member, key_id=key.id, adapter=adapter)
    for _ in range(2):
        play = member.key("Playground", kind="playground")
        world.use(member, key_id=play.id)
    assert f'<a href="/console/usage/requests/?adapter_id={adapter.id}">{adapter.ref}</a>' in page(
        member, by="adapter"
    )
    keys = page(member, by="key")
    assert f"key_id={key.id}" in keys
    # Two short-lived keys of the playground are one line.
    assert keys.count(">Playground</td>") == 1


def test_a_request_shows_how_its_cost_comes_about(world: World, member: Member):
    (request_id,) = world.use(member, cached_tokens=4)
    html = member.client.get(reverse("console:request", args=[request_id])).content.decode()
    # 6 fresh, 4 cached, 5 out.
    for cost in ("$0.000000600000", "$0.000000200000", "$0.000002000000", "$0.000002800000"):
        assert cost in html, cost
    assert "20 ms" in html
    assert "100.0 tok/s" in html


@pytest.mark.parametrize(
    ("finish", "words"),
    [
        ("stop", "Complete"),
        ("cancelled", "Cut by the client"),
        ("grant_refused", "Ran out of credit"),
        ("error", "Failed, free"),
    ],
)
def test_outcomes_have_words(world: World, member: Member, finish: str, words: str):
    (request_id,) = world.use(member, finish=finish)
    listed = member.client.get(reverse("console:requests"), {"finish": finish}).content.decode()
    assert words in listed
    assert request_id in listed


def test_requests_are_paged_by_cursor(world: World, member: Member):
    ids = world.use(member, requests=60)
    first = member.client.get(reverse("console:requests")).content.decode()
    cursor = first.split("cursor=")[1].split('"')[0]
    second = member.client.get(reverse("console:requests"), {"cursor": cursor}).content.decode()
    on_first = {request_id for request_id in ids if request_id in first}
    on_second = {request_id for request_id in ids if request_id in second}
    assert (len(on_first), len(on_second)) == (50, 10)
    assert on_first | on_second == set(ids)
    # A cursor that somebody has bent shows the first page.
    assert member.client.get(reverse("console:requests"), {"cursor": "bent"}).status_code == 200


@pytest.mark.django_db(transaction=True)
async def test_the_csv_holds_every_request_and_the_exact_sum():
    from asgiref.sync import sync_to_async

    from kindling_console_world import make_world

    world = await sync_to_async(make_world)()
    member = await sync_to_async(world.member)("ada")
    ids = await sync_to_async(world.use)(member, requests=7)
    client = AsyncClient()
    await client.aforce_login(member.user)
    reply = await client.get("/console/usage/requests.csv", {"range": "24h"})
    assert reply.streaming
    assert 'filename="kindling-usage-' in reply["Content-Disposition"]
    text = b"".join([piece async for piece in reply.streaming_content]).decode()
    rows = list(csv.DictReader(io.StringIO(text)))
    assert {row["request_id"] for row in rows} == set(ids)
    assert sum(int(row["cost_picousd"]) for row in rows) == 7 * EACH_PICOUSD
    assert rows[0]["cost_usd"] == "0.000003000000"
    await sync_to_async(connections.close_all)()


def test_a_cell_that_a_spreadsheet_would_run_is_defused():
    from kindling_console.pages.usage import _cell

    assert _cell("=1+1") == "'=1+1"
    assert _cell('a,"b"') == '"a,""b"""'
