"""Other names for models: list, set, look up, delete."""

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from kindling_platform.adapters.aliases import alias_delete, alias_get, alias_list, alias_set
from kindling_platform.api.caller import caller_of
from kindling_platform.api.paging import PAGING, page_response, page_shape
from kindling_platform.api.rows import plain_row
from kindling_platform.api.shapes import AliasSetShape, AliasShape


class Aliases(APIView):
    actions = {"GET": "adapters.read", "POST": "adapters.write"}

    @extend_schema(
        operation_id="aliases_list",
        summary="Other names of your models",
        parameters=PAGING,
        responses=page_shape(AliasShape),
    )
    def get(self, request: Request) -> Response:
        return page_response(request, alias_list(org=caller_of(request).org), AliasShape, _row)

    @extend_schema(
        operation_id="aliases_set",
        summary="Let a name stand for a model or an adapter",
        request=AliasSetShape,
        responses={201: AliasShape},
    )
    def post(self, request: Request) -> Response:
        asked = AliasSetShape(data=request.data)
        asked.is_valid(raise_exception=True)
        caller = caller_of(request)
        made = alias_set(org=caller.org, actor=caller.actor, **asked.validated_data)
        return Response(AliasShape(_row(made)).data, status=201)


class OneAlias(APIView):
    actions = {"GET": "adapters.read", "DELETE": "adapters.write"}

    @extend_schema(operation_id="aliases_get", summary="What an alias stands for", responses=AliasShape)
    def get(self, request: Request, alias: str) -> Response:
        return Response(AliasShape(_row(alias_get(org=caller_of(request).org, alias=alias))).data)

    @extend_schema(operation_id="aliases_delete", summary="Forget an alias", responses={204: None})
    def delete(self, request: Request, alias: str) -> Response:
        caller = caller_of(request)
        alias_delete(org=caller.org, alias=alias, actor=caller.actor)
        return Response(status=204)


def _row(alias: object) -> dict[str, object]:
    return plain_row(alias, "alias", "target", "created_at")
