"""What only a test can do: make things fail, move the clock, contest a payment, take webhooks by hand, forget all."""

from typing import Any

from kindling_billing.fake_stripe.balance import movement_add
from kindling_billing.fake_stripe.deliveries import payload_of, signature
from kindling_billing.fake_stripe.errors import invalid
from kindling_billing.fake_stripe.hosted import checkout_pay
from kindling_billing.fake_stripe.refunds import dispute_close, dispute_escalate, dispute_open, refund_fail
from kindling_billing.fake_stripe.world import Body, World


def switch(world: World, name: str, given: Body, *, secret: str) -> Any:
    """Do what a switch is for; the JSON that it answers with."""
    match name:
        case "faults":
            world.faults.set(**given)
            return {}
        case "clock":
            world.advance(float(given["advance_s"]))
            return {"now": world.now()}
        case "forget":
            world.forget()
            return {}
        case "pay":
            return checkout_pay(world, given["session"], number=given.get("number", "4242424242424242"))
        case "dispute":
            inquiry = bool(given.get("inquiry"))
            return dispute_open(world, given["payment_intent"], given.get("amount"), inquiry=inquiry)
        case "dispute_escalate":
            return dispute_escalate(world, given["dispute"])
        case "dispute_close":
            return dispute_close(world, given["dispute"], won=bool(given["won"]))
        case "refund_fail":
            return refund_fail(world, given["refund"])
        case "movement":
            cents, source = int(given["amount"]), str(given.get("source", ""))
            return movement_add(world, given["type"], cents, 0, "usd", source=source)
        case "webhooks":
            return _webhooks_take(world, secret=secret)
        case _:
            raise invalid(f"There is no switch {name!r}.", status=404)


def _webhooks_take(world: World, *, secret: str) -> list[dict[str, str]]:
    """Every webhook that waits, signed; they count as delivered."""
    taken = []
    for number, event_id, _ in world.store.delivery_list(due=float("inf")):
        payload = payload_of(world, event_id)
        header = signature(payload, secret=secret, at=world.now())
        taken.append({"payload": payload, "signature": header})
        world.store.delivery_end(number)
    return taken
