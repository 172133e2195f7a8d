"""Where somebody is signed in, and how they end it from elsewhere."""

from allauth.usersessions.models import UserSession
from django.contrib.sessions.models import Session
from django.core.cache import cache
from django.test import Client

from kindling_console_world import World

PASSWORD = "correct horse battery 7"
URL = "/accounts/sessions/"
SIGN_IN = {"login": "new@example.com", "password": PASSWORD}


def signed_in(browser: str) -> Client:
    client = Client(headers={"user-agent": browser})
    assert client.post("/accounts/login/", SIGN_IN).status_code == 302
    return client


def test_other_browsers_are_seen_and_signed_out(world: World, client: Client):
    form = {"email": "new@example.com", "password1": PASSWORD, "password2": PASSWORD}
    client.post("/accounts/signup/", form, follow=True)
    assert URL in client.get("/console/account/").content.decode()
    laptop, phone = signed_in("Laptop <b>1</b>"), signed_in("Phone 2")
    html = laptop.get(URL).content.decode()
    assert "Laptop &lt;b&gt;1&lt;/b&gt;" in html and "Phone 2" in html and "127.0.0.1" in html
    assert html.count("This browser") == 1 and html.count("Another browser") == 2
    assert "All other sessions are ended." in laptop.post(URL, follow=True).content.decode()
    assert phone.get("/console/").status_code == 302 and client.get("/console/").status_code == 302
    assert laptop.get("/console/").status_code == 200
    left = laptop.get(URL).content.decode()
    assert "Phone 2" not in left and "End all others" in left


def test_strangers_and_others_see_none_of_it(world: World, client: Client):
    for name in ("new", "else"):
        form = {"email": f"{name}@example.com", "password1": PASSWORD, "password2": PASSWORD}
        Client(headers={"user-agent": f"Browser of {name}"}).post("/accounts/signup/", form)
    assert client.get(URL).status_code == 302
    html = signed_in("Laptop").get(URL).content.decode()
    assert "Browser of new" in html and "Browser of else" not in html


def test_a_session_from_before_there_was_a_list_has_words(world: World, member):
    html = member.client.get(URL).content.decode()
    assert "this one began before they were kept" in html and "<button" in html


def test_sessions_that_are_not_listed_end_with_the_others(world: World, client: Client):
    for name in ("new", "else"):
        form = {"email": f"{name}@example.com", "password1": PASSWORD, "password2": PASSWORD}
        (stranger := Client()).post("/accounts/signup/", form)
    laptop, phone = signed_in("Laptop"), signed_in("Phone")
    UserSession.objects.all().delete()
    Session.objects.create(session_key="broken", session_data="x", expire_date="2999-01-01T00:00Z")
    assert "End all others" in laptop.get(URL).content.decode()
    laptop.post(URL)
    assert phone.get("/console/").status_code == 302
    assert laptop.get("/console/").status_code == stranger.get("/console/").status_code == 200


def test_failed_sign_ins_are_counted_by_account_whatever_host_is_asked(
    world: World, client: Client, settings
):
    settings.ALLOWED_HOSTS = ["*"]
    client.post(
        "/accounts/signup/", {"email": "new@example.com", "password1": PASSWORD, "password2": PASSWORD}
    )
    client.post("/accounts/logout/")
    said = []
    for port in range(7):
        wrong = SIGN_IN | {"password": "wrong horse"}
        reply = Client(headers={"host": f"localhost:{port + 1}"}).post("/accounts/login/", wrong)
        said.append("Too many failed" in reply.content.decode())
    assert said == [False] * 5 + [True] * 2
    cache.clear()
