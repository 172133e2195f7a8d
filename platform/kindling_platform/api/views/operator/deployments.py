"""What runs and what should, over all organisations."""

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from kindling_platform.accounts.selectors import organisation_id_of
from kindling_platform.api.asked import word_asked
from kindling_platform.api.caller import caller_of
from kindling_platform.api.operator_shapes.deployments import (
    OperatedDeploymentShape,
    operated_deployment_row,
)
from kindling_platform.api.paging import PAGING, limit_of, page_response, page_shape
from kindling_platform.api.rows import revision_row
from kindling_platform.api.shapes import DeploymentChangeShape, RestoreShape, RevisionsShape
from kindling_platform.deployments.models import Deployment
from kindling_platform.deployments.revisions import revision_list
from kindling_platform.deployments.selectors import deployment_get, deployment_list
from kindling_platform.deployments.services import (
    deployment_change,
    deployment_delete,
    deployment_restore,
    deployment_start,
    deployment_stop,
)

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


class OneOperatedDeployment(APIView):
    actions = {"GET": "operator.read", "PATCH": "operator.write", "DELETE": "operator.write"}

    @extend_schema(
        operation_id="operator_deployments_get",
        summary="A deployment of any organisation",
        responses=OperatedDeploymentShape,
    )
    def get(self, request: Request, deployment_id: str) -> Response:
        return _told(deployment_get(org=None, deployment_id=deployment_id))

    @extend_schema(
        operation_id="operator_deployments_change",
        summary="Change the replicas of anybody's deployment, or the form of its weights; what is left out stays",
        request=DeploymentChangeShape,
        responses=OperatedDeploymentShape,
    )
    def patch(self, request: Request, deployment_id: str) -> Response:
        asked = DeploymentChangeShape(data=request.data)
        asked.is_valid(raise_exception=True)
        changed = deployment_change(
            org=None, deployment_id=deployment_id, actor=caller_of(request).actor, **asked.validated_data
        )
        return _told(changed)

    @extend_schema(
        operation_id="operator_deployments_delete",
        summary="Stop anybody's deployment for good; its requests are drained, and its name is free",
        responses={204: None},
    )
    def delete(self, request: Request, deployment_id: str) -> Response:
        deployment_delete(org=None, deployment_id=deployment_id, actor=caller_of(request).actor)
        return Response(status=204)


class OperatedDeploymentStart(APIView):
    actions = {"POST": "operator.write"}

    @extend_schema(
        operation_id="operator_deployments_start",
        summary="Start anybody's deployment",
        request=None,
        responses=OperatedDeploymentShape,
    )
    def post(self, request: Request, deployment_id: str) -> Response:
        actor = caller_of(request).actor
        return _told(deployment_start(org=None, deployment_id=deployment_id, actor=actor))


class OperatedDeploymentStop(APIView):
    actions = {"POST": "operator.write"}

    @extend_schema(
        operation_id="operator_deployments_stop",
        summary="Stop anybody's deployment",
        request=None,
        responses=OperatedDeploymentShape,
    )
    def post(self, request: Request, deployment_id: str) -> Response:
        actor = caller_of(request).actor
        return _told(deployment_stop(org=None, deployment_id=deployment_id, actor=actor))


class OperatedDeploymentRevisions(APIView):
    actions = {"GET": "operator.read"}

    @extend_schema(
        operation_id="operator_deployments_revisions",
        summary="What anybody's deployment was set to, by whom and when, newest first",
        parameters=PAGING[1:],
        responses=RevisionsShape,
    )
    def get(self, request: Request, deployment_id: str) -> Response:
        found = deployment_get(org=None, deployment_id=deployment_id)
        listed = revision_list(deployment=found, reader=None, limit=limit_of(request))
        rows = [revision_row(one) for one in listed]
        return Response(RevisionsShape({"data": rows}).data)


class OperatedDeploymentRestore(APIView):
    actions = {"POST": "operator.write"}

    @extend_schema(
        operation_id="operator_deployments_restore",
        summary="Set anybody's deployment to what it was in an earlier revision, as a new one",
        request=RestoreShape,
        responses=OperatedDeploymentShape,
    )
    def post(self, request: Request, deployment_id: str) -> Response:
        asked = RestoreShape(data=request.data)
        asked.is_valid(raise_exception=True)
        number, actor = asked.validated_data["revision"], caller_of(request).actor
        return _told(deployment_restore(org=None, deployment_id=deployment_id, number=number, actor=actor))


def _told(deployment: Deployment) -> Response:
    return Response(OperatedDeploymentShape(operated_deployment_row(deployment)).data)
