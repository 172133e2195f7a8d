"""An organisation's payments, and giving one back."""

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from kindling_billing.payment_selectors import payment_list
from kindling_platform.accounts.once import HEADER
from kindling_platform.accounts.refund_once import refund_give_once
from kindling_platform.accounts.selectors import organisation_get
from kindling_platform.api.caller import caller_of
from kindling_platform.api.operator_shapes.refunds import (
    OperatedPaymentShape,
    RefundGiveShape,
    RefundShape,
    operated_payment_row,
    refund_row,
)
from kindling_platform.api.paging import PAGING, page_response, page_shape

ONCE = OpenApiParameter(
    HEADER,
    str,
    OpenApiParameter.HEADER,
    required=True,
    description="A refund is given once for it: the same request again is answered with what became of the first.",
)


class OrganisationPayments(APIView):
    actions = {"GET": "operator.read"}

    @extend_schema(
        operation_id="operator_payments_list",
        summary="An organisation's payments, newest first",
        parameters=PAGING,
        responses=page_shape(OperatedPaymentShape),
    )
    def get(self, request: Request, organisation_id: str) -> Response:
        org = organisation_get(organisation_id=organisation_id)
        rows = payment_list(owner_id=org.id)
        return page_response(request, rows, OperatedPaymentShape, operated_payment_row)


class Refunds(APIView):
    actions = {"POST": "operator.write"}

    @extend_schema(
        operation_id="operator_refunds_give",
        summary="Give a payment back to the card that paid, in part or whole; answers 200 where it was before",
        parameters=[ONCE],
        request=RefundGiveShape,
        responses={201: RefundShape, 200: RefundShape},
    )
    def post(self, request: Request, organisation_id: str) -> Response:
        asked = RefundGiveShape(data=request.data)
        asked.is_valid(raise_exception=True)
        given = refund_give_once(
            org=organisation_get(organisation_id=organisation_id),
            payment_id=asked.validated_data["payment_id"],
            amount_cents=asked.validated_data["amount_cents"],
            reason=asked.validated_data["reason"],
            idempotency_key=request.headers.get(HEADER, ""),
            actor=caller_of(request).actor,
        )
        row = RefundShape(refund_row(given)).data
        if given.is_repeated:
            return Response(row, headers={"Idempotent-Replayed": "true"})
        return Response(row, status=201)
