"""Moments from which something holds: prices, plans, costs."""

from datetime import datetime, timedelta

from kindling_platform.common.clock import now
from kindling_platform.common.errors import KindlingError

# A form takes its time between being drawn and being sent.
SLOWEST_FORM = timedelta(minutes=10)
FURTHEST = timedelta(days=3660)


def effective_check(moment: datetime, *, corrects: bool = False) -> None:
    """Refuse a moment that has passed, unless the past is meant to be corrected, and one beyond ten years.

    Raises:
        KindlingError: `valid_from_past`, `valid_from_far`.
    """
    if moment < now() - SLOWEST_FORM and not corrects:
        text = "This moment has passed, and what was billed since then stays. Choose one to come, or none for now."
        raise KindlingError("valid_from_past", text, param="valid_from")
    if moment > now() + FURTHEST:
        raise KindlingError("valid_from_far", "This moment is more than ten years away.", param="valid_from")
