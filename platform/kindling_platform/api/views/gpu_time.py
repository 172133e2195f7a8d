"""What replicas of an organisation's own deployments held and cost."""

from django.http import StreamingHttpResponse
from drf_spectacular.utils import OpenApiParameter, OpenApiTypes, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from kindling_platform.api.caller import caller_of
from kindling_platform.api.downloads import AnyAccepted
from kindling_platform.api.gpu_time_shapes import GpuTimeShape, gpu_time_answer
from kindling_platform.api.views.usage import SPAN
from kindling_platform.common.streamed_csv import csv_response
from kindling_platform.deployments.gpu_reports import gpu_time_rows
from kindling_platform.usage.buckets import INTERVALS
from kindling_platform.usage.exports import file_name
from kindling_platform.usage.questions import Question, question_of

ASKED = ("from", "to", "tz", "interval")
STEP = OpenApiParameter(
    "interval",
    str,
    enum=list(INTERVALS),
    description="One row for each; an hour of UTC belongs to the day of `tz` that it begins in.",
)


class GpuTime(APIView):
    actions = {"GET": "usage.read"}

    @extend_schema(
        operation_id="gpu_time_sums",
        summary="GPU time of your own deployments, and its cost",
        description="Whole hours that are posted or wait for a price; the hour that runs is not among them.",
        parameters=[*SPAN, STEP],
        responses=GpuTimeShape,
    )
    def get(self, request: Request) -> Response:
        return Response(GpuTimeShape(gpu_time_answer(_question(request))).data)


class GpuTimeCsv(APIView):
    actions = {"GET": "usage.read"}
    content_negotiation_class = AnyAccepted

    @extend_schema(
        operation_id="gpu_time_csv",
        summary="The same as CSV",
        parameters=[*SPAN, STEP],
        responses={(200, "text/csv"): OpenApiTypes.STR},
    )
    def get(self, request: Request) -> StreamingHttpResponse:
        question = _question(request)
        name = file_name(question.org, "gpu-time", question)
        return csv_response(request._request, name=name, rows=gpu_time_rows(question))


def _question(request: Request) -> Question:
    asked = request.query_params.dict()
    return question_of(caller_of(request).org, {name: asked[name] for name in ASKED if name in asked})
