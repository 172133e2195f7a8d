"""The organisation as a whole: what it asks of its members, and deleting it."""

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from kindling_billing.money import PICO_PER_CENT
from kindling_platform.accounts.reauthentication import reauthentication_check
from kindling_platform.accounts.second_factors import mfa_required_set
from kindling_platform.api.asked import word_asked
from kindling_platform.api.caller import caller_of
from kindling_platform.api.money import usd_asked
from kindling_platform.api.rows import organisation_row
from kindling_platform.api.shapes import OrganisationChangeShape, OrganisationShape
from kindling_platform.departures.organisations import organisation_delete

CONFIRM = OpenApiParameter(
    "confirm", OpenApiTypes.STR, required=True, description="The organisation's slug, to confirm that it is meant."
)  # fmt: skip
GIVE_UP = OpenApiParameter(
    "give_up_usd",
    OpenApiTypes.STR,
    description="How many dollars of money that was paid in are given up, such as 12.34; ask for a refund first.",
)


class OneOrganisation(APIView):
    actions = {"PATCH": "team.write", "DELETE": "organisation.delete"}
    confirmed = ("PATCH",)

    @extend_schema(
        operation_id="organisation_change",
        summary="Ask a second factor of every member, or no more",
        request=OrganisationChangeShape,
        responses=OrganisationShape,
    )
    def patch(self, request: Request) -> Response:
        asked = OrganisationChangeShape(data=request.data)
        asked.is_valid(raise_exception=True)
        caller = caller_of(request)
        org = mfa_required_set(
            org=caller.org,
            required=asked.validated_data["mfa_required"],
            # A key speaks for whoever made it.
            person_id=caller.membership.user_id if caller.membership else caller.actor.maker_id,
            actor=caller.actor,
        )
        return Response(OrganisationShape(organisation_row(org)).data)

    @extend_schema(
        operation_id="organisation_delete",
        summary="Delete the organisation for good: its keys are refused within a second, its books stay",
        parameters=[CONFIRM, GIVE_UP],
        responses={204: None},
    )
    def delete(self, request: Request) -> Response:
        caller = caller_of(request)
        if caller.key is None:
            # A key is shown with every request; a session may have been left open.
            reauthentication_check(request._request)
        given_up = usd_asked(word_asked(request, "give_up_usd") or "0", param="give_up_usd")
        organisation_delete(
            org=caller.org,
            typed=word_asked(request, "confirm"),
            actor=caller.actor,
            give_up_cents=max(0, given_up) // PICO_PER_CENT,
        )
        return Response(status=204)
