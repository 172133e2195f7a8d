"""Top-ups during the kills, and what the stand-in for Stripe has taken in by its own books."""

from typing import Any

from kindling_platform.embedded.bench_reliability.target import Target
from kindling_platform.embedded.errors import EmbeddedError
from kindling_platform.embedded.files import read_json
from kindling_platform.embedded.rest import call, error_text
from kindling_platform.embedded.secrets import secrets_read

CENTS = 2000
# Webhooks that found nobody come again with growing pauses.
BOOKED_WITHIN_S = 120.0


def topup_begin(target: Target) -> str:
    """Begin a top-up of twenty dollars; the id of its payment page."""
    made = target.api("POST", "/api/v1/payments", {"amount_cents": CENTS})
    path = f"/api/v1/payments/{made['id']}"
    page = made["url"] or target.wait(lambda: target.api("GET", path)["url"], "A payment page")
    return str(page).rsplit("/", 1)[1]


def topup_pay(target: Target, session: str) -> None:
    """Pay as somebody does who types a card into the page. Errors: `bench_failed`."""
    _stripe(target, "POST", "/_test/pay", {"session": session})


def topups_wait(target: Target) -> None:
    """Until each payment that was paid is in the wallet. Errors: `bench_failed`."""

    def all_booked() -> bool:
        rows = target.api("GET", "/api/v1/payments")["data"]
        return all(row["state"] == "succeeded" for row in rows)

    target.wait(all_booked, "The booking of every payment", seconds=BOOKED_WITHIN_S)


def taken_cents(target: Target) -> int:
    """What customers have paid at the stand-in, less what went back to them."""
    total, after = 0, ""
    while True:
        page = _stripe(target, "GET", f"/v1/balance_transactions?limit=100{after}")
        total += sum(int(row["amount"]) for row in page["data"] if row["type"] != "payout")
        if not page["has_more"]:
            return total
        after = f"&starting_after={page['data'][-1]['id']}"


def _stripe(target: Target, method: str, path: str, body: Any = None) -> Any:
    url = f"http://127.0.0.1:{read_json(target.home.ports)['stripe']}{path}"
    key = secrets_read(target.home.secrets)["KINDLING_STAND_IN_STRIPE_KEY"]
    reply = call(url, token=key, method=method, body=body)
    if reply.status != 200:
        raise EmbeddedError("bench_failed", f"The stand-in for Stripe: {error_text(reply)}")
    return reply.body
