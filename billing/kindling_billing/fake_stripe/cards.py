"""Test cards, by the numbers that Stripe documents: what each of them does when it is charged."""

from dataclasses import dataclass
from typing import Any

from kindling_billing.fake_stripe.errors import invalid

DECLINED = "Your card was declined."
NO_FUNDS = "Your card has insufficient funds."
CONFIRM = "Your card was declined. This transaction requires authentication."


@dataclass(frozen=True, slots=True)
class Card:
    """A card; `decline` is the code with which a charge is declined, on or off session."""

    number: str
    brand: str
    decline: str = ""
    off_session_decline: str = ""
    asks: bool = False

    @property
    def last4(self) -> str:
        """What people recognise it by."""
        return self.number[-4:]


CARDS = {
    "pm_card_visa": Card("4242424242424242", "visa"),
    "pm_card_mastercard": Card("5555555555554444", "mastercard"),
    "pm_card_chargeDeclined": Card("4000000000000002", "visa", decline="generic_decline"),
    "pm_card_chargeDeclinedInsufficientFunds": Card("4000000000009995", "visa", decline="insufficient_funds"),
    "pm_card_chargeCustomerFail": Card("4000000000000341", "visa", off_session_decline="generic_decline"),
    "pm_card_authenticationRequired": Card("4000002760003184", "visa", asks=True),
}
BY_NUMBER = {card.number: card for card in CARDS.values()}


def card_find(number: str) -> Card:
    """A card by its number as people type it."""
    digits = "".join(letter for letter in number if letter.isdigit())
    found = BY_NUMBER.get(digits)
    if found is None:
        text = "Your card number is incorrect. This is a test: use 4242 4242 4242 4242."
        raise invalid(text, code="incorrect_number", param="number")
    return found


def method_fields(card: Card, *, exp_month: int = 12, exp_year: int = 2034) -> dict[str, Any]:
    """A payment method's fields for a card; the number itself is kept under a name that no client reads."""
    return {
        "type": "card",
        "customer": None,
        "card": {
            "brand": card.brand, "last4": card.last4, "exp_month": exp_month, "exp_year": exp_year,
            "funding": "credit", "country": "US", "fingerprint": f"fp{card.number[-10:]}",
        },
        "metadata": {},
        "x_number": card.number,
    }  # fmt: skip


def card_of(method: dict[str, Any]) -> Card:
    """The card behind a payment method."""
    return BY_NUMBER[method["x_number"]]
