"""Credit that the operator gives."""

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from kindling_billing.credits import grant_list
from kindling_platform.accounts.credit_once import credit_give_once
from kindling_platform.accounts.once import HEADER
from kindling_platform.accounts.selectors import organisation_get
from kindling_platform.api.caller import caller_of
from kindling_platform.api.money import usd_asked
from kindling_platform.api.operator_shapes.organisations import GrantGiveShape, GrantShape, grant_row
from kindling_platform.api.paging import PAGING, page_response, page_shape

ONCE = OpenApiParameter(
    HEADER,
    str,
    OpenApiParameter.HEADER,
    required=True,
    description="Credit is given once for it: the same request again is answered with what the first one gave.",
)


class Grants(APIView):
    actions = {"GET": "operator.read", "POST": "operator.write"}

    @extend_schema(
        operation_id="operator_grants_list",
        summary="An organisation's credit, newest first: given, bought and returned",
        parameters=PAGING,
        responses=page_shape(GrantShape),
    )
    def get(self, request: Request, organisation_id: str) -> Response:
        org = organisation_get(organisation_id=organisation_id)
        return page_response(request, grant_list(owner_id=org.id), GrantShape, grant_row)

    @extend_schema(
        operation_id="operator_grants_give",
        summary="Give an organisation credit; answers 200 where it was given before",
        parameters=[ONCE],
        request=GrantGiveShape,
        responses={201: GrantShape, 200: GrantShape},
    )
    def post(self, request: Request, organisation_id: str) -> Response:
        asked = GrantGiveShape(data=request.data)
        asked.is_valid(raise_exception=True)
        given = credit_give_once(
            org=organisation_get(organisation_id=organisation_id),
            amount_picousd=usd_asked(asked.validated_data["amount_usd"], param="amount_usd"),
            memo=asked.validated_data["memo"],
            expires_at=asked.validated_data["expires_at"],
            idempotency_key=request.headers.get(HEADER, ""),
            actor=caller_of(request).actor,
        )
        row = GrantShape(grant_row(given.grant)).data
        if given.is_replayed:
            return Response(row, headers={"Idempotent-Replayed": "true"})
        return Response(row, status=201)
