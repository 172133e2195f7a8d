"""The account's own money: movements with their fees, the balance, payouts."""

from kindling_billing.fake_stripe.errors import invalid
from kindling_billing.fake_stripe.world import Body, World, cents_of, currency_of, page_of


def movement_add(world: World, kind: str, cents: int, fee: int, currency: str, *, source: str) -> Body:
    """Book a movement; `cents` is gross with its sign."""
    return world.make(
        "txn", "balance_transaction", type=kind, amount=cents, fee=fee, net=cents - fee, currency=currency,
        source=source, status="available", reporting_category=kind, description=None,
    )  # fmt: skip


def movement_list(world: World, params: Body) -> Body:
    """Movements, newest first."""
    kind = params.get("type", "")
    return page_of(world, "balance_transaction", params, "/v1/balance_transactions", type=kind)


def balance_get(world: World, params: Body) -> Body:
    """What the account holds, by currency."""
    sums: dict[str, int] = {}
    for movement in world.store.rows("balance_transaction"):
        sums[movement["currency"]] = sums.get(movement["currency"], 0) + movement["net"]
    available = [{"amount": amount, "currency": currency} for currency, amount in sorted(sums.items())]
    return {"object": "balance", "livemode": False, "available": available, "pending": []}


def payout_create(world: World, params: Body) -> Body:
    """Send money to the bank."""
    cents, currency = cents_of(params, "amount"), currency_of(params)
    held = {row["currency"]: row["amount"] for row in balance_get(world, {})["available"]}
    if cents > held.get(currency, 0):
        raise invalid("You have insufficient funds in your Stripe account.", code="balance_insufficient")
    payout = world.make("po", "payout", amount=cents, currency=currency, status="paid", metadata={})
    movement = movement_add(world, "payout", -cents, 0, currency, source=payout["id"])
    payout = world.store.put(payout | {"balance_transaction": movement["id"]})
    world.emit("payout.paid", payout)
    return payout
