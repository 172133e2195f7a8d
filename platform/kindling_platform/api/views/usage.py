"""What was used and what it cost."""

from datetime import UTC, datetime, timedelta

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from kindling_platform.accounts.models import Organisation
from kindling_platform.adapters.selectors import adapter_name_map
from kindling_platform.api.caller import caller_of
from kindling_platform.api.paging import PAGING, page_response, page_shape
from kindling_platform.api.rows import usage_event_row, usage_row
from kindling_platform.api.shapes import OneUsageEventShape, UsageEventShape, UsageShape
from kindling_platform.catalog.selectors import model_name_map
from kindling_platform.common.clock import now
from kindling_platform.common.errors import KindlingError
from kindling_platform.keys.selectors import key_name_map
from kindling_platform.usage.feedback import feedback_get
from kindling_platform.usage.selectors import (
    GROUPS,
    usage_by,
    usage_event_get,
    usage_event_list,
    usage_totals,
)

DEFAULT_SPAN = timedelta(days=30)
MAX_SPAN = timedelta(days=400)
SPAN = [
    OpenApiParameter(
        "start", str, description="A day or a moment, UTC unless it says; 30 days ago by default."
    ),
    OpenApiParameter("end", str, description="The moment behind the last one; now by default."),
]


class Usage(APIView):
    actions = {"GET": "usage.read"}

    @extend_schema(
        operation_id="usage_sums",
        summary="Requests, tokens and cost",
        parameters=[
            OpenApiParameter("group", str, enum=list(GROUPS), description="`day` by default."),
            *SPAN,
        ],
        responses=UsageShape,
    )
    def get(self, request: Request) -> Response:
        org = caller_of(request).org
        group = request.query_params.get("group", "day")
        start, end = span_of(request)
        sums = usage_by(org=org, group=group, start=start, end=end)
        labels = _labels(org, group)
        row = {
            "group": group,
            "start": start,
            "end": end,
            "data": [usage_row(item, labels.get(str(item.group), "")) for item in sums],
            "total": usage_row(usage_totals(org=org, start=start, end=end), "Total"),
        }
        return Response(UsageShape(row).data)


class UsageEvents(APIView):
    actions = {"GET": "usage.read"}

    @extend_schema(
        operation_id="usage_requests_list",
        summary="Single requests, newest first",
        parameters=[*SPAN, *PAGING],
        responses=page_shape(UsageEventShape),
    )
    def get(self, request: Request) -> Response:
        start, end = span_of(request)
        rows = usage_event_list(org=caller_of(request).org).filter(
            finished_at__gte=start, finished_at__lt=end
        )
        return page_response(
            request, rows, UsageEventShape, usage_event_row, order=("finished_at", "request_id")
        )


class OneUsageEvent(APIView):
    actions = {"GET": "usage.read"}

    @extend_schema(
        operation_id="usage_requests_get", summary="One request by its id", responses=OneUsageEventShape
    )
    def get(self, request: Request, request_id: str) -> Response:
        org = caller_of(request).org
        event = usage_event_get(org=org, request_id=request_id)
        feedback = feedback_get(org=org, request_id=event.request_id)
        said = feedback and {"score": feedback.score, "label": feedback.label}
        return Response(OneUsageEventShape({**usage_event_row(event), "feedback": said}).data)


def span_of(request: Request) -> tuple[datetime, datetime]:
    """The span of time that a client asks for.

    Raises:
        KindlingError: `time_invalid`, `span_invalid`.
    """
    end = _moment(request, "end") or now() + timedelta(seconds=1)
    start = _moment(request, "start") or end - DEFAULT_SPAN
    if not timedelta(0) < end - start <= MAX_SPAN:
        text = f"The end must lie behind the start, and at most {MAX_SPAN.days} days behind it."
        raise KindlingError("span_invalid", text, param="end")
    return start, end


def _moment(request: Request, name: str) -> datetime | None:
    text = request.query_params.get(name)
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
        # Seen from other zones, the first and the last year have no neighbours.
        if not 1970 <= moment.year <= 9000:
            raise ValueError("out of range")
    except ValueError as error:
        text = f"{name} must be a date or a time in ISO 8601, such as 2026-01-31 or 2026-01-31T12:00:00Z."
        raise KindlingError("time_invalid", text, param=name) from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _labels(org: Organisation, group: str) -> dict[str, str]:
    if group == "model":
        return model_name_map()
    if group == "key":
        return key_name_map(org=org)
    if group == "adapter":
        return adapter_name_map(org=org)
    return {}
