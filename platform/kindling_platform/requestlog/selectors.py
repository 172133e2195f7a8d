"""Reads whether an organisation keeps prompts and answers, and which it has kept."""

from dataclasses import dataclass
from uuid import UUID

from kindling_platform.common.clock import now
from kindling_platform.common.errors import not_found
from kindling_platform.common.models import OrgQuerySet
from kindling_platform.common.tenancy import HasId
from kindling_platform.requestlog.models import LoggedRequest, LogSetting


@dataclass(frozen=True, slots=True)
class LogState:
    """For how many days prompts and answers are kept (0: not at all), and how many requests are kept now."""

    days: int
    kept: int


def request_log_days(*, org: HasId) -> int:
    """For how many days an organisation keeps prompts and answers; 0 unless it has asked for that."""
    days = LogSetting.objects.for_org(org).values_list("days", flat=True).first()
    return int(days or 0)


def request_log_get(*, org: HasId) -> LogState:
    """An organisation's setting and the number of its kept requests."""
    return LogState(days=request_log_days(org=org), kept=logged_request_list(org=org).count())


def logged_request_list(*, org: HasId) -> OrgQuerySet:
    """The kept requests of an organisation, without what they said."""
    return LoggedRequest.objects.for_org(org).filter(expires_at__gt=now()).defer("sealed")


def logged_request_find(*, org: HasId, request_id: UUID) -> LoggedRequest | None:
    """A kept request without what it said; None when it was not kept."""
    found: LoggedRequest | None = logged_request_list(org=org).filter(request_id=request_id).first()
    return found


def logged_request_get(*, org: HasId, request_id: UUID) -> LoggedRequest:
    """A kept request. Errors: `not_found`, also for those of others."""
    rows = LoggedRequest.objects.for_org(org).filter(expires_at__gt=now())
    found: LoggedRequest | None = rows.filter(request_id=request_id).first()
    if found is None:
        raise not_found("kept request")
    return found
