"""Every organisation: the list, one of them, and stopping it."""

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from kindling_billing.selectors import balance_get, balance_map, spendable_map
from kindling_billing.terms import owners_suspended, terms_get
from kindling_platform.accounts.models import Organisation
from kindling_platform.accounts.selectors import member_list, organisation_find, organisation_get
from kindling_platform.accounts.stops import suspension_find
from kindling_platform.accounts.suspension import organisation_resume, organisation_suspend
from kindling_platform.api.asked import word_asked
from kindling_platform.api.caller import caller_of
from kindling_platform.api.operator_shapes.organisations import (
    OneOperatedOrganisationShape,
    OperatedOrganisationShape,
    ReasonShape,
    one_organisation_row,
    organisation_row,
)
from kindling_platform.api.paging import PAGING, page_of, page_shape
from kindling_platform.common.clock import now
from kindling_platform.deployments.gpu_reports import gpu_time_spent
from kindling_platform.usage.selectors import usage_totals
from kindling_platform.usage.steps import month_floor

QUERY = OpenApiParameter("q", str, description="A part of the slug or the name.")


class Organisations(APIView):
    actions = {"GET": "operator.read"}

    @extend_schema(
        operation_id="operator_organisations_list",
        summary="Every organisation with its balance and state, newest first",
        parameters=[QUERY, *PAGING],
        responses=page_shape(OperatedOrganisationShape),
    )
    def get(self, request: Request) -> Response:
        found = page_of(request, organisation_find(query=word_asked(request, "q")))
        ids = [org.id for org in found.rows]
        balances, unpaid = balance_map(owner_ids=ids), owners_suspended(owner_ids=ids)
        rows = [
            organisation_row(org, balance=balances.get(org.id), is_unpaid=org.id in unpaid)
            for org in found.rows
        ]
        data = OperatedOrganisationShape(rows, many=True).data
        return Response({"data": data, "next_cursor": found.next_cursor or None})


class OneOrganisation(APIView):
    actions = {"GET": "operator.read"}

    @extend_schema(
        operation_id="operator_organisations_get",
        summary="One organisation and where it stands",
        responses=OneOperatedOrganisationShape,
    )
    def get(self, request: Request, organisation_id: str) -> Response:
        return Response(_one(organisation_get(organisation_id=organisation_id)))


class OrganisationSuspend(APIView):
    actions = {"POST": "operator.write"}

    @extend_schema(
        operation_id="operator_organisations_suspend",
        summary="Stop an organisation's requests and changes; it may still look, and pay",
        request=ReasonShape,
        responses=OneOperatedOrganisationShape,
    )
    def post(self, request: Request, organisation_id: str) -> Response:
        asked = ReasonShape(data=request.data)
        asked.is_valid(raise_exception=True)
        org = organisation_suspend(
            org=organisation_get(organisation_id=organisation_id),
            reason=asked.validated_data["reason"],
            actor=caller_of(request).actor,
        )
        return Response(_one(org))


class OrganisationResume(APIView):
    actions = {"POST": "operator.write"}

    @extend_schema(
        operation_id="operator_organisations_resume",
        summary="Lift the operator's suspension; one for an unpaid invoice stays until that is paid",
        request=ReasonShape,
        responses=OneOperatedOrganisationShape,
    )
    def post(self, request: Request, organisation_id: str) -> Response:
        asked = ReasonShape(data=request.data)
        asked.is_valid(raise_exception=True)
        org = organisation_resume(
            org=organisation_get(organisation_id=organisation_id),
            reason=asked.validated_data["reason"],
            actor=caller_of(request).actor,
        )
        return Response(_one(org))


def _one(org: Organisation) -> dict[str, object]:
    moment = now()
    row = one_organisation_row(
        org,
        balance=balance_get(owner_id=org.id),
        spendable=spendable_map(owner_ids=[org.id]),
        terms=terms_get(owner_id=org.id),
        suspension=suspension_find(org=org),
        members=member_list(org=org).count(),
        month=usage_totals(org=org, start=month_floor(moment), end=moment),
        gpu_month_picousd=gpu_time_spent(org=org, start=month_floor(moment), end=moment),
    )
    return dict(OneOperatedOrganisationShape(row).data)
