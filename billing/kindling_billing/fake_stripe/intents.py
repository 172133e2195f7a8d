"""Payment intents, and the charges and movements of the balance that they make."""

from typing import Any

from kindling_billing.fake_stripe.balance import movement_add
from kindling_billing.fake_stripe.cards import CONFIRM, DECLINED, NO_FUNDS, card_of
from kindling_billing.fake_stripe.customers import customer_alive, method_keep, method_of
from kindling_billing.fake_stripe.errors import Refusal, invalid
from kindling_billing.fake_stripe.world import Body, World, cents_of, charge_check, currency_of, page_of

FEE_BASIS_POINTS, FEE_CENTS = 290, 30
ASKS = "authentication_required"
WAITING = {"requires_payment_method", "requires_confirmation", "requires_action"}


def intent_create(world: World, params: Body) -> Body:
    """Ask for money; with `confirm` the card is charged at once."""
    cents = cents_of(params, "amount")
    charge_check(cents, param="amount")
    currency = currency_of(params)
    customer = params.get("customer")
    if customer:
        customer_alive(world, customer)
    method = method_of(world, params["payment_method"]) if params.get("payment_method") else None
    if method and method.get("x_spent"):
        raise invalid("This PaymentMethod was previously used or detached and may not be used again.")
    if method and customer and method["customer"] not in {None, customer}:
        raise invalid("The payment method belongs to another customer.", param="payment_method")
    intent = intent_make(
        world, cents, currency, customer, metadata=params.get("metadata") or {},
        payment_method=method["id"] if method else None, description=params.get("description"),
        setup_future_usage=params.get("setup_future_usage"),
    )  # fmt: skip
    if params.get("confirm") != "true":
        return intent
    if method is None:
        raise invalid("You cannot confirm this PaymentIntent because it's missing a payment method.")
    return intent_charge(world, intent, method, off_session=params.get("off_session") == "true")


def intent_get(world: World, params: Body, id: str) -> Body:
    """One intent."""
    return world.get("payment_intent", id)


def intent_list(world: World, params: Body) -> Body:
    """Intents, newest first."""
    customer = params.get("customer", "")
    return page_of(world, "payment_intent", params, "/v1/payment_intents", customer=customer)


def intent_cancel(world: World, params: Body, id: str) -> Body:
    """Give up an intent that has not been paid."""
    intent = world.get("payment_intent", id)
    if intent["status"] not in WAITING:
        text = f"You cannot cancel this PaymentIntent because it has a status of {intent['status']}."
        raise invalid(text, code="payment_intent_unexpected_state")
    intent = world.store.put(intent | {"status": "canceled", "canceled_at": world.now()})
    world.emit("payment_intent.canceled", intent)
    return intent


def charge_get(world: World, params: Body, id: str) -> Body:
    """One charge."""
    return world.get("charge", id)


def charge_list(world: World, params: Body) -> Body:
    """Charges, newest first, declined ones included."""
    customer, intent = params.get("customer", ""), params.get("payment_intent", "")
    return page_of(world, "charge", params, "/v1/charges", customer=customer, payment_intent=intent)


def intent_make(world: World, cents: int, currency: str, customer: str | None, **fields: Any) -> Body:
    """A new intent, not yet paid."""
    status = "requires_confirmation" if fields.get("payment_method") else "requires_payment_method"
    intent = world.make(
        "pi", "payment_intent", amount=cents, amount_received=0, currency=currency, customer=customer,
        status=status, latest_charge=None, last_payment_error=None, **fields,
    )  # fmt: skip
    world.emit("payment_intent.created", intent)
    return intent


def intent_charge(
    world: World, intent: Body, method: Body, *, off_session: bool, confirmed: bool = False
) -> Body:
    """Charge a card: the paid intent, or a refusal that keeps the intent as it is then."""
    card = card_of(method)
    decline = card.decline or (card.off_session_decline if off_session else "")
    if decline:
        message = NO_FUNDS if decline == "insufficient_funds" else DECLINED
        raise _declined(world, intent, method, code="card_declined", decline_code=decline, message=message)
    if card.asks and not confirmed:
        if off_session:
            raise _declined(world, intent, method, code=ASKS, decline_code=ASKS, message=CONFIRM)
        asking = world.store.put(intent | {"status": "requires_action", "payment_method": method["id"]})
        world.emit("payment_intent.requires_action", asking)
        return asking
    return _paid(world, intent, method)


def _paid(world: World, intent: Body, method: Body) -> Body:
    if intent.get("setup_future_usage") and intent["customer"]:
        method = method_keep(world, method, intent["customer"])
    cents = intent["amount"]
    charge = _charge(world, intent, method, paid=True)
    fee = (cents * FEE_BASIS_POINTS + 5000) // 10_000 + FEE_CENTS
    movement = movement_add(world, "charge", cents, fee, intent["currency"], source=charge["id"])
    charge = world.store.put(charge | {"balance_transaction": movement["id"]})
    intent = world.store.put(
        intent
        | {
            "status": "succeeded", "amount_received": cents, "payment_method": method["id"],
            "latest_charge": charge["id"], "last_payment_error": None,
        }
    )  # fmt: skip
    world.emit("charge.succeeded", charge)
    world.emit("payment_intent.succeeded", intent)
    return intent


def _declined(
    world: World, intent: Body, method: Body, *, code: str, decline_code: str, message: str
) -> Refusal:
    error = {"type": "card_error", "code": code, "decline_code": decline_code, "message": message}
    charge = _charge(world, intent, method, paid=False)
    intent = world.store.put(
        intent
        | {
            "status": "requires_payment_method", "payment_method": None, "latest_charge": charge["id"],
            "last_payment_error": error,
        }
    )  # fmt: skip
    world.emit("charge.failed", charge)
    world.emit("payment_intent.payment_failed", intent)
    return Refusal(
        402, "card_error", message, code=code, keeps=True, decline_code=decline_code,
        payment_intent=intent, charge=charge["id"],
    )  # fmt: skip


def _charge(world: World, intent: Body, method: Body, *, paid: bool) -> Body:
    return world.make(
        "ch", "charge", amount=intent["amount"], amount_refunded=0, currency=intent["currency"],
        customer=intent["customer"], payment_intent=intent["id"], payment_method=method["id"], paid=paid,
        status="succeeded" if paid else "failed", captured=paid, refunded=False, disputed=False,
        amount_captured=intent["amount"] if paid else 0,
        balance_transaction=None, metadata=intent["metadata"],
        payment_method_details={"type": "card", "card": method["card"]},
    )  # fmt: skip
