"""What each model brought in and cost, and what a million of its tokens cost here and elsewhere."""

from datetime import UTC, date, datetime, time

from django.http import StreamingHttpResponse
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from kindling_billing.costs import hosted_price_list, hosted_price_map, quote_of
from kindling_billing.margins import Margin
from kindling_billing.totals import month_after
from kindling_platform.api.asked import month_asked
from kindling_platform.api.downloads import CSV, AnyAccepted
from kindling_platform.api.operator_shapes.margins import (
    MarginsShape,
    ModelMonthShape,
    day_margin_row,
    margin_row,
    model_margin_row,
)
from kindling_platform.catalog.selectors import model_name_map
from kindling_platform.common.clock import now
from kindling_platform.common.errors import not_found
from kindling_platform.common.streamed_csv import csv_response
from kindling_platform.deployments.margin_rows import margin_rows
from kindling_platform.deployments.margins import margin_days, margin_models

MONTH = OpenApiParameter("month", str, description="Such as 2026-11; this month by default.")


class Margins(APIView):
    actions = {"GET": "operator.read"}

    @extend_schema(
        operation_id="operator_margins",
        summary="Every model's month: revenue, cost, dollars per million tokens here and at the hosted price",
        parameters=[MONTH],
        responses=MarginsShape,
    )
    def get(self, request: Request) -> Response:
        month = _month(request)
        start, end = _span(month)
        names, sums = model_name_map(), margin_models(margin_days(start=start, end=end))
        quotes = {sku: quote_of(row) for sku, row in hosted_price_map(skus=names).items()}
        shown = {sku: sums.get(sku, Margin()) for sku in sorted({*names, *sums})}
        answer = {
            "month": f"{month:%Y-%m}",
            "data": [model_margin_row(sku, one, quotes.get(sku), names) for sku, one in shown.items()],
            "total": margin_row(sum(shown.values(), Margin())),
        }
        return Response(MarginsShape(answer).data)


class ModelMargins(APIView):
    actions = {"GET": "operator.read"}

    @extend_schema(
        operation_id="operator_margins_model",
        summary="One model's month by day",
        parameters=[MONTH],
        responses=ModelMonthShape,
    )
    def get(self, request: Request, model_id: str) -> Response:
        ref = model_name_map().get(model_id)
        if ref is None:
            raise not_found("model")
        month = _month(request)
        start, end = _span(month)
        days = margin_days(start=start, end=end, model_id=model_id)
        quoted = hosted_price_list(sku=model_id)
        quote = quote_of(quoted[0]) if quoted else None
        answer = {
            "month": f"{month:%Y-%m}",
            "model_id": model_id,
            "model": ref,
            "data": [day_margin_row(day, sums, quote) for (_, day), sums in sorted(days.items())],
            "total": margin_row(sum(days.values(), Margin()), quote),
        }
        return Response(ModelMonthShape(answer).data)


class MarginsCsv(APIView):
    actions = {"GET": "operator.read"}
    content_negotiation_class = AnyAccepted

    @extend_schema(
        operation_id="operator_margins_csv",
        summary="A month by model and day as CSV, in pico-dollars and microseconds",
        parameters=[MONTH],
        responses=CSV,
    )
    def get(self, request: Request) -> StreamingHttpResponse:
        month = _month(request)
        start, end = _span(month)
        rows = margin_rows(start=start, end=end)
        return csv_response(request._request, name=f"margins-{month:%Y-%m}.csv", rows=rows)


def _month(request: Request) -> date:
    return month_asked(request, "month", default=now().date().replace(day=1))


def _span(month: date) -> tuple[datetime, datetime]:
    first, after = (datetime.combine(day, time(), UTC) for day in (month, month_after(month)))
    return first, after
