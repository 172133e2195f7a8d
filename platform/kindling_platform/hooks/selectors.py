"""Reads an organisation's endpoints, and what was sent to them."""

from typing import Any

from django.db.models import QuerySet

from kindling_platform.common.errors import not_found
from kindling_platform.common.tenancy import HasId
from kindling_platform.hooks.models import Delivery, Endpoint


def endpoint_list(*, org: HasId) -> QuerySet[Endpoint]:
    """All of an organisation's endpoints, newest first."""
    rows: QuerySet[Endpoint] = Endpoint.objects.for_org(org).order_by("-created_at", "-id")
    return rows


def endpoint_get(*, org: HasId, endpoint_id: str) -> Endpoint:
    """An endpoint. Raises KindlingError: `not_found`."""
    found: Endpoint | None = Endpoint.objects.for_org(org).filter(id=endpoint_id).first()
    if found is None:
        raise not_found("webhook")
    return found


def delivery_list(*, org: HasId, endpoint_id: str) -> QuerySet[Delivery]:
    """What was or will be sent to an endpoint, newest first. Raises KindlingError: `not_found`."""
    endpoint = endpoint_get(org=org, endpoint_id=endpoint_id)
    rows: QuerySet[Delivery] = Delivery.objects.for_org(org).filter(endpoint=endpoint)
    return rows.select_related("event").order_by("-created_at", "-id")


def delivery_get(*, org: HasId, endpoint_id: str, delivery_id: str) -> Delivery:
    """One of them. Raises KindlingError: `not_found`."""
    found = delivery_list(org=org, endpoint_id=endpoint_id).filter(id=delivery_id).first()
    if found is None:
        raise not_found("delivery")
    return found


def newest_map(*, org: HasId) -> dict[str, Delivery]:
    """The newest delivery of each endpoint that has one, by endpoint."""
    rows: Any = Delivery.objects.for_org(org).order_by("endpoint_id", "-created_at", "-id")
    return {row.endpoint_id: row for row in rows.distinct("endpoint_id").select_related("event")}
