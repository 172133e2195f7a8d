"""What amounts of money are taken from outside: whole cents of one currency, within bounds."""

from kindling_billing.errors import BillingError

CURRENCY = "usd"
MAX_CENTS = 100_000_000  # a million dollars in one movement
MAX_ID_CHARS = 64


def cents_check(cents: int, *, name: str = "amount") -> None:
    """Refuse what is not between one cent and a million dollars.

    Raises:
        BillingError: `amount_invalid`.
    """
    if isinstance(cents, bool) or not isinstance(cents, int) or not 0 < cents <= MAX_CENTS:
        text = f"The {name} must be a whole number of cents between $0.01 and $1,000,000."
        raise BillingError("amount_invalid", text)


def tax_check(tax_cents: int) -> None:
    """Refuse a tax below nothing or beyond all bounds.

    Raises:
        BillingError: `amount_invalid`.
    """
    if isinstance(tax_cents, bool) or not isinstance(tax_cents, int) or not 0 <= tax_cents <= MAX_CENTS:
        raise BillingError("amount_invalid", "The tax must be a whole number of cents, up to $1,000,000.")


def currency_check(currency: str) -> None:
    """Refuse every currency but the books' own.

    Raises:
        BillingError: `currency_unsupported`.
    """
    if currency.lower() != CURRENCY:
        text = f"The books are kept in {CURRENCY.upper()}, and this is {currency[:8].upper()}."
        raise BillingError("currency_unsupported", text)


def id_check(source_id: str) -> None:
    """Refuse an id that cannot be the key of a posting.

    Raises:
        BillingError: `id_invalid`.
    """
    if not 0 < len(source_id) <= MAX_ID_CHARS or "\0" in source_id:
        raise BillingError("id_invalid", f"An id has 1 to {MAX_ID_CHARS} characters.")
