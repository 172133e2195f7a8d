"""Usage and takings of the whole installation over time, and from whom and what they come."""

from datetime import datetime, timedelta

from django.http import StreamingHttpResponse
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from kindling_platform.accounts.selectors import organisation_map
from kindling_platform.api.asked import choice_asked, day_asked
from kindling_platform.api.downloads import CSV, AnyAccepted
from kindling_platform.api.operator_shapes.revenue import (
    RevenueShape,
    RevenueSharesShape,
    revenue_row,
    share_row,
)
from kindling_platform.catalog.selectors import model_name_map
from kindling_platform.common.clock import now
from kindling_platform.common.errors import KindlingError
from kindling_platform.common.streamed_csv import csv_response
from kindling_platform.usage.overview import SHARES, usage_shares
from kindling_platform.usage.revenue import RevenueStep, revenue_rows, revenue_steps
from kindling_platform.usage.steps import day_floor, month_floor

STEPS = ("day", "month")
LONGEST = timedelta(days=3700)
SPAN = [
    OpenApiParameter("from", str, description="The first day (UTC); by default 29 days ago."),
    OpenApiParameter("to", str, description="The last day; today by default."),
]
STEP = OpenApiParameter("step", str, enum=list(STEPS), description="day by default; months begin whole.")
BY = OpenApiParameter("by", str, enum=list(SHARES), description="organisation by default.")


class Revenue(APIView):
    actions = {"GET": "operator.read"}

    @extend_schema(
        operation_id="operator_revenue",
        summary="What was used and what was taken, by day or month; those with nothing are left out",
        parameters=[*SPAN, STEP],
        responses=RevenueShape,
    )
    def get(self, request: Request) -> Response:
        _, steps = _steps(request)
        return Response(RevenueShape({"data": [revenue_row(one) for one in steps]}).data)


class RevenueCsv(APIView):
    actions = {"GET": "operator.read"}
    content_negotiation_class = AnyAccepted

    @extend_schema(
        operation_id="operator_revenue_csv",
        summary="The same as CSV, in the columns of the page's",
        parameters=[*SPAN, STEP],
        responses=CSV,
    )
    def get(self, request: Request) -> StreamingHttpResponse:
        step, steps = _steps(request)
        rows = revenue_rows(step=step, steps=steps)
        return csv_response(request._request, name=f"kindling-revenue-{step}.csv", rows=rows)


class RevenueShares(APIView):
    actions = {"GET": "operator.read"}

    @extend_schema(
        operation_id="operator_revenue_shares",
        summary="The same span by organisation or model, the dearest first",
        parameters=[*SPAN, BY],
        responses=RevenueSharesShape,
    )
    def get(self, request: Request) -> Response:
        start, end = _span(request)
        by = choice_asked(request, "by", SHARES, default="organisation")
        shares = usage_shares(start=start, end=end, by=by)
        names = model_name_map() if by == "model" else _organisations([str(one.group) for one in shares])
        rows = [share_row(one, names.get(str(one.group), str(one.group))) for one in shares]
        return Response(RevenueSharesShape({"data": rows}).data)


def _steps(request: Request) -> tuple[str, list[RevenueStep]]:
    start, end = _span(request)
    step = choice_asked(request, "step", STEPS, default="day")
    start = month_floor(start) if step == "month" else start
    return step, revenue_steps(start=start, end=end, step=step)


def _span(request: Request) -> tuple[datetime, datetime]:
    today = day_floor(now())
    start = day_asked(request, "from") or today - timedelta(days=29)
    last = day_asked(request, "to") or today
    if not start <= last <= start + LONGEST:
        text = f"The span ends on or after its first day, and is up to {LONGEST.days} days long."
        raise KindlingError("span_invalid", text, param="to")
    return start, last + timedelta(days=1)


def _organisations(ids: list[str]) -> dict[str, str]:
    return {id_: org.slug for id_, org in organisation_map(organisation_ids=ids).items()}
