"""What runs and what should."""

from dataclasses import asdict

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from kindling_platform.accounts.reauthentication import recent_check
from kindling_platform.api.caller import caller_of
from kindling_platform.api.once import ONCE, once
from kindling_platform.api.paging import PAGING, limit_of, page_response, page_shape
from kindling_platform.api.rows import deployment_row, plain_row, revision_row
from kindling_platform.api.shapes import (
    AllowanceShape,
    DeploymentChangeShape,
    DeploymentCreateShape,
    DeploymentShape,
    EventsShape,
    ReplicaLogsShape,
    RestoreShape,
    RevisionsShape,
)
from kindling_platform.deployments.allowances import allowance_get
from kindling_platform.deployments.machines import machine_get
from kindling_platform.deployments.replica_logs import replica_log_list
from kindling_platform.deployments.revisions import revision_list
from kindling_platform.deployments.selectors import deployment_get, deployment_list, event_list
from kindling_platform.deployments.services import (
    deployment_change,
    deployment_create,
    deployment_delete,
    deployment_restore,
    deployment_start,
    deployment_stop,
)


class Deployments(APIView):
    actions = {"GET": "deployments.read", "POST": "deployments.write"}

    @extend_schema(
        operation_id="deployments_list",
        summary="Your deployments",
        parameters=PAGING,
        responses=page_shape(DeploymentShape),
    )
    def get(self, request: Request) -> Response:
        rows = deployment_list(org=caller_of(request).org)
        return page_response(request, rows, DeploymentShape, deployment_row)

    @extend_schema(
        operation_id="deployments_create",
        summary="Deploy a model; you pay for the hours of its replicas",
        description="One that is `deployable`, within the replicas that the operator allows you; the operator deploys "
        "any, for anybody.",
        parameters=[ONCE],
        request=DeploymentCreateShape,
        responses={201: DeploymentShape},
    )
    def post(self, request: Request) -> Response:
        asked = DeploymentCreateShape(data=request.data)
        asked.is_valid(raise_exception=True)
        caller, for_ref = caller_of(request), asked.validated_data["organisation"]
        if caller.key is None and for_ref not in ("", caller.org.id, caller.org.slug):
            recent_check(request._request)  # as for all that the operator does with others' organisations
        with once(request) as turn:
            if turn.reply is not None:
                return turn.reply
            made = deployment_create(
                org=caller.org,
                model_ref=asked.validated_data["model"],
                name=asked.validated_data["name"],
                replicas=asked.validated_data["replicas"],
                weights=asked.validated_data["weights"],
                kv_dtype=asked.validated_data["kv_dtype"],
                for_ref=for_ref,
                actor=caller.actor,
            )
            return turn.keep(Response(DeploymentShape(deployment_row(made)).data, status=201))


class DeploymentsAllowance(APIView):
    actions = {"GET": "deployments.read"}

    @extend_schema(
        operation_id="deployments_allowance",
        summary="How many replicas of your own making may run",
        responses=AllowanceShape,
    )
    def get(self, request: Request) -> Response:
        allowance = allowance_get(org=caller_of(request).org)
        row = {**plain_row(allowance, "replicas", "running", "left"), "runs_on": machine_get()}
        return Response(AllowanceShape(row).data)


class OneDeployment(APIView):
    actions = {"GET": "deployments.read", "PATCH": "deployments.write", "DELETE": "deployments.write"}

    @extend_schema(operation_id="deployments_get", summary="One deployment", responses=DeploymentShape)
    def get(self, request: Request, deployment_id: str) -> Response:
        found = deployment_get(org=caller_of(request).org, deployment_id=deployment_id)
        return Response(DeploymentShape(deployment_row(found)).data)

    @extend_schema(
        operation_id="deployments_change",
        summary="Change its replicas, or the form of its weights, keys and values; what is left out stays",
        request=DeploymentChangeShape,
        responses=DeploymentShape,
    )
    def patch(self, request: Request, deployment_id: str) -> Response:
        caller = caller_of(request)
        deployment_get(org=caller.org, deployment_id=deployment_id)
        asked = DeploymentChangeShape(data=request.data)
        asked.is_valid(raise_exception=True)
        changed = deployment_change(
            org=caller.org, deployment_id=deployment_id, actor=caller.actor, **asked.validated_data
        )
        return Response(DeploymentShape(deployment_row(changed)).data)

    @extend_schema(
        operation_id="deployments_delete",
        summary="Stop it for good; its requests are drained, and its name is free",
        responses={204: None},
    )
    def delete(self, request: Request, deployment_id: str) -> Response:
        caller = caller_of(request)
        deployment_delete(org=caller.org, deployment_id=deployment_id, actor=caller.actor)
        return Response(status=204)


class DeploymentStart(APIView):
    actions = {"POST": "deployments.write"}

    @extend_schema(
        operation_id="deployments_start", summary="Start it", request=None, responses=DeploymentShape
    )
    def post(self, request: Request, deployment_id: str) -> Response:
        caller = caller_of(request)
        found = deployment_start(org=caller.org, deployment_id=deployment_id, actor=caller.actor)
        return Response(DeploymentShape(deployment_row(found)).data)


class DeploymentStop(APIView):
    actions = {"POST": "deployments.write"}

    @extend_schema(
        operation_id="deployments_stop", summary="Stop it", request=None, responses=DeploymentShape
    )
    def post(self, request: Request, deployment_id: str) -> Response:
        caller = caller_of(request)
        found = deployment_stop(org=caller.org, deployment_id=deployment_id, actor=caller.actor)
        return Response(DeploymentShape(deployment_row(found)).data)


class DeploymentEvents(APIView):
    actions = {"GET": "deployments.read"}

    @extend_schema(
        operation_id="deployments_events",
        summary="What happened to it, newest first",
        parameters=PAGING[1:],
        responses=EventsShape,
    )
    def get(self, request: Request, deployment_id: str) -> Response:
        found = deployment_get(org=caller_of(request).org, deployment_id=deployment_id)
        events = event_list(deployment=found, limit=limit_of(request))
        rows = [plain_row(event, "id", "kind", "message", "created_at") for event in events]
        return Response(EventsShape({"data": rows}).data)


class DeploymentRevisions(APIView):
    actions = {"GET": "deployments.read"}

    @extend_schema(
        operation_id="deployments_revisions",
        summary="What it was set to, by whom and when, newest first",
        parameters=PAGING[1:],
        responses=RevisionsShape,
    )
    def get(self, request: Request, deployment_id: str) -> Response:
        org = caller_of(request).org
        found = deployment_get(org=org, deployment_id=deployment_id)
        listed = revision_list(deployment=found, reader=org, limit=limit_of(request))
        rows = [revision_row(one) for one in listed]
        return Response(RevisionsShape({"data": rows}).data)


class DeploymentRestore(APIView):
    actions = {"POST": "deployments.write"}

    @extend_schema(
        operation_id="deployments_restore",
        summary="Set it to what it was in an earlier revision, as a new one",
        request=RestoreShape,
        responses=DeploymentShape,
    )
    def post(self, request: Request, deployment_id: str) -> Response:
        caller = caller_of(request)
        deployment_get(org=caller.org, deployment_id=deployment_id)
        asked = RestoreShape(data=request.data)
        asked.is_valid(raise_exception=True)
        found = deployment_restore(
            org=caller.org,
            deployment_id=deployment_id,
            number=asked.validated_data["revision"],
            actor=caller.actor,
        )
        return Response(DeploymentShape(deployment_row(found)).data)


class DeploymentLogs(APIView):
    actions = {"GET": "deployments.read"}

    @extend_schema(
        operation_id="deployments_logs",
        summary="What its replicas have said lately",
        responses=ReplicaLogsShape,
    )
    def get(self, request: Request, deployment_id: str) -> Response:
        caller = caller_of(request)
        operates = caller.may("operator.read")
        found = deployment_get(org=None if operates else caller.org, deployment_id=deployment_id)
        logs = replica_log_list(deployment=found, sees_hosts=operates)
        return Response(ReplicaLogsShape({"data": [asdict(log) for log in logs]}).data)
