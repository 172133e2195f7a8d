"""Limits of an organisation as the operator sets them: its rates, and its budgets."""

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from kindling_platform.accounts.selectors import organisation_get
from kindling_platform.api.caller import caller_of
from kindling_platform.api.limits import LimitsSetShape, LimitsShape, limits_asked, limits_row
from kindling_platform.keys.limits import limits_get, limits_set


class OrganisationLimits(APIView):
    actions = {"GET": "operator.read", "PATCH": "operator.write"}

    @extend_schema(
        operation_id="operator_limits_get",
        summary="An organisation's limits; null is the installation's default for a rate, and no budget",
        responses=LimitsShape,
    )
    def get(self, request: Request, organisation_id: str) -> Response:
        org = organisation_get(organisation_id=organisation_id)
        return Response(LimitsShape(limits_row(limits_get(org=org))).data)

    @extend_schema(
        operation_id="operator_limits_set",
        summary="Set an organisation's rates and budgets; what is left out stays",
        request=LimitsSetShape,
        responses=LimitsShape,
    )
    def patch(self, request: Request, organisation_id: str) -> Response:
        values, percents = limits_asked(request.data)
        row = limits_set(
            org=organisation_get(organisation_id=organisation_id),
            values=values,
            alert_percents=percents,
            actor=caller_of(request).actor,
            by_operator=True,
        )
        return Response(LimitsShape(limits_row(row)).data)
