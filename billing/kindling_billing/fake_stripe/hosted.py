"""What somebody does on the hosted pages: pay once, confirm a payment, remove a card, leave an address."""

from typing import Any

from kindling_billing.fake_stripe.cards import card_find, method_fields
from kindling_billing.fake_stripe.customers import customer_alive, customer_update, method_detach
from kindling_billing.fake_stripe.errors import Refusal, invalid
from kindling_billing.fake_stripe.intents import intent_charge
from kindling_billing.fake_stripe.sessions import PLACE, checkout_get, checkout_intent
from kindling_billing.fake_stripe.world import Body, World

ADDRESS = ("line1", "city", "postal_code", "country")


def checkout_pay(
    world: World, session_id: str, *, number: str, exp_month: int = 12, exp_year: int = 2034,
    confirmed: bool = False,
) -> Body:  # fmt: skip
    """Pay a session with a card; the session as it is then: complete, or open while the bank asks for a confirmation.

    Raises:
        Refusal: the session is not open, the number is wrong, the card was declined.
    """
    session = checkout_get(world, {}, session_id)
    if session["status"] != "open":
        raise invalid(f"This checkout session is {session['status']}.")
    customer_alive(world, session["customer"])
    fields = method_fields(card_find(number), exp_month=exp_month, exp_year=exp_year)
    method = world.make("pm", "payment_method", **fields)
    intent = checkout_intent(world, session)
    session = world.store.put(session | {"payment_intent": intent["id"]})
    intent = intent_charge(world, intent, method, off_session=False, confirmed=confirmed)
    if intent["status"] != "succeeded":
        return session
    session = world.store.put(
        session | {"status": "complete", "payment_status": "paid", "url": None, "x_paid_with": number[-4:]}
    )
    world.emit("checkout.session.completed", session)
    return session


def return_url(session: Body) -> str:
    """Where a paid session leads back to."""
    return str(session["success_url"]).replace(PLACE, session["id"])


def portal_state(world: World, session_id: str) -> tuple[Body, Body, list[Body]]:
    """The portal's session, its customer and their cards."""
    session = world.get("billing_portal.session", session_id)
    customer = customer_alive(world, session["customer"], param="id")
    cards = [row for row in world.store.rows("payment_method") if row["customer"] == customer["id"]]
    return session, customer, cards


def portal_change(world: World, session_id: str, form: dict[str, Any]) -> None:
    """Remove a card, or keep a name and an address."""
    _, customer, cards = portal_state(world, session_id)
    if form.get("remove"):
        if form["remove"] not in {card["id"] for card in cards}:
            raise Refusal(404, "invalid_request_error", "This card is not kept.")
        method_detach(world, {}, id=form["remove"])
        return
    address = {name: str(form.get(name, ""))[:200] for name in ADDRESS}
    customer_update(world, {"name": str(form.get("name", ""))[:200], "address": address}, id=customer["id"])
