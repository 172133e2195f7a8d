"""Forgets the provider's events that were booked long ago: it sends them again for days, and lists them for a month."""

from datetime import datetime

from kindling_billing.models import StripeEvent

STEP_ROWS = 2000


def events_forget(*, before: datetime, limit: int = STEP_ROWS) -> int:
    """Delete up to `limit` events that were heard before a moment and need nobody; gives their number.

    A parked one stays until the operator has seen to it. One that comes again all the same does nothing twice: its
    effect has a key of its own in the books.
    """
    rows = StripeEvent.objects.filter(heard_at__lt=before).exclude(state=StripeEvent.State.PARKED)
    ids = list(rows.order_by("heard_at").values_list("id", flat=True)[:limit])
    return int(StripeEvent.objects.filter(id__in=ids).delete()[0])
