"""Refunds and disputes of charges."""

from kindling_billing.fake_stripe.balance import movement_add
from kindling_billing.fake_stripe.errors import invalid
from kindling_billing.fake_stripe.world import Body, World, cents_of, page_of

DISPUTE_FEE_CENTS = 1500


def refund_create(world: World, params: Body) -> Body:
    """Give back a charge, or a part of it."""
    intent = world.get("payment_intent", str(params.get("payment_intent", "")), param="payment_intent")
    if intent["status"] != "succeeded":
        raise invalid("This PaymentIntent does not have a successful charge to refund.")
    charge = world.get("charge", intent["latest_charge"])
    left = charge["amount"] - charge["amount_refunded"]
    cents = cents_of(params, "amount") if params.get("amount") else left
    if left == 0:
        text = f"Charge {charge['id']} has already been refunded."
        raise invalid(text, code="charge_already_refunded")
    if cents > left:
        text = f"Refund amount (${cents / 100:.2f}) is greater than unrefunded amount on charge."
        raise invalid(text, param="amount")
    if charge["disputed"]:
        text = f"Charge {charge['id']} has been charged back; cannot issue a refund."
        raise invalid(text, code="charge_disputed")
    refund = world.make(
        "re", "refund", amount=cents, currency=charge["currency"], charge=charge["id"],
        payment_intent=intent["id"], status="succeeded", reason=params.get("reason"),
        metadata=params.get("metadata") or {},
    )  # fmt: skip
    movement = movement_add(world, "refund", -cents, 0, charge["currency"], source=refund["id"])
    refund = world.store.put(refund | {"balance_transaction": movement["id"]})
    back = charge["amount_refunded"] + cents
    charge = world.store.put(charge | {"amount_refunded": back, "refunded": back == charge["amount"]})
    world.emit("charge.refunded", charge)
    world.emit("refund.created", refund)
    return refund


def refund_fail(world: World, refund_id: str) -> Body:
    """What a bank does days later: it sends a refund back, and the money returns to the account."""
    refund = world.get("refund", refund_id, param="refund")
    if refund["status"] != "succeeded":
        raise invalid("Only a refund that succeeded can come back.")
    back = movement_add(world, "refund_failure", refund["amount"], 0, refund["currency"], source=refund["id"])
    refund = world.store.put(
        refund
        | {
            "status": "failed",
            "failure_reason": "expired_or_canceled_card",
            "failure_balance_transaction": back["id"],
        }
    )
    charge = world.get("charge", refund["charge"])
    world.store.put(
        charge | {"amount_refunded": charge["amount_refunded"] - refund["amount"], "refunded": False}
    )
    world.emit("refund.failed", refund)
    return refund


def refund_get(world: World, params: Body, id: str) -> Body:
    """One refund."""
    return world.get("refund", id)


def refund_list(world: World, params: Body) -> Body:
    """Refunds, newest first."""
    intent = params.get("payment_intent", "")
    return page_of(world, "refund", params, "/v1/refunds", payment_intent=intent)


def dispute_get(world: World, params: Body, id: str) -> Body:
    """One dispute."""
    return world.get("dispute", id)


def dispute_list(world: World, params: Body) -> Body:
    """Disputes, newest first."""
    intent = params.get("payment_intent", "")
    return page_of(world, "dispute", params, "/v1/disputes", payment_intent=intent)


def dispute_open(world: World, intent_id: str, cents: int | None = None, *, inquiry: bool = False) -> Body:
    """What a cardholder's bank does: contest a payment, and take the money at once; an ``inquiry`` takes none yet."""
    intent = world.get("payment_intent", intent_id, param="payment_intent")
    charge = world.get("charge", intent["latest_charge"])
    dispute = world.make(
        "du", "dispute", amount=cents or charge["amount"] - charge["amount_refunded"],
        currency=charge["currency"], charge=charge["id"], payment_intent=intent_id,
        status="warning_needs_response" if inquiry else "needs_response", reason="fraudulent", metadata={},
        balance_transactions=[],
    )  # fmt: skip
    world.store.put(charge | {"disputed": True})
    world.emit("charge.dispute.created", dispute)
    return dispute if inquiry else _withdraw(world, dispute)


def dispute_escalate(world: World, dispute_id: str) -> Body:
    """What a bank does that was not content with the answer to its inquiry."""
    dispute = world.store.put(world.get("dispute", dispute_id) | {"status": "needs_response"})
    world.emit("charge.dispute.updated", dispute)
    return _withdraw(world, dispute)


def _withdraw(world: World, dispute: Body) -> Body:
    taken = movement_add(
        world, "adjustment", -dispute["amount"], DISPUTE_FEE_CENTS, dispute["currency"], source=dispute["id"]
    )
    dispute = world.store.put(dispute | {"balance_transactions": [taken]})
    world.emit("charge.dispute.funds_withdrawn", dispute)
    return dispute


def dispute_close(world: World, dispute_id: str, *, won: bool) -> Body:
    """What the bank decides."""
    dispute = world.get("dispute", dispute_id)
    if dispute["status"] in {"won", "lost"}:
        raise invalid("This dispute is already closed.")
    dispute = world.store.put(dispute | {"status": "won" if won else "lost"})
    if won:
        back = movement_add(
            world, "adjustment", dispute["amount"], 0, dispute["currency"], source=dispute["id"]
        )
        moved = [*dispute.get("balance_transactions", []), back]
        dispute = world.store.put(dispute | {"balance_transactions": moved})
        world.emit("charge.dispute.funds_reinstated", dispute)
    world.emit("charge.dispute.closed", dispute)
    return dispute
