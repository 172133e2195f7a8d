"""Price plans, and what is agreed with an organisation: its plan from a day on, and how it pays."""

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from kindling_billing.plans import plan_list, plan_owner_map, plan_term_list
from kindling_billing.terms import terms_get
from kindling_platform.accounts.selectors import organisation_get
from kindling_platform.accounts.terms import payment_terms_set, price_plan_assign, price_plan_make
from kindling_platform.api.caller import caller_of
from kindling_platform.api.money import usd_asked
from kindling_platform.api.once import ONCE, once
from kindling_platform.api.operator_shapes.terms import (
    PlanAssignShape,
    PlanMakeShape,
    PlanShape,
    PlanTermShape,
    TermsChangeShape,
    TermsShape,
    plan_row,
    plan_term_row,
    terms_row,
)
from kindling_platform.api.paging import PAGING, page_response, page_shape


class Plans(APIView):
    actions = {"GET": "operator.read", "POST": "operator.write"}

    @extend_schema(
        operation_id="operator_plans_list",
        summary="Price plans and who is on them, newest first",
        parameters=PAGING,
        responses=page_shape(PlanShape),
    )
    def get(self, request: Request) -> Response:
        owners = plan_owner_map()
        return page_response(request, plan_list(), PlanShape, lambda plan: plan_row(plan, owners))

    @extend_schema(
        operation_id="operator_plans_create",
        summary="Make a plan; until it has prices, those on it pay what everybody pays",
        parameters=[ONCE],
        request=PlanMakeShape,
        responses={201: PlanShape},
    )
    def post(self, request: Request) -> Response:
        asked = PlanMakeShape(data=request.data)
        asked.is_valid(raise_exception=True)
        with once(request) as turn:
            if turn.reply is not None:
                return turn.reply
            plan = price_plan_make(name=asked.validated_data["name"], actor=caller_of(request).actor)
            return turn.keep(Response(PlanShape(plan_row(plan, {})).data, status=201))


class OrganisationPlans(APIView):
    actions = {"GET": "operator.read", "POST": "operator.write"}

    @extend_schema(
        operation_id="operator_plan_terms_list",
        summary="The plans that an organisation was, is and will be on, newest first",
        parameters=PAGING,
        responses=page_shape(PlanTermShape),
    )
    def get(self, request: Request, organisation_id: str) -> Response:
        org = organisation_get(organisation_id=organisation_id)
        rows = plan_term_list(owner_id=org.id)
        return page_response(request, rows, PlanTermShape, plan_term_row, order=("valid_from", "id"))

    @extend_schema(
        operation_id="operator_plan_terms_create",
        summary="Put an organisation on a plan from a moment on",
        parameters=[ONCE],
        request=PlanAssignShape,
        responses={201: PlanTermShape},
    )
    def post(self, request: Request, organisation_id: str) -> Response:
        asked = PlanAssignShape(data=request.data)
        asked.is_valid(raise_exception=True)
        with once(request) as turn:
            if turn.reply is not None:
                return turn.reply
            term = price_plan_assign(
                org=organisation_get(organisation_id=organisation_id),
                actor=caller_of(request).actor,
                **asked.validated_data,
            )
            return turn.keep(Response(PlanTermShape(plan_term_row(term)).data, status=201))


class OrganisationTerms(APIView):
    actions = {"GET": "operator.read", "PATCH": "operator.write"}

    @extend_schema(
        operation_id="operator_terms_get", summary="How an organisation pays", responses=TermsShape
    )
    def get(self, request: Request, organisation_id: str) -> Response:
        org = organisation_get(organisation_id=organisation_id)
        return Response(TermsShape(terms_row(terms_get(owner_id=org.id))).data)

    @extend_schema(
        operation_id="operator_terms_set",
        summary="Change how an organisation pays; what is left out stays",
        request=TermsChangeShape,
        responses=TermsShape,
    )
    def patch(self, request: Request, organisation_id: str) -> Response:
        asked = TermsChangeShape(data=request.data)
        asked.is_valid(raise_exception=True)
        changes = dict(asked.validated_data)
        if "credit_limit_usd" in changes:
            text = changes.pop("credit_limit_usd")
            changes["credit_limit_picousd"] = usd_asked(text, param="credit_limit_usd")
        org = organisation_get(organisation_id=organisation_id)
        terms = payment_terms_set(org=org, actor=caller_of(request).actor, **changes)
        return Response(TermsShape(terms_row(terms)).data)
