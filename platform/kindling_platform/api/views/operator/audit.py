"""The audit log of the whole installation."""

from datetime import timedelta

from django.http import StreamingHttpResponse
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from kindling_platform.accounts.selectors import organisation_id_of
from kindling_platform.api.asked import choice_asked, day_asked, word_asked
from kindling_platform.api.downloads import CSV, AnyAccepted
from kindling_platform.api.operator_shapes.audit import AuditEventShape, audit_event_row
from kindling_platform.api.paging import PAGING, page_response, page_shape
from kindling_platform.audit.exports import event_rows
from kindling_platform.audit.selectors import EventFilter, event_find
from kindling_platform.common.streamed_csv import csv_response

FILTERS = [
    OpenApiParameter("organisation", str, description="A slug or an id."),
    OpenApiParameter("actor", str, description="An id, or a part of a name."),
    OpenApiParameter("action", str, description="A whole action, or the noun that it begins with."),
    OpenApiParameter("target", str, description="The id of what was changed."),
    OpenApiParameter("origin", str, description="An address, or the id of a request."),
    OpenApiParameter("from", str, description="The first day (UTC), such as 2026-11-01."),
    OpenApiParameter("to", str, description="The last day."),
    OpenApiParameter(
        "only", str, enum=["money"], description="Only what moves money or decides how much may."
    ),
]


class Audit(APIView):
    actions = {"GET": "operator.read"}

    @extend_schema(
        operation_id="operator_audit_list",
        summary="Who changed what, when and from where, newest first",
        parameters=[*FILTERS, *PAGING],
        responses=page_shape(AuditEventShape),
    )
    def get(self, request: Request) -> Response:
        return page_response(request, event_find(wanted=_wanted(request)), AuditEventShape, audit_event_row)


class AuditCsv(APIView):
    actions = {"GET": "operator.read"}
    content_negotiation_class = AnyAccepted

    @extend_schema(
        operation_id="operator_audit_csv", summary="The same as CSV", parameters=FILTERS, responses=CSV
    )
    def get(self, request: Request) -> StreamingHttpResponse:
        return csv_response(request._request, name="kindling-audit.csv", rows=event_rows(_wanted(request)))


def _wanted(request: Request) -> EventFilter:
    until = day_asked(request, "to")
    return EventFilter(
        organisation_id=organisation_id_of(word_asked(request, "organisation")),
        actor=word_asked(request, "actor"),
        action=word_asked(request, "action"),
        target=word_asked(request, "target"),
        origin=word_asked(request, "origin"),
        since=day_asked(request, "from"),
        until=until + timedelta(days=1) if until else None,
        only_money=choice_asked(request, "only", ["money"]) == "money",
    )
