"""What an organisation's own people may see of the audit log: its events, without the operator's names and words."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Q

from kindling_platform.accounts.models import Membership
from kindling_platform.audit.models import AuditEvent
from kindling_platform.audit.selectors import event_list_by_noun
from kindling_platform.common.actors import PROVIDER_LABEL
from kindling_platform.common.pagination import PAGE_ROWS, Page, page_get
from kindling_platform.common.tenancy import HasId
from kindling_platform.keys.models import ApiKey

# What is shown, by kind: the nouns that its actions begin with. What is not named here is the operator's business.
KINDS = {
    "keys": ("key",),
    "members": ("user", "organisation", "member", "invitation", "seeing", "webhook"),
    "limits": ("limits", "budget"),
    "money": (
        "auto_topup", "billing", "card", "credit", "dispute", "invoice", "owner", "payment", "plan", "refund",
        "terms", "topup",
    ),
    "adapters": ("adapter", "alias"),
    "deployments": ("deployment",),
    "prompts": ("request_log", "responses", "batch", "batch_file", "conversation"),
}  # fmt: skip
# Of what the operator did, these say what holds for the organisation now; the rest may hold reasons and notes, as one
# of a refund does.
TOLD_OF_OPERATOR = frozenset(
    {
        "credit.granted", "limits.set", "plan.assigned", "refund.given", "seeing.begun", "seeing.ended",
        "terms.changed",
    }
)  # fmt: skip
PLATFORM, PROVIDER, OPERATOR, GONE = "Platform", "Payment provider", "Operator", "Former member"
ORDER = ("created_at", "id")


@dataclass(frozen=True, slots=True)
class Activity:
    """One event; `who` is a member, a key, or one of the four names above; `ip` is told of one's own people alone."""

    id: str
    created_at: datetime
    who: str
    ip: str
    action: str
    target: str
    data: dict[str, Any]


def activity_page(*, org: HasId, kind: str = "", cursor: str = "", limit: int = PAGE_ROWS) -> Page:
    """An organisation's events, newest first, of one kind or of all; a kind that is none counts as all.

    Raises:
        KindlingError: `cursor_invalid`.
    """
    nouns = KINDS.get(kind) or [noun for of_kind in KINDS.values() for noun in of_kind]
    found = page_get(event_list_by_noun(org=org, nouns=nouns), order=ORDER, cursor=cursor, limit=limit)
    ours, operators = _people(org, {event.actor_id for event in found.rows if event.actor_id})
    return Page([_told(event, ours, operators) for event in found.rows], found.next_cursor)


def name_map(*, org: HasId, labels: Mapping[str, str]) -> dict[str, str]:
    """What an organisation reads of those who did something to it, by their ids: its own people's and keys' names."""
    ours, operators = _people(org, [actor_id for actor_id in labels if actor_id])
    return {one: _who(one, label, ours, operators) for one, label in labels.items()}


def _people(org: HasId, actor_ids: Iterable[str]) -> tuple[set[str], set[str]]:
    """Which of these users and keys are the organisation's, and which the operator's."""
    wanted = Q(organisation_id=org.id) | Q(organisation__is_operator=True)
    members = Membership.objects.filter(wanted, user_id__in=actor_ids)
    keys = ApiKey.objects.filter(wanted, id__in=actor_ids)
    pairs = [
        *members.values_list("user_id", "organisation_id"),
        *keys.values_list("id", "organisation_id"),
    ]
    ours = {actor_id for actor_id, org_id in pairs if org_id == org.id}
    return ours, {actor_id for actor_id, _ in pairs} - ours


def _who(actor_id: str, label: str, ours: set[str], operators: set[str]) -> str:
    if actor_id in ours:
        return label
    if not actor_id:
        return PROVIDER if label == PROVIDER_LABEL else PLATFORM
    return OPERATOR if actor_id in operators else GONE


def _told(event: AuditEvent, ours: set[str], operators: set[str]) -> Activity:
    is_own = event.actor_id in ours
    who = _who(event.actor_id, event.actor_label, ours, operators)
    is_told = is_own or not event.actor_id or event.action in TOLD_OF_OPERATOR
    return Activity(
        id=event.id,
        created_at=event.created_at,
        who=who,
        ip=(event.ip or "") if is_own else "",
        action=event.action,
        target=event.target,
        data=_data(event, is_own=is_own) if is_told else {},
    )


def _data(event: AuditEvent, *, is_own: bool) -> dict[str, Any]:
    if is_own or event.action != "refund.given":
        return dict(event.data)
    return {name: value for name, value in event.data.items() if name != "reason"}
