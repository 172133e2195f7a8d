"""The page that a `doc_url` leads to: for everybody, with every code, without scripts of its own."""

import re

import pytest
from django.test import Client

from kindling_console.templatetags.error_words import code_marked
from kindling_console_world import Member
from kindling_platform.common.error_index.entries import error_entries

pytestmark = pytest.mark.django_db


def test_anybody_may_read_what_every_code_means(client: Client):
    reply = client.get("/errors/")
    html = reply.content.decode()
    assert reply.status_code == 200
    for code in error_entries():
        assert html.count(f' id="{code}"') == 1
    assert len(re.findall("<h1[ >]", html)) == 1
    assert " style=" not in html
    assert not re.search(r"<script(?![^>]*src=)", html)


def test_every_link_inside_the_page_leads_somewhere(client: Client):
    html = client.get("/errors/").content.decode()
    names = re.findall(r' id="([^"]+)"', html)
    assert len(names) == len(set(names))
    assert set(re.findall(r'href="#([^"]+)"', html)) <= set(names)


def test_the_statuses_are_in_their_order(client: Client):
    html = client.get("/errors/").content.decode()
    statuses = [int(status) for status in re.findall(r'<h2 id="status-(\d+)"', html)]
    assert (
        statuses == sorted(set(statuses)) == sorted({entry.statuses[0] for entry in error_entries().values()})
    )


def test_it_asks_the_database_for_nothing(client: Client, django_assert_num_queries):
    with django_assert_num_queries(0):
        client.get("/errors/")


def test_it_is_read_and_nothing_else(client: Client):
    assert client.head("/errors/").status_code == 200
    assert client.post("/errors/").status_code == 405
    assert client.get("/errors")["Location"] == "/errors/"


def test_the_theme_that_was_chosen_holds(client: Client):
    client.cookies["theme"] = "dark"
    assert 'data-bs-theme="dark"' in client.get("/errors/").content.decode()


def test_members_find_it_below_every_page(member: Member):
    assert 'href="/errors/"' in member.client.get("/console/keys/").content.decode()
    assert 'href="/errors/"' in member.client.get("/docs").content.decode()


def test_a_sentence_marks_code_and_nothing_else():
    assert code_marked("Use `<a>` & see `b`.") == "Use <code>&lt;a&gt;</code> &amp; see <code>b</code>."
