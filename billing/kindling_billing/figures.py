"""What an invoice comes to: pure integers, each line rounded once."""

from collections.abc import Sequence
from dataclasses import dataclass

from kindling_billing.money import cents_to_pico, pico_to_cents, round_half_even


@dataclass(frozen=True, slots=True)
class Figures:
    """What an invoice comes to; see `Invoice` for the meaning."""

    exact_picousd: int
    covered_picousd: int
    rounding_picousd: int
    subtotal_cents: int
    due_cents: int
    tax_cents: int


def figures_of(amounts_picousd: Sequence[int], *, covered_picousd: int, tax_basis_points: int) -> Figures:
    """Round each line to cents, take off what credit covered, add the tax: pure.

    Every line is rounded once, half to even; so is what credit covered of them. When it covered all, nothing is due.
    """
    exact = sum(amounts_picousd)
    subtotal_cents = sum(pico_to_cents(amount) for amount in amounts_picousd)
    due_exact = exact - covered_picousd
    if due_exact <= 0:
        return Figures(exact, covered_picousd, 0, subtotal_cents, 0, 0)
    due_cents = max(0, subtotal_cents - pico_to_cents(covered_picousd))
    rounding = cents_to_pico(due_cents) - due_exact
    tax_cents = round_half_even(due_cents * tax_basis_points, 10_000)
    return Figures(exact, covered_picousd, rounding, subtotal_cents, due_cents, tax_cents)


def covered_of(*, exact_picousd: int, later_picousd: int, wallet_picousd: int) -> int:
    """How much of a month credit has paid, when its usage and all later usage have left the wallet already."""
    credit = wallet_picousd + exact_picousd + later_picousd
    return min(max(credit, 0), exact_picousd) if exact_picousd > 0 else exact_picousd
