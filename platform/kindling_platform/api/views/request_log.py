"""The log of prompts and answers: whether there is one, what it has kept, and one request opened."""

from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from kindling_platform.api.caller import caller_of
from kindling_platform.api.paging import PAGING, page_response, page_shape
from kindling_platform.api.request_log_shapes import (
    LoggedRequestShape,
    OpenedRequestShape,
    RequestLogChangeShape,
    RequestLogShape,
    logged_request_row,
    opened_request_row,
)
from kindling_platform.common.errors import not_found
from kindling_platform.common.ids import request_id_read
from kindling_platform.common.tenancy import HasId
from kindling_platform.requestlog.selectors import logged_request_get, logged_request_list, request_log_get
from kindling_platform.requestlog.services import logged_request_open, request_log_set


class RequestLog(APIView):
    actions = {"GET": "usage.read", "PATCH": "settings.write"}

    @extend_schema(
        operation_id="request_log_get",
        summary="Whether prompts and answers are kept",
        responses=RequestLogShape,
    )
    def get(self, request: Request) -> Response:
        return Response(_row(caller_of(request).org))

    @extend_schema(
        operation_id="request_log_set",
        summary="Keep prompts and answers for some days, or keep none and delete all",
        request=RequestLogChangeShape,
        responses=RequestLogShape,
    )
    def patch(self, request: Request) -> Response:
        asked = RequestLogChangeShape(data=request.data)
        asked.is_valid(raise_exception=True)
        caller = caller_of(request)
        request_log_set(org=caller.org, days=asked.validated_data["days"], actor=caller.actor)
        return Response(_row(caller.org))


class LoggedRequests(APIView):
    actions = {"GET": "prompts.open"}

    @extend_schema(
        operation_id="request_log_list",
        summary="Kept requests, newest first, without what they said",
        parameters=PAGING,
        responses=page_shape(LoggedRequestShape),
    )
    def get(self, request: Request) -> Response:
        rows = logged_request_list(org=caller_of(request).org)
        return page_response(
            request, rows, LoggedRequestShape, logged_request_row, order=("created_at", "request_id")
        )


class OneLoggedRequest(APIView):
    actions = {"GET": "prompts.open"}

    @extend_schema(
        operation_id="request_log_open",
        summary="What one kept request and its answer said; who has looked is audited",
        responses=OpenedRequestShape,
    )
    def get(self, request: Request, request_id: str) -> Response:
        caller, number = caller_of(request), _number(request_id)
        entry = logged_request_get(org=caller.org, request_id=number)
        said = logged_request_open(org=caller.org, request_id=number, actor=caller.actor)
        row = OpenedRequestShape(opened_request_row(entry, said)).data
        return Response(row, headers={"cache-control": "no-store"})


def _number(request_id: str) -> UUID:
    number = request_id_read(request_id)
    if number is None:
        raise not_found("kept request")
    return number


def _row(org: HasId) -> dict[str, object]:
    state = request_log_get(org=org)
    return dict(RequestLogShape({"days": state.days, "kept": state.kept}).data)
