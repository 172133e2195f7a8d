"""Reads adapters."""

from typing import Any

from django.db.models import Q, QuerySet, Value
from django.db.models.functions import Concat

from kindling_platform.accounts.models import Organisation
from kindling_platform.adapters.models import Adapter
from kindling_platform.common.errors import not_found
from kindling_platform.common.matching import best_first
from kindling_platform.common.models import OrgQuerySet


def adapter_list(*, org: Organisation) -> OrgQuerySet:
    """An organisation's adapters, newest first."""
    return (
        Adapter.objects.for_org(org)
        .exclude(state=Adapter.State.DELETED)
        .select_related("base__organisation", "organisation", "created_by", "hub_fetch")
        .prefetch_related("files")
        .order_by("-created_at", "-id")
    )


def adapter_list_named(*, org: Organisation, query: str) -> QuerySet[Any]:
    """Those of them that are called like `query`, the best first; without their files."""
    rows = adapter_list(org=org).prefetch_related(None)
    rows = rows.annotate(full_name=Concat("organisation__slug", Value("/"), "name"))
    return best_first(rows, query, fields=("name", "full_name"))


def adapter_ref_list(*, org: Organisation) -> list[str]:
    """What clients call an organisation's adapters, newest first."""
    rows = Adapter.objects.for_org(org).exclude(state=Adapter.State.DELETED).order_by("-created_at", "-id")
    return [f"{slug}/{name}" for slug, name in rows.values_list("organisation__slug", "name")]


def adapter_get(*, org: Organisation, adapter_id: str) -> Adapter:
    """An adapter by id or by name.

    Raises:
        KindlingError: not_found.
    """
    adapter: Adapter | None = adapter_list(org=org).filter(Q(id=adapter_id) | Q(name=adapter_id)).first()
    if adapter is None:
        raise not_found("adapter")
    return adapter


def adapter_list_unvalidated() -> list[str]:
    """Ids of adapters that wait for validation, in any order, so that none is always the last; for the sweep."""
    waiting = Adapter.objects.filter(state=Adapter.State.VALIDATING)
    return list(waiting.order_by("?").values_list("id", flat=True))


def adapter_get_any(*, adapter_id: str) -> Adapter | None:
    """An adapter of whatever organisation; for the workers."""
    found = Adapter.objects.filter(id=adapter_id)
    adapter: Adapter | None = found.select_related("base__organisation", "organisation", "hub_fetch").first()
    return adapter
