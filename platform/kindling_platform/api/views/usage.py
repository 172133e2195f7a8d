"""What was used and what it cost."""

from django.http import StreamingHttpResponse
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from kindling_platform.api.caller import caller_of
from kindling_platform.api.downloads import CSV, AnyAccepted
from kindling_platform.api.paging import PAGING, page_response, page_shape
from kindling_platform.api.rendering import PlainJson
from kindling_platform.api.rows import usage_event_row
from kindling_platform.api.shapes import OneUsageEventShape, UsageEventShape
from kindling_platform.api.usage_shapes import UsageShape, usage_answer
from kindling_platform.common.errors import KindlingError
from kindling_platform.common.streamed_csv import csv_response
from kindling_platform.deployments.usage_table import charged_rows
from kindling_platform.usage.buckets import INTERVALS
from kindling_platform.usage.exports import file_name, request_rows
from kindling_platform.usage.feedback import feedback_get
from kindling_platform.usage.questions import Question, question_of
from kindling_platform.usage.reports import COLUMNS
from kindling_platform.usage.selectors import usage_event_get, usage_event_list

SPAN = [
    OpenApiParameter(
        "from",
        str,
        description="The first day or moment, in `tz` unless it says otherwise; by default 29 days ago.",
    ),
    OpenApiParameter("to", str, description="The day or moment behind the last one; now by default."),
    OpenApiParameter("tz", str, description="A time zone, such as Europe/Berlin; UTC by default."),
]
FILTERS = [
    OpenApiParameter("model", str, description="Names or ids, parted by commas; so are the others."),
    OpenApiParameter("adapter", str, description="Names or ids; `none` is the base model alone."),
    OpenApiParameter("key", str, description="Ids of API keys."),
    OpenApiParameter("member", str, description="Addresses or ids of those who made the keys."),
    OpenApiParameter(
        "status", str, description="Of `stop`, `length`, `cancelled`, `grant_refused`, `error`."
    ),
]
ROWS = [
    OpenApiParameter(
        "group_by", str, enum=list(COLUMNS), description="One row for each; one row for all by default."
    ),
    OpenApiParameter(
        "interval", str, enum=list(INTERVALS), description="One row for each; days are those of `tz`."
    ),
]
COMPARE = OpenApiParameter("compare", str, enum=["previous"], description="The span before, too.")


class Usage(APIView):
    actions = {"GET": "usage.read"}
    renderer_classes = [PlainJson]

    @extend_schema(
        operation_id="usage_sums",
        summary="Requests, tokens, cost and latency, summed; GPU time beside them",
        parameters=[*ROWS, *SPAN, *FILTERS, COMPARE],
        responses=UsageShape,
    )
    def get(self, request: Request) -> Response:
        asked = request.query_params.dict()
        compare = asked.get("compare", "")
        if compare not in {"", "previous"}:
            raise KindlingError("compare_unknown", "compare must be previous.", param="compare")
        return Response(usage_answer(_question(request), compare=bool(compare)))


class UsageCsv(APIView):
    actions = {"GET": "usage.read"}
    content_negotiation_class = AnyAccepted

    @extend_schema(
        operation_id="usage_sums_csv",
        summary="The same as CSV",
        description="Lines of the kind `gpu_time` follow those of requests; the cost of all is what the ledger has.",
        parameters=[*ROWS, *SPAN, *FILTERS],
        responses=CSV,
    )
    def get(self, request: Request) -> StreamingHttpResponse:
        question = _question(request)
        name = file_name(question.org, "usage", question)
        return csv_response(request._request, name=name, rows=charged_rows(question))


class UsageEvents(APIView):
    actions = {"GET": "usage.read"}

    @extend_schema(
        operation_id="usage_requests_list",
        summary="Single requests, newest first",
        parameters=[*SPAN, *FILTERS, *PAGING],
        responses=page_shape(UsageEventShape),
    )
    def get(self, request: Request) -> Response:
        asked = _question(request, exact=True)
        rows = usage_event_list(org=asked.org, start=asked.start, end=asked.end, only=asked.only)
        return page_response(
            request, rows, UsageEventShape, usage_event_row, order=("finished_at", "request_id")
        )


class UsageEventsCsv(APIView):
    actions = {"GET": "usage.read"}
    content_negotiation_class = AnyAccepted

    @extend_schema(
        operation_id="usage_requests_csv",
        summary="Single requests as CSV",
        parameters=[*SPAN, *FILTERS],
        responses=CSV,
    )
    def get(self, request: Request) -> StreamingHttpResponse:
        question = _question(request, exact=True)
        name = file_name(question.org, "requests", question)
        return csv_response(request._request, name=name, rows=request_rows(question))


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


def _question(request: Request, *, exact: bool = False) -> Question:
    return question_of(caller_of(request).org, request.query_params.dict(), exact=exact)
