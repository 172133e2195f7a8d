"""The public status page: for everybody, from no session, honest when the database is away, and nobody's data in it."""

import re
from collections.abc import Callable
from datetime import timedelta
from xml.etree import ElementTree

import pytest
from django.db import OperationalError, connection
from django.test import Client
from django.urls import reverse

from kindling_console.status_strip import day_words, kind_of, percent, strip_of
from kindling_console_world import Member, World
from kindling_platform.audit.models import AuditEvent
from kindling_platform.common.clock import now
from kindling_platform.common.ids import new_id
from kindling_platform.status.components import DOWN, UP, Seen, model_key
from kindling_platform.status.fresh import status_forget
from kindling_platform.status.models import Notice
from kindling_platform.status.samples import samples_keep
from kindling_platform.status.selectors import Component, Day
from kindling_platform.status.services import Written, notice_withdraw, notice_write

pytestmark = pytest.mark.django_db
ATOM = "{http://www.w3.org/2005/Atom}"
PATHS = ("/status", "/status.json", "/status.atom")
TEXT = "Answers are <b>slow</b> & late."
NOTHING = {"title": "Slow", "severity": "limited", "text": TEXT, "begins_at": "", "ends_at": ""}


@pytest.fixture(autouse=True)
def read_anew() -> None:
    status_forget()


@pytest.fixture
def measured(world: World) -> World:
    keys = ("api", "console", "billing", model_key(world.model.id))
    for days in range(3):
        state = DOWN if days == 2 else UP
        samples_keep([Seen(key, state) for key in keys], at=now() - timedelta(days=days))
    samples_keep([Seen("checks", DOWN, "Checks take longer than usual."), Seen("api", UP)], at=now())
    return world


def notice(world: World, **changes: object) -> Notice:
    said = {"title": "Slow <answers>", "text": TEXT, "severity": "outage"} | changes
    written = Written(**said)
    return notice_write(notice_id=new_id("ntc"), written=written, actor=world.operator.actor)[0]


def test_everybody_reads_how_each_component_is(measured: World, client: Client):
    reply = client.get("/status")
    html = reply.content.decode()
    assert (reply.status_code, reply["Cache-Control"]) == (200, "public, max-age=10")
    # No cookie is set and none is read, so that a cache may give it to anybody.
    assert not reply.cookies and "Vary" not in reply.headers
    assert "Something is down" in html and "Checks take longer than usual." in html
    assert measured.model.ref in html and html.count('class="component"') == 5
    assert html.count("<rect") == 5 * 90 + 4
    assert html.count('role="img" aria-label="Last 90 days: ') == 5
    assert "up in 66.66 % of 3 measured minutes; 1 day was not all up; no data for 87 days." in html
    assert "<summary>1 day was not all up</summary>" in html
    assert " style=" not in html and "<script" not in html and "<form" not in html
    assert len(re.findall(r"<h1[ >]", html)) == 1
    assert client.head("/status").status_code == 200 and client.get("/status/").status_code == 200
    assert [client.post(path).status_code for path in PATHS] == [405] * 3


def test_it_reads_no_session_and_always_as_much(
    measured: World, member: Member, django_assert_num_queries: Callable
):
    for _ in range(2):
        # States, days, served models, notices; what was added to them only where there are some.
        with django_assert_num_queries(4):
            html = member.client.get("/status").content.decode()
        assert member.user.email not in html and member.org.slug not in html
        samples_keep([Seen("console", UP)], at=now() + timedelta(minutes=1))
        status_forget()
    notice(measured)
    notice(measured)
    with django_assert_num_queries(5):
        member.client.get("/status")


def test_a_flood_reads_once_and_a_notice_is_there_at_once(
    measured: World, client: Client, django_assert_num_queries: Callable, django_capture_on_commit_callbacks
):
    with django_assert_num_queries(4):
        for path in PATHS * 3:
            assert client.get(path).status_code == 200
    with django_capture_on_commit_callbacks(execute=True):
        one = notice(measured)
        assert "Slow" not in client.get("/status").content.decode()  # nothing is known of it before
    with django_assert_num_queries(5):
        assert [one.id in client.get(path).content.decode() for path in PATHS * 2] == [True] * 6
    with django_capture_on_commit_callbacks(execute=True):
        notice_withdraw(notice_id=one.id, actor=measured.operator.actor)
    assert "Slow" not in client.get("/status").content.decode()


def test_a_database_that_is_away_is_not_asked_by_everybody(world: World, client: Client):
    asked = []

    def refuse(*_: object) -> None:
        asked.append(1)
        raise OperationalError("gone")

    with connection.execute_wrapper(refuse):
        assert [client.get(path).status_code for path in PATHS * 3] == [503] * 9
    assert len(asked) == 1
    status_forget()
    assert client.get("/status").status_code == 200


def test_what_xml_has_no_word_for_breaks_no_feed(world: World, client: Client):
    notice(world, title="Log\x07", text="\x1b[31mred\x0b\r\nlate\ud800 \U0001f525")
    assert {path: client.get(path).status_code for path in PATHS} == dict.fromkeys(PATHS, 200)
    feed = ElementTree.fromstring(client.get("/status.atom").content)
    assert [one.text for one in feed.iter(f"{ATOM}title")][1:] == ["Outage: Log"]
    assert "[31mred\nlate \U0001f525" in "".join(feed.itertext())


def test_programs_read_the_same(measured: World, client: Client):
    notice(measured)
    reply = client.get("/status.json")
    said = reply.json()
    assert (reply["Access-Control-Allow-Origin"], said["status"]) == ("*", "down")
    by_id = {one["id"]: one for one in said["components"]}
    assert set(by_id) == {"api", "console", "billing", "checks", model_key(measured.model.id)}
    assert (by_id["console"]["minutes"], by_id["console"]["up_share"]) == (3, 0.666666)
    assert [day["down"] for day in by_id["console"]["days"]] == [1, 0, 0]
    (told,) = said["notices"]
    assert (told["title"], told["active"], told["ends_at"]) == ("Slow <answers>", True, None)
    feed = client.get("/status.atom")
    assert feed["Content-Type"] == "application/atom+xml; charset=utf-8"
    (entry,) = ElementTree.fromstring(feed.content).findall(f"{ATOM}entry")
    assert entry.findtext(f"{ATOM}title") == "Outage: Slow <answers>"
    assert TEXT in entry.findtext(f"{ATOM}summary", "")


def test_without_its_database_it_says_so(world: World, client: Client):
    def refuse(*_: object) -> None:
        raise OperationalError("connection refused at db.internal")

    for path, kind in zip(PATHS, ("text/html", "application/json", "text/plain"), strict=True):
        with connection.execute_wrapper(refuse):
            reply = client.get(path)
        assert (reply.status_code, reply["Retry-After"], reply["Cache-Control"]) == (503, "10", "no-store")
        assert reply["Content-Type"].startswith(kind)
        text = reply.content.decode()
        assert "database of this platform does not answer" in text and "db.internal" not in text


def test_a_notice_stands_above_the_console_while_it_goes_on(world: World, member: Member):
    home = reverse("console:keys")
    assert "Notices of the operator" not in member.client.get(home).content.decode()
    one = notice(world)
    notice(world, title="To come", begins_at=now() + timedelta(hours=1))
    html = member.client.get(home).content.decode()
    assert "Slow &lt;answers&gt;" in html and f'href="/status#{one.id}"' in html and "To come" not in html
    page = member.client.get("/status").content.decode()
    assert "Answers are &lt;b&gt;slow&lt;/b&gt; &amp; late." in page and "To come" in page
    Notice.objects.filter(id=one.id).update(ends_at=now())
    assert "Slow &lt;answers&gt;" not in member.client.get(home).content.decode()


def test_the_operator_writes_adds_ends_and_withdraws(world: World):
    client, address = world.operator.client, reverse("console:operator-status")
    given = NOTHING | {"notice_id": new_id("ntc")}
    page = reverse("console:operator-notice", args=[given["notice_id"]])
    for _ in range(2):  # a form that is sent twice
        reply = client.post(address, given)
        assert (reply.status_code, reply["Location"]) == (303, page)
    assert "Slow" in client.get(address).content.decode()
    assert client.post(page, {"do": "update", "text": "A disk is full."}).status_code == 303
    empty = client.post(page, {"do": "update", "text": " "})
    assert empty.status_code == 422 and "A notice needs a text." in empty.content.decode()
    assert client.post(page, {"do": "end", "text": ""}).status_code == 303
    shown = client.get(page).content.decode()
    assert "A disk is full." in shown and 'value="end"' not in shown
    assert client.post(page, {"do": "withdraw"}).status_code == 303
    assert "its words are gone" in client.get(page).content.decode()
    late = client.post(page, {"do": "update", "text": "More."})
    assert late.status_code == 422
    actions = (
        AuditEvent.objects.filter(target=given["notice_id"]).order_by("id").values_list("action", flat=True)
    )
    assert list(actions) == ["notice.written", "notice.updated", "notice.ended", "notice.withdrawn"]
    assert "Slow" not in client.get("/status").content.decode()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ends_at": "2020-01-01T00:00"}, "It has to end after it begins."),
        ({"severity": "dreadful"}, "Select a valid choice"),
        ({"begins_at": "soon"}, "Enter a valid date/time."),
        ({"notice_id": "ntc_1"}, "This form is too old"),
        ({"title": ""}, "This field is required."),
    ],
)
def test_a_refused_notice_keeps_what_was_typed(world: World, changes: dict[str, str], words: str):
    given = NOTHING | {"notice_id": new_id("ntc")} | changes
    reply = world.operator.client.post(reverse("console:operator-status"), given)
    html = reply.content.decode()
    assert reply.status_code == 422 and words in html
    assert "Answers are &lt;b&gt;slow&lt;/b&gt; &amp; late." in html
    assert not Notice.objects.exists()


def test_notices_are_the_operators_alone(world: World, member: Member):
    one = notice(world)
    for name, args in (("operator-status", []), ("operator-notice", [one.id])):
        url = reverse(f"console:{name}", args=args)
        assert (member.client.get(url).status_code, member.client.post(url).status_code) == (403, 403)
    assert world.operator.client.get(reverse("console:operator-notice", args=["ntc_none"])).status_code == 404
    world.operator.role("developer")
    assert world.operator.client.get(reverse("console:operator-status")).status_code == 403


@pytest.mark.parametrize(
    ("day", "kind", "words"),
    [
        (Day(now().date()), "none", "no data"),
        (Day(now().date(), up=1440), "up", "up in 100 % of 1,440 minutes"),
        (Day(now().date(), up=1439, down=1), "mixed", "up in 99.93 % of 1,440 minutes, 1 down"),
        (Day(now().date(), up=1, limited=8, down=1), "mixed", "8 limited and 1 down"),
        (Day(now().date(), up=4, down=6), "down", "up in 40.00 % of 10 minutes, 6 down"),
    ],
)
def test_a_day_is_said_as_it_is_drawn(day: Day, kind: str, words: str):
    assert kind_of(day) == kind and day_words(day).endswith(words)
    strip = strip_of(Component("api", "API", "", UP, None, "", (day,)))
    assert [cell.kind for cell in strip.cells] == [kind]
    assert bool(strip.uneven) == (kind in ("mixed", "down"))


def test_nearly_all_is_not_all():
    assert [percent(share) for share in (None, 1.0, 0.99999, 0.0)] == ["—", "100 %", "99.99 %", "0.00 %"]
