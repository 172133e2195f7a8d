"""Why witnesses of a movement differ, and what the operator does about it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cause:
    """A sentence that names a difference, and the next step."""

    title: str
    next_step: str


LOOK_UP = "Look it up in Stripe's dashboard by its id."
CAUSES: dict[str, Cause] = {
    "made_elsewhere": Cause(
        "Made at Stripe by hand, not asked for here",
        "Refund it in Stripe's dashboard, or grant the customer credit and accept the difference with a note.",
    ),
    "not_booked": Cause(
        "Stripe has it, no customer was credited",
        "Compare again: it is booked from Stripe's own record. If it stays, see the parked events under Records.",
    ),
    "amount_differs": Cause(
        "Booked with another amount than Stripe has",
        f"{LOOK_UP} Correct the customer's balance by a grant or a refund of the difference, then accept it.",
    ),
    "not_at_stripe": Cause(
        "Booked here, and Stripe does not know it",
        "Check that the secret key is that of the account which took it. If it is, the booking is wrong: "
        "tell the customer and take the credit back.",
    ),
    "not_paid": Cause(
        "Booked here, and Stripe says that it was not paid",
        f"{LOOK_UP} If the money never came, take the credit back and accept the difference.",
    ),
    "not_asked": Cause(
        "It carries our mark, and the outbox has no request for it",
        "Another installation may use the same Stripe account. Give each its own account.",
    ),
    "asked_differs": Cause(
        "The outbox asked for another amount",
        f"{LOOK_UP} A difference of tax comes from Stripe's own tax rates; anything else should be refunded.",
    ),
    "not_moved": Cause(
        "Stripe lists it, and its balance shows no movement for it",
        "Compare again tomorrow. If it stays, ask Stripe's support why the charge has no balance transaction.",
    ),
    "moved_differs": Cause(
        "Stripe's balance moved by another amount",
        f"{LOOK_UP} Its balance transaction tells what was added or taken.",
    ),
    "moved_only": Cause(
        "Stripe's balance moved, and nothing here is its cause",
        f"{LOOK_UP} Fees, transfers and corrections by Stripe are accepted with a note.",
    ),
    "refund_failed": Cause(
        "The refund did not reach the customer, and Stripe has returned the money to us",
        "Under Records, give it back as credit, or note that it was paid in another way.",
    ),
    "refund_elsewhere": Cause("Refunded in Stripe's dashboard, and booked here", "Nothing to do."),
    "request_waits": Cause("Asked, and not answered yet", "Nothing to do: it is sent again until it is."),
    "request_late": Cause(
        "Asked, and unresolved for 20 hours",
        "It is looked up at Stripe before it is sent again. See what stands in the way under Records.",
    ),
    "request_stuck": Cause(
        "The request needs a decision", "Under Records, try it again or close it with a note."
    ),
    "not_moved_yet": Cause("Stripe's balance shows it within a few hours", "Nothing to do."),
    "refund_pending": Cause("Stripe is still sending this refund", "Nothing to do."),
}
WAITS = {"request_waits", "not_moved_yet", "refund_pending"}
NOTED = {"refund_elsewhere"}


def cause_get(code: str) -> Cause | None:
    """The words for a cause, None where everything agrees."""
    return CAUSES.get(code)
