"""What the operator does about a record that waits for them, by what is wrong with it."""

from typing import Any

USAGE: tuple[tuple[str, str], ...] = (
    ("There is no price version", "Publish a price that holds at the time of the request, then bill it."),
    ("There is no organisation", "The organisation is gone: give the record up."),
    ("The record is from the future", "Set the clock of the engine's machine, wait until then, and bill it."),
    ("The times in the record", "Set the clock of the engine's machine; this record is given up."),
    ("The token counts contradict", "The engine miscounted: give it up, and report the engine's version."),
    ("The record does not say who", "Something else than this gateway called the engine: give it up."),
)
USAGE_ELSE = "If what it names is back, bill it; else give it up."
EVENTS: tuple[tuple[str, str], ...] = (
    ("payment_unknown", "Its payment is not booked: reconcile the payments, then try again."),
    (
        "payment_mismatch",
        "Two owners claim one payment: compare it in Stripe's dashboard, then close the event.",
    ),
    ("refund_too_large", "More went back than was paid: check the refunds in Stripe's dashboard."),
    ("currency_unsupported", "Stripe took another currency than the books are kept in: refund it there."),
    ("resource_missing", "Stripe has deleted what the event is about: close the event."),
)
EVENTS_ELSE = "Mend what the reason names and try again, or close it with a note."
CALLS = {
    "refused": "Ask for another amount, give credit, or try again when Stripe's reason is gone.",
    "idempotency_mismatch": "Try again: what it made is looked up at Stripe before anything is sent.",
    "stuck": "Stripe has done it and the books cannot take it: mend what the reason names and try again.",
}
REFUNDS = "Give it back as credit, or pay it by transfer and note the reference."
GPU = (
    "Publish a price of GPU time for the model that holds at that hour and corrects the past: it is billed within a"
    " minute. Or give it up."
)
WITNESSES = "Nothing was charged twice: the first count stays. Many of these mean that an engine miscounts."


def remedy_of(kind: str, row: Any) -> str:
    """A sentence that says what to do about a record of this kind."""
    match kind:
        case "usage":
            return _by_beginning(USAGE, row.reason, USAGE_ELSE)
        case "gpu":
            return GPU
        case "events":
            return _by_beginning(EVENTS, row.reason, EVENTS_ELSE)
        case "requests":
            return CALLS.get(row.trouble_code) or CALLS[str(row.state)]
        case "refunds":
            return REFUNDS
        case _:
            return WITNESSES


def _by_beginning(rows: tuple[tuple[str, str], ...], text: str, otherwise: str) -> str:
    return next((remedy for beginning, remedy in rows if text.startswith(beginning)), otherwise)
