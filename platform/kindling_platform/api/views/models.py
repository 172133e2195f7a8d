"""Models that the caller may use."""

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from kindling_platform.api.caller import caller_of
from kindling_platform.api.model_shapes import ModelShape, model_row
from kindling_platform.api.paging import page_shape
from kindling_platform.catalog.offers import ORDERS, TASKS
from kindling_platform.catalog.wishes import wish_of
from kindling_platform.deployments.offers import offer_get, offer_list

FILTERS = [
    OpenApiParameter(
        "q",
        str,
        description="Words that all stand in its names or description; 80 characters at most.",
    ),
    OpenApiParameter("task", str, enum=list(TASKS), description="What it can be asked for."),
    OpenApiParameter(
        "size", str, description="Billions of parameters from and to, both included: `1-4`, `-1` or `40-`."
    ),
    OpenApiParameter("context", int, description="A context of so many tokens at least."),
    OpenApiParameter(
        "price_max",
        str,
        description="Dollars per million tokens that neither input nor output costs more than, such as `0.50`; models "
        "without a price are left out.",
    ),
    OpenApiParameter("licence", str, description="As the model has it, in upper or lower case."),
    OpenApiParameter("lora", bool, description="Those alone that take adapters."),
    OpenApiParameter("warm", bool, description="Those alone that a ready replica answers for."),
    OpenApiParameter(
        "sort",
        str,
        enum=list(ORDERS),
        description="By name unless given; by the price of output, then of input; longest context or newest first.",
    ),
]


class Models(APIView):
    actions = {"GET": "models.read"}

    @extend_schema(
        operation_id="models_list",
        summary="Every model you may use, or those that filters leave",
        description="The same filters as the console's catalog, with the same names in its address.",
        parameters=FILTERS,
        responses=page_shape(ModelShape),
    )
    def get(self, request: Request) -> Response:
        caller = caller_of(request)
        wish, errors = wish_of(request.query_params.dict())
        if errors:
            raise errors[0]
        shows_own = caller.may("usage.read")
        rows = [model_row(offer, shows_own=shows_own) for offer in wish.choose(offer_list(org=caller.org))]
        return Response({"data": ModelShape(rows, many=True).data, "next_cursor": None})


class OneModel(APIView):
    actions = {"GET": "models.read"}

    @extend_schema(operation_id="models_get", summary="One model by its reference", responses=ModelShape)
    def get(self, request: Request, ref: str) -> Response:
        caller = caller_of(request)
        offer = offer_get(org=caller.org, ref=ref)
        return Response(ModelShape(model_row(offer, shows_own=caller.may("usage.read"))).data)
