"""Usage: sums, chart, breakdowns, spans, CSV and single requests tell the same story as the ledger."""

import csv
import io
import re
from datetime import timedelta
from html import unescape
from urllib.parse import unquote

import pytest
from django.urls import reverse

from kindling_billing.selectors import balance_get
from kindling_console.usage_lines import MOST
from kindling_console.usage_steps import steps_of
from kindling_console.usage_view import FIGURES, view_of
from kindling_console_world import Member, World
from kindling_platform.common.clock import now
from kindling_platform.usage.reports import COLUMNS, UsageSum

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
    day = f"{now() - timedelta(days=10):%Y-%m-%d}"
    assert "$0.000006 over" in page(member, first=day, last=day)


def test_a_span_is_shown_beside_the_one_before(world: World, member: Member):
    old = {"started_ms": ms(days=8), "first_token_ms": ms(days=8), "finished_ms": ms(days=8)}
    world.use(member, requests=2, **old)
    world.use(member, requests=3)
    html = page(member)
    assert "50 % more than in the span before" in html
    assert "+50 %" in html
    assert 'class="before"' in html
    alone = page(member, compare="off")
    assert "span before" not in alone.split("<figure")[1].split("</figure>")[0]
    assert 'class="before"' not in alone


def test_an_empty_range_says_what_to_do(member: Member):
    assert "Nothing in this range" in page(member)


@pytest.fixture(scope="module")
def used_once(kept_world: World) -> Member:
    member = kept_world.member("once")
    kept_world.use(member)
    return member


@pytest.mark.django_db
@pytest.mark.parametrize("show", FIGURES)
@pytest.mark.parametrize("by", COLUMNS)
def test_every_figure_and_breakdown_can_be_shown(used_once: Member, show: str, by: str):
    html = page(used_once.again(), show=show, by=by, range="24h")
    assert f"{FIGURES[show].label} per hour" in html
    total = html.split("<tfoot>")[-1]
    assert "$0.000003" in total


def test_breakdowns_name_things_and_lead_to_their_requests(world: World, member: Member):
    adapter = world.adapter(member)
    key = member.key("staging")
    (tuned,) = world.use(member, key_id=key.id, adapter=adapter)
    for _ in range(2):
        play = member.key("Playground", kind="playground")
        world.use(member, key_id=play.id)
    link = re.search(rf'href="([^"]+)">{adapter.ref}</a>', page(member, by="adapter"))
    assert link
    listed = member.client.get(unescape(link[1])).content.decode()
    assert tuned in listed
    assert listed.count('nowrap"><a href') == 1
    keys = page(member, by="key")
    (play,) = re.findall(r'href="([^"]+)">Playground</a>', keys)
    assert member.client.get(unescape(play)).content.decode().count('nowrap"><a href') == 2
    assert f">{member.user.email}</a>" in page(member, by="member")


def test_more_names_than_a_page_shows_are_one_line_and_the_sum_is_whole(world: World, member: Member):
    world.use_each(
        member,
        [
            {"key_id": f"key_{number:03}", "adapter": world.adapter(member, name=f"a{number}")}
            for number in range(MOST + 3)
        ],
    )
    html = page(member, by="adapter")
    assert "3 others" in html
    assert html.split("<tfoot>")[-1].count(f'<td class="num">{MOST + 3}</td>') == 1


def test_a_chart_of_many_hours_is_small_and_leaves_nothing_out(world: World, member: Member):
    moments = [ms(days=day, hours=day % 24) for day in range(29) for _ in range(2)]
    world.use_each(
        member,
        [{"started_ms": at, "first_token_ms": at, "finished_ms": at} for at in moments],
    )
    html = page(member, range="30d", interval="hour", show="requests")
    titles = re.findall(r"<title>([^<]+)</title>", html.split("<figure")[1])
    assert len(titles) <= 120
    assert sum(int(line.rpartition(": ")[2]) for title in titles for line in title.splitlines()) == len(
        moments
    )
    table = html.split('<details class="chart-table">')[1].split("</details>")[0]
    assert f"{len(moments)}</td>" in table.split("<tfoot>")[1]


def test_steps_beyond_the_table_are_one_row_of_it(world: World, member: Member):
    view = view_of(member.org, {"range": "30d", "interval": "hour"})
    rows = [
        UsageSum("", 2, cost_picousd=3, at=view.question.start + timedelta(hours=hour)) for hour in range(60)
    ]
    first, *others = steps_of(view, rows)
    assert (first.name, first.sums.requests, first.sums.cost_picousd) == ("12 hours before", 24, 36)
    assert len(others) == 48 and others[0].name.endswith(" 12:00")
    assert len(steps_of(view, rows[:48])) == 48


def test_a_name_is_text_and_never_markup(world: World, member: Member):
    key = member.key("<b>bold</b>")
    world.use(member, key_id=key.id)
    lines = page(member, by="key").split('id="breakdown"')[1]
    assert "&lt;b&gt;bold&lt;/b&gt;</a>" in lines and "<b>bold" not in lines


def test_filters_are_in_the_address_and_stay_in_it(world: World, member: Member):
    world.use(member, requests=2)
    world.use(member, finish="error")
    html = page(member, status="error", range="24h", tz="Asia/Kathmandu")
    assert "1 failed, free" in html
    assert '<option value="error" selected>' in html
    assert "Days and hours are those of Asia/Kathmandu" in html
    for link in re.findall(r'<a href="(\?[^"#]*)', html.split('<div class="tiles is-many">')[1]):
        assert "status=error" in link and "tz=Asia/Kathmandu" in unquote(link), link
    listed = re.search(r'href="(/console/usage/requests/\?[^"]+)"', html)
    assert listed and "status=error" in listed[1]


@pytest.mark.parametrize(
    "query",
    [{"tz": "Mars"}, {"first": "soon"}, {"first": "1200-01-01"}, {"interval": "week"}, {"key": "a\0"},
     {"range": "90d", "interval": "hour"}, {"first": "2026-02-02", "last": "2026-02-01"}],
)  # fmt: skip
def test_an_address_that_makes_no_sense_says_so_and_shows_the_usual(
    world: World, member: Member, query: dict
):
    world.use(member)
    reply = member.client.get(URL, query)
    assert reply.status_code == 422
    html = reply.content.decode()
    assert 'role="alert"' in html.split("<main")[1]
    assert "$0.000003 over 7 days" in html


def test_days_that_go_backwards_are_refused_and_kept_to_be_mended(member: Member):
    html = member.client.get(URL, {"first": "2026-02-02", "last": "2026-02-01"}).content.decode()
    assert "The last day, 2026-02-01, lies before the first, 2026-02-02." in html
    assert 'value="2026-02-02"' in html and 'value="2026-02-01"' in html


def test_requests_can_be_of_a_span_and_of_what_a_filter_names(world: World, member: Member):
    old = {"started_ms": ms(days=10), "first_token_ms": ms(days=10), "finished_ms": ms(days=10)}
    (before,) = world.use(member, **old)
    (today,) = world.use(member)
    url = reverse("console:requests")
    since = {"from": f"{now() - timedelta(days=1):%Y-%m-%d}", "tz": "Europe/Berlin"}
    html = member.client.get(url, since).content.decode()
    assert today in html and before not in html and "Europe/Berlin" in html
    assert before in member.client.get(url).content.decode()
    assert member.client.get(url, {"tz": "Mars", "from": "x"}).status_code == 400


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
    listed = member.client.get(reverse("console:requests"), {"status": finish}).content.decode()
    assert words in listed
    assert request_id in listed


def test_an_outcome_that_there_is_not_is_refused_with_those_there_are(world: World, member: Member):
    world.use(member, finish="unheard")
    for url, status in ((URL, 422), (reverse("console:requests"), 400), (f"{URL}usage.csv", 400)):
        reply = member.client.get(url, {"status": "stop,unheard"})
        assert reply.status_code == status
        assert "one or several of stop, length, cancelled, grant_refused, error" in reply.content.decode(), (
            url
        )
    html = page(member, by="status")
    assert "another outcome" in html and "status=unheard" not in html


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


def test_the_csv_of_a_page_holds_its_rows(world: World, member: Member):
    world.use(member, requests=2)
    world.use(member, finish="error")
    link = re.search(r'href="(/console/usage/usage.csv\?[^"]+)"', page(member, by="status", tz="Asia/Tokyo"))
    assert link
    text = b"".join(member.client.get(unescape(link[1]))).decode()
    rows = list(csv.DictReader(io.StringIO(text)))
    assert {row["status"]: row["requests"] for row in rows} == {"stop": "2", "error": "1"}
    assert sum(int(row["cost_picousd"]) for row in rows) == 2 * EACH_PICOUSD
    assert all(row["from"].endswith("+09:00") for row in rows)


@pytest.mark.parametrize("name", ["usage-csv", "requests-csv"])
def test_a_csv_of_no_sense_is_refused_in_words(member: Member, name: str):
    reply = member.client.get(reverse(f"console:{name}"), {"tz": "Mars"})
    assert (reply.status_code, reply["Content-Type"]) == (400, "text/plain; charset=utf-8")
    assert "time zone" in reply.content.decode()
