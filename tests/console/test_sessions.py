"""Where somebody is signed in, and how they end it from elsewhere."""

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
    assert "Phone 2" not in left and "There is no other to end." in left


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
