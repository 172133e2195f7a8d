"""Opinions about answers: the gateway writes them by SQL, here they are read and tidied."""

from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db.models import Exists, OuterRef

from kindling_platform.common.clock import now
from kindling_platform.common.purging import purged
from kindling_platform.common.tenancy import HasId
from kindling_platform.usage.models import Feedback, UsageEvent

# An opinion whose request is not in the books by then never had one.
PENDING = timedelta(days=1)
PURGE_ROWS = 1000
PURGE_BATCHES = 20


def feedback_get(*, org: HasId, request_id: UUID) -> Feedback | None:
    """The opinion about a request of an organisation."""
    found: Feedback | None = Feedback.objects.for_org(org).filter(request_id=request_id).first()
    return found


def feedback_purge(*, limit: int = PURGE_ROWS, batches: int = PURGE_BATCHES) -> int:
    """Delete opinions that waited for a request in vain, in so many batches at most; gives their number."""
    events = UsageEvent.objects.filter(
        request_id=OuterRef("request_id"), organisation_id=OuterRef("organisation_id")
    )
    stale: Any = Feedback.objects.filter(~Exists(events), created_at__lt=now() - PENDING)
    return purged(stale, limit=limit, batches=batches)
