"""Reads and writes the paging parameters that all lists share."""

from collections.abc import Callable
from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import OpenApiParameter, inline_serializer
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from kindling_platform.common.errors import KindlingError
from kindling_platform.common.pagination import MAX_PAGE_ROWS, PAGE_ROWS, Page, page_get

PAGING = [
    OpenApiParameter("cursor", str, description="`next_cursor` of the page before."),
    OpenApiParameter(
        "limit", int, description=f"Rows per page, {PAGE_ROWS} unless given, {MAX_PAGE_ROWS} at most."
    ),
]


def page_shape(shape: type[serializers.Serializer[Any]]) -> Any:
    """The shape of a page of rows."""
    fields: dict[str, Any] = {
        "data": shape(many=True),
        "next_cursor": serializers.CharField(allow_null=True),
    }
    return inline_serializer(name=shape.__name__.removesuffix("Shape") + "Page", fields=fields)


def limit_of(request: Request) -> int:
    """The page's size that a client asks for.

    Raises:
        KindlingError: `limit_invalid`.
    """
    text = request.query_params.get("limit", str(PAGE_ROWS))
    if not text.isascii() or not text.isdigit() or len(text) > 6 or not 1 <= int(text) <= MAX_PAGE_ROWS:
        raise KindlingError("limit_invalid", f"A page has 1 to {MAX_PAGE_ROWS} rows.", param="limit")
    return int(text)


def page_response(
    request: Request,
    rows: QuerySet[Any],
    shape: type[serializers.Serializer[Any]],
    row: Callable[[Any], dict[str, Any]],
    *,
    order: tuple[str, str] = ("created_at", "id"),
) -> Response:
    """One page of a query as `{"data": […], "next_cursor": …}`."""
    page = page_of(request, rows, order=order)
    data = shape([row(item) for item in page.rows], many=True).data
    return Response({"data": data, "next_cursor": page.next_cursor or None})


def page_of(request: Request, rows: QuerySet[Any], *, order: tuple[str, str] = ("created_at", "id")) -> Page:
    """The page of a query that a client asks for.

    Raises:
        KindlingError: `cursor_invalid`, `limit_invalid`.
    """
    return page_get(rows, order=order, cursor=request.query_params.get("cursor", ""), limit=limit_of(request))
