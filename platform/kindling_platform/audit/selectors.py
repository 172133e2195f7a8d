"""Reads the audit log."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from django.core.exceptions import ValidationError
from django.core.validators import validate_ipv46_address
from django.db.models import Q, QuerySet

from kindling_platform.audit.models import AuditEvent
from kindling_platform.common.tenancy import HasId

# What moves money, or decides how much of it may move, by the noun that its actions begin with.
MONEY = (
    "auto_topup", "billing", "budget", "card", "cost", "credit", "difference", "dispute", "gpu_time", "hosted_price",
    "invoice", "limits", "owner", "payment", "payment_event", "payment_request", "plan", "price", "prices", "refund",
    "rerating", "terms", "topup", "usage",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class EventFilter:
    """What is looked for; an empty field asks for nothing. `action` is a whole one, or the noun that it begins with."""

    organisation_id: str = ""
    actor: str = ""
    action: str = ""
    target: str = ""
    origin: str = ""
    since: datetime | None = None
    until: datetime | None = None
    only_money: bool = False


def event_list(*, org: HasId, limit: int = 100) -> list[AuditEvent]:
    """The newest events of an organisation."""
    return list(AuditEvent.objects.for_org(org).order_by("-created_at", "-id")[:limit])


def event_newest(*, org: HasId, action: str) -> AuditEvent | None:
    """The newest event of an organisation with this action; None when the log keeps none."""
    rows = AuditEvent.objects.for_org(org).filter(action=action)
    found: AuditEvent | None = rows.order_by("-created_at", "-id").first()
    return found


def event_list_by_actor(*, actor_ids: Iterable[str]) -> QuerySet[AuditEvent]:
    """What some users and keys did, wherever they did it, newest first."""
    rows: QuerySet[AuditEvent] = AuditEvent.objects.filter(actor_id__in=[one for one in actor_ids if one])
    return rows.order_by("-created_at", "-id")


def event_list_by_noun(*, org: HasId, nouns: Iterable[str]) -> QuerySet[AuditEvent]:
    """Events of an organisation whose action begins with one of these nouns, newest first."""
    rows: QuerySet[AuditEvent] = AuditEvent.objects.for_org(org).filter(_begins_with(nouns))
    return rows.order_by("-created_at", "-id")


def event_find(*, wanted: EventFilter) -> QuerySet[AuditEvent]:
    """Events of every organisation, newest first; for the operator."""
    rows: QuerySet[AuditEvent] = AuditEvent.objects.order_by("-created_at", "-id")
    if wanted.organisation_id:
        rows = rows.filter(organisation_id=wanted.organisation_id)
    if wanted.actor:
        rows = rows.filter(Q(actor_label__icontains=wanted.actor) | Q(actor_id=wanted.actor))
    if wanted.action:
        rows = rows.filter(Q(action=wanted.action) | Q(action__startswith=f"{wanted.action}."))
    if wanted.target:
        rows = rows.filter(target=wanted.target)
    if wanted.origin:
        rows = rows.filter(**{"ip" if _is_ip(wanted.origin) else "request_id": wanted.origin})
    if wanted.since:
        rows = rows.filter(created_at__gte=wanted.since)
    if wanted.until:
        rows = rows.filter(created_at__lt=wanted.until)
    if wanted.only_money:
        rows = rows.filter(_begins_with(MONEY))
    return rows


def _begins_with(nouns: Iterable[str]) -> Q:
    found = Q()
    for noun in nouns:
        found |= Q(action__startswith=f"{noun}.")
    return found


def _is_ip(text: str) -> bool:
    try:
        validate_ipv46_address(text)
    except ValidationError:
        return False
    return True
