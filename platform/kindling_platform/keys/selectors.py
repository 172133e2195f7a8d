"""Reads API keys."""

from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.db.models import OuterRef, Q, QuerySet, Subquery

from kindling_platform.accounts.models import Membership, Organisation
from kindling_platform.common.clock import now
from kindling_platform.common.errors import not_found
from kindling_platform.common.matching import best_first
from kindling_platform.common.models import OrgQuerySet
from kindling_platform.common.tenancy import HasId
from kindling_platform.keys import secret
from kindling_platform.keys.models import ApiKey


def key_list(*, org: Organisation) -> OrgQuerySet:
    """An organisation's keys, newest first; the playground's short-lived ones are left out."""
    rows = ApiKey.objects.for_org(org).exclude(kind=ApiKey.Kind.PLAYGROUND).select_related("created_by")
    return rows.order_by("-created_at", "-id")


def key_list_named(*, org: Organisation, query: str) -> QuerySet[Any]:
    """Those of them that work and are called like `query`, or end with it, the best first."""
    works = Q(revoked_at=None) & (Q(expires_at=None) | Q(expires_at__gt=now()))
    return best_first(key_list(org=org).filter(works), query, fields=("name",), exact=("last4",))


def key_get(*, org: Organisation, key_id: str) -> ApiKey:
    """One key of an organisation.

    Raises:
        KindlingError: `not_found`.
    """
    key: ApiKey | None = ApiKey.objects.for_org(org).filter(id=key_id).select_related("created_by").first()
    if key is None:
        raise not_found("key")
    return key


def key_successor_find(*, key: ApiKey) -> ApiKey | None:
    """The key that took this one's place when it was rotated, whatever became of it; None when it was not."""
    later = ApiKey.objects.filter(organisation_id=key.organisation_id, family_id=key.family_key_id)
    found: ApiKey | None = later.filter(created_at__gt=key.created_at).order_by("created_at", "id").first()
    return found


def key_name_map(*, org: Organisation) -> dict[str, str]:
    """Names of all keys by id, the playground's too."""
    return dict(ApiKey.objects.for_org(org).values_list("id", "name"))


def key_maker_map(*, org: Organisation) -> dict[str, str]:
    """Addresses by the ids of those who have made an organisation's keys, members or not any more."""
    made = ApiKey.objects.for_org(org).exclude(created_by=None)
    return dict(made.values_list("created_by_id", "created_by__email").distinct())


def key_ids_of(*, org: HasId, member_ids: Sequence[str]) -> list[str]:
    """The keys that some members have made, whatever their state; "" stands for nobody."""
    made = ApiKey.objects.for_org(org)
    wanted = Q(created_by_id__in=[one for one in member_ids if one])
    wanted = wanted | Q(created_by_id=None) if "" in member_ids else wanted
    return list(made.filter(wanted).values_list("id", flat=True))


def key_find(*, text: str) -> ApiKey | None:
    """The key of a text that a client sent, whatever its state; None when it was never issued.

    Its `maker_role` is the role that its maker has in its organisation at this moment, None without one.
    """
    if not secret.is_wellformed(text):
        return None
    digest = secret.digest(text, settings.KINDLING_ENV.key_pepper)
    maker = Membership.objects.filter(
        organisation_id=OuterRef("organisation_id"), user_id=OuterRef("created_by_id")
    )
    rows = ApiKey.objects.filter(digest=digest).select_related("organisation")
    key: ApiKey | None = rows.annotate(maker_role=Subquery(maker.values("role")[:1])).first()
    return key
