"""A customer of the stack under test: signs up as people do, with the starting credit and a key."""

import json
import re
import secrets
import urllib.parse
import urllib.request
from dataclasses import dataclass
from http.cookiejar import CookieJar

import psycopg

from kindling_platform.embedded.bench_reliability.target import Target
from kindling_platform.embedded.errors import EmbeddedError

CSRF = re.compile(r'name="csrfmiddlewaretoken" value="([^"]+)"')
TIMEOUT_S = 60
SCOPES = ["inference", "read", "manage"]
PLAN = "INSERT INTO billing_priceplan (id, name, created_at, created_by) VALUES (%s, %s, now(), '')"
PRICE = (
    "INSERT INTO billing_priceversion (id, plan_id, sku, input_picousd, cached_input_picousd, output_picousd,"
    " gpu_ms_picousd, batch_percent, valid_from, created_at, created_by)"
    " SELECT %s, %s, id, %s, %s, %s, 0, 50, now(), now(), '' FROM catalog_model WHERE name = %s"
)
TERM = (
    "INSERT INTO billing_planterm (owner_id, plan_id, valid_from, created_at, created_by)"
    " VALUES (%s, %s, now(), now(), '')"
)


@dataclass(frozen=True, slots=True)
class Customer:
    """An organisation and its key for everything."""

    org_id: str
    key: str


def customer_make(target: Target) -> Customer:
    """Sign somebody up over the pages and make a key. Errors: `bench_failed`."""
    browser = Browser(target.url)
    try:
        form, password = browser.get("/accounts/signup/"), secrets.token_urlsafe(18)
        token = CSRF.search(form)
        fields = {
            "csrfmiddlewaretoken": token[1] if token else "",
            "email": f"bench-{secrets.token_hex(6)}@example.com",
            "password1": password,
            "password2": password,
        }
        browser.post("/accounts/signup/", urllib.parse.urlencode(fields).encode())
        wanted = json.dumps({"name": "bench", "scopes": SCOPES}).encode()
        key = json.loads(browser.post("/api/v1/keys", wanted, **{"Content-Type": "application/json"}))["key"]
    except (OSError, ValueError, KeyError) as error:
        raise EmbeddedError("bench_failed", f"Nobody could sign up: {error!r}") from error
    return Customer(target.api("GET", "/api/v1/me", key=key)["organisation"]["id"], key)


class Browser:
    """Cookies, and the header that answers to one of them."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._cookies = CookieJar()
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self._cookies))

    def get(self, path: str) -> str:
        """A page. Errors: OSError."""
        with self._opener.open(self._url + path, timeout=TIMEOUT_S) as reply:
            return str(reply.read().decode())

    def post(self, path: str, data: bytes, **headers: str) -> str:
        """What a form or a script of a page gets. Errors: OSError."""
        token = next((cookie.value or "" for cookie in self._cookies if cookie.name == "csrftoken"), "")
        headers |= {"Referer": self._url + path, "X-CSRFToken": token}
        # The address is that of the stack under test.
        request = urllib.request.Request(self._url + path, data=data, headers=headers)  # noqa: S310
        with self._opener.open(request, timeout=TIMEOUT_S) as reply:
            return str(reply.read().decode())


def price_set(target: Target, customer: Customer, *, input_picousd: int, output_picousd: int) -> None:
    """Put a customer on a plan of its own with these prices of a token, as the operator's price book would."""
    plan, name = f"pln_{secrets.token_hex(13)}", target.model.rpartition("/")[2]
    price = f"prc_{secrets.token_hex(13)}"
    with psycopg.connect(target.database_url) as books:
        books.execute(PLAN, [plan, plan])
        books.execute(PRICE, [price, plan, input_picousd, input_picousd, output_picousd, name])
        books.execute(TERM, [customer.org_id, plan])
