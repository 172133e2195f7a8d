"""What every answer of the web process carries, and the pages that are not the console's."""

import pytest

from kindling_people import ApiClient, Customer

pytestmark = pytest.mark.django_db


def test_the_policy_is_strict(client):
    policy = client.get("/accounts/login/")["Content-Security-Policy"]
    directives = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert directives["default-src"] == "'self'"
    assert directives["style-src"] == "'self'"
    assert directives["frame-ancestors"] == "'none'"
    assert "unsafe" not in policy


def test_the_front_door_leads_to_the_console(client):
    assert client.get("/")["Location"] == "/console/"


def test_health_says_only_that_it_answers(client):
    assert client.get("/healthz").json() == {"status": "ok"}


def test_the_api_is_documented_for_people(client):
    page = client.get("/docs")
    text = page.content.decode()
    assert page.status_code == 200
    for path in ("/api/v1/me", "/api/v1/adapters/{adapter_id}/files/{name}", "/api/v1/usage"):
        assert path in text
    assert "<script" not in text and "style=" not in text and "http://cdn" not in text


def test_static_files_are_served_without_a_collect_step(client):
    reply = client.get("/static/api/docs.css")
    assert reply.status_code == 200
    assert reply["Content-Type"].startswith("text/css")


def test_foreign_hosts_are_refused(client):
    assert client.get("/healthz", HTTP_HOST="evil.test").status_code == 400


def test_a_form_from_elsewhere_is_refused():
    client = ApiClient(enforce_csrf_checks=True)
    assert client.post("/accounts/login/", {"login": "a", "password": "b"}).status_code == 403


def test_the_session_cookie_is_not_for_scripts(ada: Customer):
    client = ApiClient()
    client.post("/accounts/login/", {"login": ada.user.email, "password": "correct horse battery staple 7"})
    cookie = client.cookies["kindling_session"]
    assert cookie["httponly"]
    assert cookie["samesite"] == "Lax"
