"""Records that wait for the operator: how many of each kind, each with its reason, and what is done about one."""

from django.http import StreamingHttpResponse
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from kindling_platform.api.asked import choice_asked
from kindling_platform.api.caller import caller_of
from kindling_platform.api.downloads import CSV, AnyAccepted
from kindling_platform.api.operator_shapes.records import (
    RecordActShape,
    RecordDoneShape,
    RecordKindsShape,
    RecordShape,
    record_kind_row,
    record_row,
)
from kindling_platform.api.paging import PAGING, page_response, page_shape
from kindling_platform.common.streamed_csv import csv_response
from kindling_platform.records.acting import record_act
from kindling_platform.records.exports import record_rows
from kindling_platform.records.kinds import KINDS, kind_get

KIND = OpenApiParameter("kind", str, enum=list(KINDS), description="usage by default.")


class Records(APIView):
    actions = {"GET": "operator.read"}

    @extend_schema(
        operation_id="operator_records_count",
        summary="What waits for a decision: how many records of each kind, and what may be done about one",
        responses=RecordKindsShape,
    )
    def get(self, request: Request) -> Response:
        rows = [record_kind_row(kind, kind.find().count()) for kind in KINDS.values()]
        return Response(RecordKindsShape({"data": rows}).data)


class RecordsOfKind(APIView):
    actions = {"GET": "operator.read"}

    @extend_schema(
        operation_id="operator_records_list",
        summary="The records of a kind with their reasons, newest first",
        parameters=PAGING,
        responses=page_shape(RecordShape),
    )
    def get(self, request: Request, kind: str) -> Response:
        found = kind_get(kind)
        return page_response(
            request, found.find(), RecordShape, lambda row: record_row(found, row), order=found.order
        )


class RecordsCsv(APIView):
    actions = {"GET": "operator.read"}
    content_negotiation_class = AnyAccepted

    @extend_schema(
        operation_id="operator_records_csv",
        summary="Every record of a kind as CSV",
        parameters=[KIND],
        responses=CSV,
    )
    def get(self, request: Request) -> StreamingHttpResponse:
        kind = KINDS[choice_asked(request, "kind", KINDS, default="usage")]
        return csv_response(request._request, name=f"kindling-records-{kind.key}.csv", rows=record_rows(kind))


class RecordAct(APIView):
    actions = {"POST": "operator.write"}

    @extend_schema(
        operation_id="operator_records_act",
        summary="Bill a record, try it again, give it up or close it; done once, it is no longer found",
        request=RecordActShape,
        responses=RecordDoneShape,
    )
    def post(self, request: Request, kind: str, record_id: str, action: str) -> Response:
        asked = RecordActShape(data=request.data)
        asked.is_valid(raise_exception=True)
        done = record_act(
            kind=kind,
            record_id=record_id,
            action=action,
            note=asked.validated_data["note"],
            actor=caller_of(request).actor,
        )
        row = {"kind": kind, "id": record_id, "action": action, "done": done}
        return Response(RecordDoneShape(row).data)
