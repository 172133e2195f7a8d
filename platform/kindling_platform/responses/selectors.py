"""Reads how an organisation keeps its responses."""

from dataclasses import dataclass

from kindling_platform.common.clock import now
from kindling_platform.common.tenancy import HasId
from kindling_platform.responses.models import Retention, StoredResponse

DEFAULT_DAYS = 30


@dataclass(frozen=True, slots=True)
class Keeping:
    """For how many days responses are kept, and how many are kept now."""

    days: int
    stored: int


def keeping_get(*, org: HasId) -> Keeping:
    """An organisation's retention and the number of its responses."""
    chosen = Retention.objects.for_org(org).values_list("days", flat=True).first()
    stored = StoredResponse.objects.for_org(org).filter(expires_at__gt=now()).count()
    return Keeping(days=DEFAULT_DAYS if chosen is None else chosen, stored=stored)
