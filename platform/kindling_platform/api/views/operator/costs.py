"""What the operator enters to know their margins: what an hour of a replica costs, what others ask."""

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from kindling_billing.costs import hosted_price_find, hour_cost_find
from kindling_billing.margins import Quote
from kindling_platform.api.caller import caller_of
from kindling_platform.api.money import per_million_asked, usd_asked
from kindling_platform.api.operator_shapes.margins import (
    CostEnterShape,
    CostShape,
    HostedPriceEnterShape,
    HostedPriceShape,
    cost_row,
    hosted_price_row,
)
from kindling_platform.api.paging import PAGING, page_response, page_shape
from kindling_platform.catalog.selectors import model_id_of
from kindling_platform.deployments.costs import cost_enter, hosted_price_enter


class Costs(APIView):
    actions = {"GET": "operator.read", "POST": "operator.write"}

    @extend_schema(
        operation_id="operator_costs_list",
        summary="What an hour of a replica costs, the latest first",
        parameters=PAGING,
        responses=page_shape(CostShape),
    )
    def get(self, request: Request) -> Response:
        return page_response(request, hour_cost_find(), CostShape, cost_row, order=("valid_from", "id"))

    @extend_schema(
        operation_id="operator_costs_enter",
        summary="Say what an hour of a replica costs from a moment on",
        request=CostEnterShape,
        responses={201: CostShape},
    )
    def post(self, request: Request) -> Response:
        asked = CostEnterShape(data=request.data)
        asked.is_valid(raise_exception=True)
        given = asked.validated_data
        row = cost_enter(
            model_id=model_id_of(given["model"]),
            picousd_per_hour=usd_asked(given["usd_per_hour"], param="usd_per_hour"),
            note=given["note"],
            valid_from=given["valid_from"],
            actor=caller_of(request).actor,
        )
        return Response(CostShape(cost_row(row)).data, status=201)


class HostedPrices(APIView):
    actions = {"GET": "operator.read", "POST": "operator.write"}

    @extend_schema(
        operation_id="operator_hosted_prices_list",
        summary="What others ask for models like these, the one noted last first",
        parameters=PAGING,
        responses=page_shape(HostedPriceShape),
    )
    def get(self, request: Request) -> Response:
        return page_response(request, hosted_price_find(), HostedPriceShape, hosted_price_row)

    @extend_schema(
        operation_id="operator_hosted_prices_enter",
        summary="Note what somebody asks for a model like one of these",
        request=HostedPriceEnterShape,
        responses={201: HostedPriceShape},
    )
    def post(self, request: Request) -> Response:
        asked = HostedPriceEnterShape(data=request.data)
        asked.is_valid(raise_exception=True)
        given = asked.validated_data
        amounts = [
            None if given[name] is None else per_million_asked(given[name], param=name)
            for name in ("input_usd_per_million", "cached_input_usd_per_million", "output_usd_per_million")
        ]
        row = hosted_price_enter(
            model_id=model_id_of(given["model"]),
            quote=Quote(amounts[0] or 0, amounts[1], amounts[2] or 0),
            source=given["source"],
            quoted_on=given["quoted_on"],
            actor=caller_of(request).actor,
        )
        return Response(HostedPriceShape(hosted_price_row(row)).data, status=201)
