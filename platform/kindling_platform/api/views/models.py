"""Models that the caller may use."""

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from kindling_billing.selectors import price_map_current
from kindling_platform.api.caller import caller_of
from kindling_platform.api.paging import page_shape
from kindling_platform.api.rows import model_row
from kindling_platform.api.shapes import ModelShape
from kindling_platform.catalog.selectors import model_get, model_list


class Models(APIView):
    actions = {"GET": "models.read"}

    @extend_schema(
        operation_id="models_list", summary="Every model you may use", responses=page_shape(ModelShape)
    )
    def get(self, request: Request) -> Response:
        org = caller_of(request).org
        models = list(model_list(org=org))
        prices = price_map_current(skus=[model.id for model in models], owner_id=org.id)
        rows = [model_row(model, prices.get(model.id)) for model in models]
        return Response({"data": ModelShape(rows, many=True).data, "next_cursor": None})


class OneModel(APIView):
    actions = {"GET": "models.read"}

    @extend_schema(operation_id="models_get", summary="One model by its reference", responses=ModelShape)
    def get(self, request: Request, ref: str) -> Response:
        org = caller_of(request).org
        model = model_get(org=org, ref=ref)
        price = price_map_current(skus=[model.id], owner_id=org.id).get(model.id)
        return Response(ModelShape(model_row(model, price)).data)
