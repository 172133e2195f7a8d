"""Which models organisations may deploy for themselves."""

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from kindling_platform.api.caller import caller_of
from kindling_platform.api.operator_shapes.models import ModelChangeShape, OperatedModelShape
from kindling_platform.api.rows import plain_row
from kindling_platform.catalog.services import model_deployable_set


class OperatedModel(APIView):
    actions = {"PATCH": "operator.write"}

    @extend_schema(
        operation_id="operator_models_change",
        summary="Open a model to deployments of organisations' own, or close it to new ones",
        request=ModelChangeShape,
        responses=OperatedModelShape,
    )
    def patch(self, request: Request, model_id: str) -> Response:
        asked = ModelChangeShape(data=request.data)
        asked.is_valid(raise_exception=True)
        model = model_deployable_set(
            model_id=model_id, actor=caller_of(request).actor, **asked.validated_data
        )
        return Response(OperatedModelShape(plain_row(model, "id", "ref", "deployable")).data)
