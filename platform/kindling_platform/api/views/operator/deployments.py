"""What runs and what should, over all organisations."""

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from kindling_platform.accounts.selectors import organisation_id_of
from kindling_platform.api.asked import word_asked
from kindling_platform.api.operator_shapes.deployments import (
    OperatedDeploymentShape,
    operated_deployment_row,
)
from kindling_platform.api.paging import PAGING, page_response, page_shape
from kindling_platform.deployments.selectors import deployment_list

ORGANISATION = OpenApiParameter("organisation", str, description="A slug or an id.")


class OperatedDeployments(APIView):
    actions = {"GET": "operator.read"}

    @extend_schema(
        operation_id="operator_deployments_list",
        summary="Everybody's deployments with their replicas, newest first",
        parameters=[ORGANISATION, *PAGING],
        responses=page_shape(OperatedDeploymentShape),
    )
    def get(self, request: Request) -> Response:
        rows = deployment_list()
        if owner_id := organisation_id_of(word_asked(request, "organisation")):
            rows = rows.filter(organisation_id=owner_id)
        return page_response(request, rows, OperatedDeploymentShape, operated_deployment_row)
