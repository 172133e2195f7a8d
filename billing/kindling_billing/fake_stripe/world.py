"""What every endpoint works with: the store, a clock that tests may move, ids, events and parameters."""

import secrets
import string
import time
from collections.abc import Callable
from typing import Any

from kindling_billing.fake_stripe.errors import invalid, missing
from kindling_billing.fake_stripe.faults import Faults
from kindling_billing.fake_stripe.store import Store

LETTERS = string.ascii_letters + string.digits
API_VERSION = "2026-10-28.endive"
MOST_CENTS = 99_999_999
LEAST_CENTS = 50
CLOCK = "clock_offset_s"
EVER = 1 << 62
Body = dict[str, Any]


class World:
    """The stand-in's present state; `url` is where its own pages are."""

    def __init__(self, store: Store, *, url: str = "", webhook_url: str = "") -> None:
        self.store = store
        self.url = url
        self.webhook_url = webhook_url
        self.faults = Faults()
        self.offset_s = float(store.fact_get(CLOCK, "0"))

    def now(self) -> int:
        """Seconds since 1970 by the clock that tests may move."""
        return int(time.time() + self.offset_s)

    def advance(self, seconds: float) -> None:
        """Move the clock; restarts keep it."""
        self.offset_s += seconds
        self.store.fact_put(CLOCK, str(self.offset_s))

    def forget(self) -> None:
        """Be as on the first day: no objects, no deliveries, and the clock right."""
        self.store.forget()
        self.offset_s = 0.0

    def make(self, prefix: str, kind: str, **fields: Any) -> Body:
        """A new object, kept."""
        id_ = f"{prefix}_{''.join(secrets.choice(LETTERS) for _ in range(24))}"
        body = {"id": id_, "object": kind, "created": self.now(), "livemode": False, **fields}
        return self.store.put(body)

    def get(self, kind: str, id_: str, *, param: str = "id") -> Body:
        """An object by its id; 404 for the id of the path, 400 for one in a parameter."""
        found = self.store.get(kind, id_)
        if found is None:
            raise missing(kind, id_, param=param, status=404 if param == "id" else 400)
        return found

    def emit(self, kind: str, body: Body) -> None:
        """Note that something happened, and have it delivered."""
        event = self.make(
            "evt", "event", type=kind, api_version=API_VERSION, data={"object": body}, pending_webhooks=1,
            request={"id": None, "idempotency_key": None},
        )  # fmt: skip
        for due in self.faults.delivery_times(self.now()):
            self.store.delivery_add(event["id"], due=due)


def cents_of(params: Body, name: str) -> int:
    """A whole number of cents within Stripe's bounds."""
    text = str(params.get(name, ""))
    if not text:
        raise invalid(f"Missing required param: {name}.", code="parameter_missing", param=name)
    try:
        cents = int(text)
    except ValueError:
        raise invalid(f"Invalid integer: {text[:40]}", code="parameter_invalid_integer", param=name) from None
    if cents < 1:
        raise invalid(
            "This value must be greater than or equal to 1.", code="parameter_invalid_integer", param=name
        )
    if cents > MOST_CENTS:
        raise invalid("Amount must be no more than $999,999.99", code="amount_too_large", param=name)
    return cents


def charge_check(cents: int, *, param: str) -> None:
    """Refuse an amount that no card is charged for."""
    if cents < LEAST_CENTS:
        raise invalid("Amount must be at least $0.50 usd", code="amount_too_small", param=param)


def currency_of(params: Body, name: str = "currency") -> str:
    """Three letters."""
    text = str(params.get(name, "")).lower()
    if len(text) != 3 or not text.isalpha():
        raise invalid(f"Invalid currency: {text[:20]}", code="parameter_invalid", param=name)
    return text


def page_of(
    world: World,
    kind: str,
    params: Body,
    url: str,
    *,
    keep: Callable[[Body], bool] | None = None,
    **equal: str,
) -> Body:
    """A page of a list, newest first, of the objects whose fields equal those given and that `keep` lets pass."""
    limit = min(max(int(params.get("limit", 10)), 1), 100)
    created = params.get("created") or {}
    since, until = int(created.get("gte", 0)), int(created.get("lt", 0)) or EVER
    rows = world.store.rows(kind, since=since, after=str(params.get("starting_after", "")))
    wanted = {name: value for name, value in equal.items() if value}
    found = [
        row
        for row in rows
        if row["created"] < until
        and all(row.get(name) == value for name, value in wanted.items())
        and (keep is None or keep(row))
    ]
    return {"object": "list", "data": found[:limit], "has_more": len(found) > limit, "url": url}
