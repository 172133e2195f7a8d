"""Proofs of the books: what was checked and found, and asking for one."""

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from kindling_billing.proofs import proof_find
from kindling_platform.accounts.decisions import proof_ask
from kindling_platform.api.caller import caller_of
from kindling_platform.api.operator_shapes.proofs import ProofAskedShape, ProofShape, proof_row
from kindling_platform.api.paging import PAGING, page_response, page_shape


class Proofs(APIView):
    actions = {"GET": "operator.read", "POST": "operator.write"}

    @extend_schema(
        operation_id="operator_proofs_list",
        summary="Proofs of the books and what they found, newest first",
        parameters=PAGING,
        responses=page_shape(ProofShape),
    )
    def get(self, request: Request) -> Response:
        return page_response(request, proof_find(), ProofShape, proof_row, order=("run_at", "id"))

    @extend_schema(
        operation_id="operator_proofs_ask",
        summary="Have the books proved now rather than within the hour",
        request=None,
        responses={202: ProofAskedShape},
    )
    def post(self, request: Request) -> Response:
        proof_ask(actor=caller_of(request).actor)
        return Response(ProofAskedShape({"asked": True}).data, status=202)
