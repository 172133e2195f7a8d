"""Whether the payment provider, clearing and the outbox say the same; what is shown was kept, no provider is asked."""

from datetime import date, timedelta

from django.http import StreamingHttpResponse
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from kindling_billing.comparing.reports import contact_get, day_list, difference_list, movement_list
from kindling_billing.comparing.rows import movement_rows
from kindling_platform.accounts import treasury
from kindling_platform.accounts.decisions import difference_settle
from kindling_platform.accounts.provider import provider_find
from kindling_platform.api.asked import day_asked, whole_asked
from kindling_platform.api.caller import caller_of
from kindling_platform.api.downloads import CSV, AnyAccepted
from kindling_platform.api.operator_shapes.invoices import NoteShape
from kindling_platform.api.operator_shapes.reconciliation import (
    MovementShape,
    ReconciliationShape,
    compared_day_row,
    contact_row,
    movement_row,
)
from kindling_platform.api.paging import PAGING, page_response, page_shape
from kindling_platform.common.clock import now
from kindling_platform.common.streamed_csv import csv_response

MOST_DAYS = 366
DIFFERENCES_SHOWN = 100
DAYS = OpenApiParameter("days", int, description=f"How many days back, 30 unless given, {MOST_DAYS} at most.")
DAY = OpenApiParameter("day", str, description="One day, such as 2026-11-30; every day without it.")


class Reconciliation(APIView):
    actions = {"GET": "operator.read", "POST": "operator.write"}

    @extend_schema(
        operation_id="operator_reconciliation_get",
        summary="The last comparisons by day, and everything that differs",
        parameters=[DAYS],
        responses=ReconciliationShape,
    )
    def get(self, request: Request) -> Response:
        return _report(_since(request))

    @extend_schema(
        operation_id="operator_reconciliation_compare",
        summary="Compare with the provider's books now, and book what nobody told of",
        parameters=[DAYS],
        request=None,
        responses=ReconciliationShape,
    )
    def post(self, request: Request) -> Response:
        since = _since(request)
        treasury.books_reconcile()
        return _report(since)


class Movements(APIView):
    actions = {"GET": "operator.read"}

    @extend_schema(
        operation_id="operator_reconciliation_movements",
        summary="Compared movements, newest first",
        parameters=[DAY, *PAGING],
        responses=page_shape(MovementShape),
    )
    def get(self, request: Request) -> Response:
        day = day_asked(request, "day")
        rows = movement_list(day=day.date() if day else None)
        return page_response(request, rows, MovementShape, movement_row, order=("happened_at", "id"))


class DifferenceAccept(APIView):
    actions = {"POST": "operator.write"}

    @extend_schema(
        operation_id="operator_reconciliation_accept",
        summary="Accept a difference that is explained; it counts again when its cause changes",
        request=NoteShape,
        responses=MovementShape,
    )
    def post(self, request: Request, movement_id: str) -> Response:
        asked = NoteShape(data=request.data)
        asked.is_valid(raise_exception=True)
        row = difference_settle(
            movement_id=movement_id, note=asked.validated_data["note"], actor=caller_of(request).actor
        )
        return Response(MovementShape(movement_row(row)).data)


class ReconciliationCsv(APIView):
    actions = {"GET": "operator.read"}
    content_negotiation_class = AnyAccepted

    @extend_schema(
        operation_id="operator_reconciliation_csv",
        summary="Every movement of the last days as CSV, in cents",
        parameters=[DAYS],
        responses=CSV,
    )
    def get(self, request: Request) -> StreamingHttpResponse:
        rows = movement_rows(since=_since(request))
        return csv_response(request._request, name="kindling-reconciliation.csv", rows=rows)


def _since(request: Request) -> date:
    days = whole_asked(request, "days", default=30, most=MOST_DAYS)
    return now().date() - timedelta(days=days - 1)


def _report(since: date) -> Response:
    differences = difference_list()
    answer = {
        "payments_on": provider_find() is not None,
        **contact_row(contact_get()),
        "differing": differences.count(),
        "differences": [movement_row(row) for row in differences[:DIFFERENCES_SHOWN]],
        "data": [compared_day_row(day) for day in day_list(since=since)],
    }
    return Response(ReconciliationShape(answer).data)
