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
    stored = StoredResponse.objects.for_org(org).filter(expires_at__gt=now()).count()
    return Keeping(days=keeping_days(org=org), stored=stored)


def keeping_days(*, org: HasId) -> int:
    """For how many days an organisation keeps responses, and what its people share; 0 keeps none."""
    chosen = Retention.objects.for_org(org).values_list("days", flat=True).first()
    return DEFAULT_DAYS if chosen is None else int(chosen)
