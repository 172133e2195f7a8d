"""LoRA adapters: create, look, complete, delete."""

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from kindling_platform.adapters.hub_source import HubSource
from kindling_platform.adapters.selectors import adapter_get, adapter_list
from kindling_platform.adapters.services import adapter_complete, adapter_create, adapter_delete
from kindling_platform.api.caller import caller_of
from kindling_platform.api.once import ONCE, once
from kindling_platform.api.paging import PAGING, page_response, page_shape
from kindling_platform.api.rows import adapter_row
from kindling_platform.api.shapes import AdapterCreateShape, AdapterShape, ReportShape


class Adapters(APIView):
    actions = {"GET": "adapters.read", "POST": "adapters.write"}

    @extend_schema(
        operation_id="adapters_list",
        summary="Your adapters",
        parameters=PAGING,
        responses=page_shape(AdapterShape),
    )
    def get(self, request: Request) -> Response:
        return page_response(request, adapter_list(org=caller_of(request).org), AdapterShape, adapter_row)

    @extend_schema(
        operation_id="adapters_create",
        summary="Open an upload, or have an adapter fetched from the Hugging Face Hub",
        parameters=[ONCE],
        request=AdapterCreateShape,
        responses={201: AdapterShape},
    )
    def post(self, request: Request) -> Response:
        asked = AdapterCreateShape(data=request.data)
        asked.is_valid(raise_exception=True)
        caller, given = caller_of(request), asked.validated_data
        with once(request) as turn:
            if turn.reply is not None:
                return turn.reply
            adapter = adapter_create(
                org=caller.org,
                name=given["name"],
                base_ref=given["base_model"],
                files=given.get("files", []),
                actor=caller.actor,
                hub=HubSource(given["hub_id"], given.get("revision", ""), given.get("hub_token", ""))
                if "hub_id" in given
                else None,
            )
            return turn.keep(Response(AdapterShape(adapter_row(adapter)).data, status=201))


class OneAdapter(APIView):
    actions = {"GET": "adapters.read", "DELETE": "adapters.write"}

    @extend_schema(operation_id="adapters_get", summary="One adapter by id or name", responses=AdapterShape)
    def get(self, request: Request, adapter_id: str) -> Response:
        adapter = adapter_get(org=caller_of(request).org, adapter_id=adapter_id)
        return Response(AdapterShape(adapter_row(adapter)).data)

    @extend_schema(operation_id="adapters_delete", summary="Delete an adapter", responses={204: None})
    def delete(self, request: Request, adapter_id: str) -> Response:
        caller = caller_of(request)
        adapter_delete(org=caller.org, adapter_id=adapter_id, actor=caller.actor)
        return Response(status=204)


class AdapterReportView(APIView):
    actions = {"GET": "adapters.read"}

    @extend_schema(
        operation_id="adapters_report", summary="What the checks of an adapter found", responses=ReportShape
    )
    def get(self, request: Request, adapter_id: str) -> Response:
        adapter = adapter_get(org=caller_of(request).org, adapter_id=adapter_id)
        row = {
            "state": adapter.state,
            "findings": adapter.report.get("findings", []),
            "report": adapter.report,
        }
        return Response(ReportShape(row).data)


class AdapterComplete(APIView):
    actions = {"POST": "adapters.write"}

    @extend_schema(
        operation_id="adapters_complete",
        summary="Say that all files are there; the checks begin",
        request=None,
        responses=AdapterShape,
    )
    def post(self, request: Request, adapter_id: str) -> Response:
        caller = caller_of(request)
        adapter = adapter_complete(org=caller.org, adapter_id=adapter_id, actor=caller.actor)
        return Response(AdapterShape(adapter_row(adapter)).data)
