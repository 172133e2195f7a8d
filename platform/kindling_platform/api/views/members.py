"""The members of the organisation, and what their keys have spent."""

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from kindling_platform.accounts.second_factors import factor_holders
from kindling_platform.accounts.selectors import member_list
from kindling_platform.accounts.team import member_get, member_role_set
from kindling_platform.api.caller import caller_of
from kindling_platform.api.member_shapes import MemberShape, RoleShape, member_row
from kindling_platform.api.paging import PAGING, page_of, page_shape
from kindling_platform.common.clock import now
from kindling_platform.common.errors import KindlingError
from kindling_platform.keys.leaving import member_remove
from kindling_platform.usage.bounds import member_spent_map


class Members(APIView):
    actions = {"GET": "team.read"}

    @extend_schema(
        operation_id="members_list",
        summary="Members of the organisation, newest first, and what the keys that they made have spent",
        parameters=PAGING,
        responses=page_shape(MemberShape),
    )
    def get(self, request: Request) -> Response:
        caller = caller_of(request)
        org = caller.org
        found = page_of(request, member_list(org=org))
        spent = member_spent_map(org=org, moment=now())
        people = [member.user_id for member in found.rows]
        holders = factor_holders(people) if caller.may("team.write") else None
        rows = [member_row(member, spent.get(member.user_id), holders=holders) for member in found.rows]
        return Response({"data": MemberShape(rows, many=True).data, "next_cursor": found.next_cursor or None})


class OneMember(APIView):
    actions = {"PATCH": "team.write", "DELETE": "team.write"}
    confirmed = ("PATCH",)

    @extend_schema(
        operation_id="members_role_set",
        summary="Change a member's role",
        request=RoleShape,
        responses=MemberShape,
    )
    def patch(self, request: Request, user_id: str) -> Response:
        member_get(org=caller_of(request).org, user_id=user_id)
        asked = RoleShape(data=request.data)
        asked.is_valid(raise_exception=True)
        caller = caller_of(request)
        member = member_role_set(
            org=caller.org,
            user_id=user_id,
            actor=caller.actor,
            may_own=caller.is_owner,
            **asked.validated_data,
        )
        spent = member_spent_map(org=caller.org, moment=now())
        row = member_row(member, spent.get(user_id), holders=factor_holders([user_id]))
        return Response(MemberShape(row).data)

    @extend_schema(
        operation_id="members_remove",
        summary="Remove a member, and revoke the keys that the member has made",
        parameters=[
            OpenApiParameter(
                "keys", OpenApiTypes.STR, enum=["revoke", "keep"], description="What becomes of those keys."
            )
        ],
        responses={204: None},
    )
    def delete(self, request: Request, user_id: str) -> Response:
        keys = request.query_params.get("keys", "revoke")
        if keys not in ("revoke", "keep"):
            raise KindlingError("keys_invalid", "Say keys=revoke or keys=keep.", param="keys")
        caller = caller_of(request)
        member_remove(
            org=caller.org,
            user_id=user_id,
            actor=caller.actor,
            keep_keys=keys == "keep",
            may_own=caller.is_owner,
        )
        return Response(status=204)
