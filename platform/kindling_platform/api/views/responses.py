"""How long responses are kept."""

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from kindling_platform.api.caller import caller_of
from kindling_platform.api.shapes import KeepingChangeShape, KeepingShape
from kindling_platform.common.tenancy import HasId
from kindling_platform.responses.selectors import keeping_get
from kindling_platform.responses.services import responses_delete, retention_set


class StoredResponses(APIView):
    actions = {"GET": "usage.read", "PATCH": "responses.write", "DELETE": "responses.write"}

    @extend_schema(
        operation_id="responses_get", summary="How long responses are kept", responses=KeepingShape
    )
    def get(self, request: Request) -> Response:
        return Response(_row(caller_of(request).org))

    @extend_schema(
        operation_id="responses_retain",
        summary="Change how long responses are kept",
        request=KeepingChangeShape,
        responses=KeepingShape,
    )
    def patch(self, request: Request) -> Response:
        asked = KeepingChangeShape(data=request.data)
        asked.is_valid(raise_exception=True)
        caller = caller_of(request)
        retention_set(org=caller.org, days=asked.validated_data["retention_days"], actor=caller.actor)
        return Response(_row(caller.org))

    @extend_schema(
        operation_id="responses_delete", summary="Delete every kept response", responses={204: None}
    )
    def delete(self, request: Request) -> Response:
        caller = caller_of(request)
        responses_delete(org=caller.org, actor=caller.actor)
        return Response(status=204)


def _row(org: HasId) -> dict[str, object]:
    keeping = keeping_get(org=org)
    return dict(KeepingShape({"retention_days": keeping.days, "stored": keeping.stored}).data)
