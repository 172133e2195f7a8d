"""The members of the organisation, and what their keys have spent."""

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from kindling_platform.accounts.selectors import member_list
from kindling_platform.api.caller import caller_of
from kindling_platform.api.member_shapes import MemberShape, member_row
from kindling_platform.api.paging import PAGING, page_of, page_shape
from kindling_platform.common.clock import now
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
        org = caller_of(request).org
        found = page_of(request, member_list(org=org))
        spent = member_spent_map(org=org, moment=now())
        rows = [member_row(member, spent.get(member.user_id)) for member in found.rows]
        return Response({"data": MemberShape(rows, many=True).data, "next_cursor": found.next_cursor or None})
