"""Limits of the organisation, of its members and of its keys."""

from collections.abc import Mapping

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from kindling_platform.accounts.reauthentication import recent_check
from kindling_platform.api.caller import caller_of
from kindling_platform.api.limits import LimitsSetShape, LimitsShape, limits_asked, limits_row
from kindling_platform.keys.limits import limits_are_raised, limits_get, limits_set


class OrganisationLimits(APIView):
    actions = {"GET": "billing.read", "PATCH": "billing.write"}

    @extend_schema(operation_id="limits_get", summary="The organisation's limits", responses=LimitsShape)
    def get(self, request: Request) -> Response:
        return Response(LimitsShape(limits_row(limits_get(org=caller_of(request).org))).data)

    @extend_schema(
        operation_id="limits_set",
        summary="Set the organisation's budgets",
        request=LimitsSetShape,
        responses=LimitsShape,
    )
    def patch(self, request: Request) -> Response:
        caller = caller_of(request)
        values, percents = limits_asked(request.data)
        _raise_check(request, values)
        row = limits_set(org=caller.org, values=values, alert_percents=percents, actor=caller.actor)
        return Response(LimitsShape(limits_row(row)).data)


class KeyLimits(APIView):
    actions = {"GET": "keys.read", "PATCH": "keys.write"}

    @extend_schema(operation_id="keys_limits_get", summary="A key's limits", responses=LimitsShape)
    def get(self, request: Request, key_id: str) -> Response:
        return Response(LimitsShape(limits_row(limits_get(org=caller_of(request).org, key_id=key_id))).data)

    @extend_schema(
        operation_id="keys_limits_set",
        summary="Limit a key and its successors",
        request=LimitsSetShape,
        responses=LimitsShape,
    )
    def patch(self, request: Request, key_id: str) -> Response:
        caller = caller_of(request)
        values, percents = limits_asked(request.data)
        _raise_check(request, values, key_id=key_id)
        row = limits_set(
            org=caller.org, values=values, alert_percents=percents, actor=caller.actor, key_id=key_id
        )
        return Response(LimitsShape(limits_row(row)).data)


class MemberLimits(APIView):
    actions = {"GET": "team.read", "PATCH": "team.write"}

    @extend_schema(operation_id="members_limits_get", summary="A member's limits", responses=LimitsShape)
    def get(self, request: Request, user_id: str) -> Response:
        row = limits_get(org=caller_of(request).org, member_id=user_id)
        return Response(LimitsShape(limits_row(row)).data)

    @extend_schema(
        operation_id="members_limits_set",
        summary="Limit a member over all keys that the member has made",
        request=LimitsSetShape,
        responses=LimitsShape,
    )
    def patch(self, request: Request, user_id: str) -> Response:
        caller = caller_of(request)
        values, percents = limits_asked(request.data)
        _raise_check(request, values, member_id=user_id)
        row = limits_set(
            org=caller.org, values=values, alert_percents=percents, actor=caller.actor, member_id=user_id
        )
        return Response(LimitsShape(limits_row(row)).data)


def _raise_check(request: Request, values: Mapping[str, int | None], **whose: str) -> None:
    """More than before wants somebody who has just confirmed; a key is shown with every request."""
    caller = caller_of(request)
    if caller.key is None and limits_are_raised(limits_get(org=caller.org, **whose), values):
        recent_check(request._request)
