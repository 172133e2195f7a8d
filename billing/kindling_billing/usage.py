"""Charges for usage: one ledger transaction each, the month's totals beside it, corrections by reversal only."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db import transaction

from kindling_billing.errors import BillingError
from kindling_billing.ledger import Posting
from kindling_billing.notices import low_balance_note
from kindling_billing.rating import Line
from kindling_billing.totals import TotalChange, totals_add
from kindling_billing.wallet import wallets_post

USAGE = "usage"
REVERSAL = "usage_reversal"
WAIVED = "waived"
UNEXPLAINED = "usage"


@dataclass(frozen=True, slots=True)
class UsageCharge:
    """What one request costs its owner, in pico-dollars, and the lines that sum to it."""

    owner_id: str
    request_id: str
    cost_picousd: int
    memo: str = ""
    sku: str = ""
    label: str = ""
    used_at: datetime | None = None
    lines: tuple[Line, ...] = ()


@dataclass(frozen=True, slots=True)
class Correction:
    """A charge that was rated anew by a run with this number; a run corrects a request once."""

    before: UsageCharge
    after: UsageCharge
    run: int


def usage_post(charges: Sequence[UsageCharge]) -> set[str]:
    """Charge many requests, one transaction each; gives the ids that had not been charged before.

    Raises:
        BillingError: `amount_invalid`, `unbalanced` when lines do not sum to their cost; nothing is charged then.
    """
    for charge in charges:
        _check(charge)
    first = {charge.request_id: charge for charge in reversed(charges)}
    with transaction.atomic():
        posted = {
            source_id
            for _, source_id in wallets_post(
                [_posting(charge, charge.request_id) for charge in first.values()]
            )
        }
        new = [charge for request_id, charge in first.items() if request_id in posted]
        totals_add([_change(charge, 1) for charge in new])
        low_balance_note(_spent(new))
    return posted


def usage_correct(corrections: Sequence[Correction]) -> int:
    """Reverse charges and post them anew; gives how many this run had not corrected before.

    Raises:
        BillingError: `amount_invalid`, `unbalanced`; nothing is posted then.
    """
    for correction in corrections:
        _check(correction.before)
        _check(correction.after)
    unique = {f"{one.after.request_id}:{one.run}": one for one in corrections}
    with transaction.atomic():
        posted = wallets_post(
            [
                posting
                for source_id, one in unique.items()
                for posting in (_reversal(one), _posting(one.after, source_id))
            ]
        )
        new = [one for source_id, one in unique.items() if (USAGE, source_id) in posted]
        totals_add([change for one in new for change in (_change(one.before, -1), _change(one.after, 1))])
    return len(new)


def usage_waive(charges: Sequence[UsageCharge]) -> int:
    """Give back what requests were charged that then turned out to have failed on our side, once each; gives how many.

    The revenue stays and an adjustment stands against it, so that the books say what our failures cost us.
    """
    unique = {charge.request_id: charge for charge in charges}
    with transaction.atomic():
        posted = wallets_post([_waiver(charge) for charge in unique.values()])
        new = [one for one in unique.values() if (REVERSAL, f"{one.request_id}:{WAIVED}") in posted]
        totals_add([_change(charge, -1) for charge in new])
    return len(new)


def _check(charge: UsageCharge) -> None:
    if charge.cost_picousd < 0:
        raise BillingError("amount_invalid", "A request cannot cost less than zero.")
    if charge.lines and sum([quantity * price for _, quantity, price in charge.lines]) != charge.cost_picousd:
        raise BillingError("unbalanced", f"The lines of {charge.request_id[:64]} do not sum to its cost.")


def _posting(charge: UsageCharge, source_id: str) -> Posting:
    entries = [("wallet", charge.owner_id, -charge.cost_picousd), ("revenue", "", charge.cost_picousd)]
    return Posting(USAGE, source_id, entries, charge.memo)


def _reversal(correction: Correction) -> Posting:
    before = correction.before
    entries = [("wallet", before.owner_id, before.cost_picousd), ("revenue", "", -before.cost_picousd)]
    source_id = f"{before.request_id}:{correction.run}"
    return Posting(REVERSAL, source_id, entries, f"Rated anew: {before.memo}")


def _waiver(charge: UsageCharge) -> Posting:
    entries = [("wallet", charge.owner_id, charge.cost_picousd), ("adjustment", "", -charge.cost_picousd)]
    return Posting(REVERSAL, f"{charge.request_id}:{WAIVED}", entries, f"Failed on our side: {charge.memo}")


def _change(charge: UsageCharge, sign: int) -> TotalChange:
    lines = charge.lines or (Line(UNEXPLAINED, 1, charge.cost_picousd),)
    # What costs nothing stands on no invoice.
    lines = tuple([line for line in lines if line.quantity and line.unit_price_picousd])
    return TotalChange(charge.owner_id, charge.used_at, charge.sku, charge.label, lines, sign)


def _spent(charges: Sequence[UsageCharge]) -> dict[str, int]:
    spent: dict[str, int] = {}
    for charge in charges:
        spent[charge.owner_id] = spent.get(charge.owner_id, 0) + charge.cost_picousd
    return spent
