"""Rating usage anew: what it would change, starting it, and how far it is."""

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from kindling_platform.api.caller import caller_of
from kindling_platform.api.operator_shapes.reratings import (
    RerateEffectShape,
    RerateRunShape,
    RerateShape,
    RerateSpanShape,
    rerate_effect_row,
    rerate_run_row,
    span_asked,
)
from kindling_platform.api.paging import PAGING, page_response, page_shape
from kindling_platform.catalog.selectors import model_name_map
from kindling_platform.usage.rerating import rerating_start
from kindling_platform.usage.rerating_effect import rerating_find, rerating_get, rerating_preview


class Reratings(APIView):
    actions = {"GET": "operator.read", "POST": "operator.write"}

    @extend_schema(
        operation_id="operator_reratings_list",
        summary="Runs that rate usage anew, newest first",
        parameters=PAGING,
        responses=page_shape(RerateRunShape),
    )
    def get(self, request: Request) -> Response:
        names = model_name_map()
        return page_response(request, rerating_find(), RerateRunShape, lambda run: rerate_run_row(run, names))

    @extend_schema(
        operation_id="operator_reratings_start",
        summary="Rate usage of a span by the prices of its time; a second run over the same changes nothing more",
        request=RerateShape,
        responses={201: RerateRunShape},
    )
    def post(self, request: Request) -> Response:
        asked = RerateShape(data=request.data)
        asked.is_valid(raise_exception=True)
        run = rerating_start(
            **span_asked(asked.validated_data),
            reason=asked.validated_data["reason"],
            actor=caller_of(request).actor,
        )
        return Response(RerateRunShape(rerate_run_row(run, model_name_map())).data, status=201)


class ReratingsPreview(APIView):
    # It changes nothing, but a body has no place in a GET.
    actions = {"POST": "operator.read"}

    @extend_schema(
        operation_id="operator_reratings_preview",
        summary="What rating anew would change, by organisation; nothing is changed",
        request=RerateSpanShape,
        responses=RerateEffectShape,
    )
    def post(self, request: Request) -> Response:
        asked = RerateSpanShape(data=request.data)
        asked.is_valid(raise_exception=True)
        effects = rerating_preview(**span_asked(asked.validated_data))
        return Response(RerateEffectShape(rerate_effect_row(effects)).data)


class OneRerating(APIView):
    actions = {"GET": "operator.read"}

    @extend_schema(
        operation_id="operator_reratings_get", summary="How far a run is", responses=RerateRunShape
    )
    def get(self, request: Request, rerating_id: str) -> Response:
        run = rerating_get(rerating_id=rerating_id)
        return Response(RerateRunShape(rerate_run_row(run, model_name_map())).data)
