"""Checkout and portal sessions: what the hosted pages are opened with."""

from kindling_billing.fake_stripe.customers import customer_alive
from kindling_billing.fake_stripe.errors import invalid
from kindling_billing.fake_stripe.intents import intent_make
from kindling_billing.fake_stripe.tax import tax_cents_of
from kindling_billing.fake_stripe.world import (
    Body,
    World,
    cents_of,
    charge_check,
    currency_of,
    page_of,
)  # fmt: skip

LIFE_S = 24 * 3600
PLACE = "{CHECKOUT_SESSION_ID}"


def checkout_create(world: World, params: Body) -> Body:
    """A page on which a customer pays once."""
    if params.get("mode") != "payment":
        raise invalid("This stand-in knows the mode 'payment' alone.", param="mode")
    for name in ("success_url", "line_items"):
        if not params.get(name):
            raise invalid(f"Missing required param: {name}.", code="parameter_missing", param=name)
    customer = customer_alive(world, str(params.get("customer", "")))
    lines = [_line(item, f"line_items[{place}]") for place, item in enumerate(params["line_items"])]
    subtotal, currency = sum(cents for cents, _ in lines), lines[0][1]
    automatic = (params.get("automatic_tax") or {}).get("enabled") == "true"
    tax = tax_cents_of(customer, subtotal) if automatic else 0
    charge_check(subtotal + tax, param="line_items")
    session = world.make(
        "cs_test", "checkout.session", mode="payment", status="open", payment_status="unpaid",
        customer=customer["id"], currency=currency, amount_subtotal=subtotal, amount_total=subtotal + tax,
        total_details={"amount_tax": tax, "amount_discount": 0, "amount_shipping": 0},
        automatic_tax={"enabled": automatic}, payment_intent=None, metadata=params.get("metadata") or {},
        success_url=params["success_url"], cancel_url=params.get("cancel_url"),
        expires_at=world.now() + LIFE_S, client_reference_id=params.get("client_reference_id"),
        x_intent=params.get("payment_intent_data") or {}, x_lines=_names(params),
    )  # fmt: skip
    return world.store.put(session | {"url": f"{world.url}/pay/{session['id']}"})


def checkout_get(world: World, params: Body, id: str) -> Body:
    """One session."""
    return _aged(world, world.get("checkout.session", id))


def checkout_list(world: World, params: Body) -> Body:
    """Sessions, newest first."""
    url = "/v1/checkout/sessions"
    equal = {"customer": params.get("customer", ""), "payment_intent": params.get("payment_intent", "")}
    page = page_of(world, "checkout.session", params, url, **equal)
    page["data"] = [_aged(world, session) for session in page["data"]]
    return page


def checkout_expire(world: World, params: Body, id: str) -> Body:
    """Close a page that nobody paid on."""
    session = checkout_get(world, {}, id)
    if session["status"] != "open":
        raise invalid(f"Only open sessions can be expired; this one is {session['status']}.")
    return _expired(world, session)


def checkout_intent(world: World, session: Body) -> Body:
    """The session's intent, made when somebody begins to pay."""
    if session["payment_intent"]:
        return world.get("payment_intent", session["payment_intent"])
    asked = session["x_intent"]
    return intent_make(
        world, session["amount_total"], session["currency"], session["customer"],
        metadata=asked.get("metadata") or {}, setup_future_usage=asked.get("setup_future_usage"),
        description=asked.get("description"), payment_method=None,
    )  # fmt: skip


def portal_create(world: World, params: Body) -> Body:
    """A page on which a customer changes what is kept of them."""
    customer = customer_alive(world, str(params.get("customer", "")))
    session = world.make(
        "bps", "billing_portal.session", customer=customer["id"], return_url=params.get("return_url")
    )
    return world.store.put(session | {"url": f"{world.url}/portal/{session['id']}"})


def _line(item: Body, place: str) -> tuple[int, str]:
    data = item.get("price_data") or {}
    if not data or not item.get("quantity"):
        raise invalid(f"{place} needs price_data and quantity.", param=place)
    return cents_of(data, "unit_amount") * int(item["quantity"]), currency_of(data)


def _names(params: Body) -> list[str]:
    return [
        str((item["price_data"].get("product_data") or {}).get("name", "Item"))
        for item in params["line_items"]
    ]


def _aged(world: World, session: Body) -> Body:
    is_over = session["status"] == "open" and session["expires_at"] <= world.now()
    return _expired(world, session) if is_over else session


def _expired(world: World, session: Body) -> Body:
    session = world.store.put(session | {"status": "expired", "url": None})
    world.emit("checkout.session.expired", session)
    return session
