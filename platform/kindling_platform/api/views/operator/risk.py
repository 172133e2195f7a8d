"""Organisations that owe, or may soon be unable to go on."""

from django.http import StreamingHttpResponse
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from kindling_platform.api.asked import choice_asked
from kindling_platform.api.downloads import CSV, AnyAccepted
from kindling_platform.api.operator_shapes.invoices import AtRiskShape, at_risk_row
from kindling_platform.common.streamed_csv import csv_response
from kindling_platform.usage.risk import KINDS, risk_counts, risk_list
from kindling_platform.usage.risk_rows import risk_rows

NAMES = [name for name, _ in KINDS]
KIND = OpenApiParameter("kind", str, enum=NAMES, description="Only those with this reason.")


class AtRisk(APIView):
    actions = {"GET": "operator.read"}

    @extend_schema(
        operation_id="operator_at_risk",
        summary="Every organisation at risk, why, and what to do",
        parameters=[KIND],
        responses=AtRiskShape,
    )
    def get(self, request: Request) -> Response:
        kind = choice_asked(request, "kind", NAMES)
        rows = risk_list()
        chosen = [row for row in rows if not kind or any(one.kind == kind for one in row.risks)]
        answer = {"counts": risk_counts(rows), "data": [at_risk_row(row) for row in chosen]}
        return Response(AtRiskShape(answer).data)


class AtRiskCsv(APIView):
    actions = {"GET": "operator.read"}
    content_negotiation_class = AnyAccepted

    @extend_schema(
        operation_id="operator_at_risk_csv", summary="The same as CSV", parameters=[KIND], responses=CSV
    )
    def get(self, request: Request) -> StreamingHttpResponse:
        rows = risk_rows(kind=choice_asked(request, "kind", NAMES))
        return csv_response(request._request, name="kindling-at-risk.csv", rows=rows)
