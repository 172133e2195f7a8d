"""Invitations to the organisation: list, make, withdraw."""

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from kindling_platform.accounts.invitation_letters import invitation_send, invitation_url
from kindling_platform.accounts.invitations import invitation_create, invitation_list, invitation_withdraw
from kindling_platform.api.caller import caller_of
from kindling_platform.api.member_shapes import (
    InvitationMadeShape,
    InvitationShape,
    InviteShape,
    invitation_row,
)
from kindling_platform.api.once import ONCE_SHOWN, once
from kindling_platform.api.paging import PAGING, page_response, page_shape


class Invitations(APIView):
    actions = {"GET": "team.read", "POST": "team.write"}
    confirmed = ("POST",)

    @extend_schema(
        operation_id="invitations_list",
        summary="Invitations that nobody has accepted yet, newest first",
        parameters=PAGING,
        responses=page_shape(InvitationShape),
    )
    def get(self, request: Request) -> Response:
        return page_response(
            request, invitation_list(org=caller_of(request).org), InvitationShape, invitation_row
        )

    @extend_schema(
        operation_id="invitations_create",
        summary="Invite an address; a letter goes there, and the answer has the link",
        parameters=[ONCE_SHOWN],
        request=InviteShape,
        responses={201: InvitationMadeShape},
    )
    def post(self, request: Request) -> Response:
        asked = InviteShape(data=request.data)
        asked.is_valid(raise_exception=True)
        caller = caller_of(request)
        with once(request) as turn:
            made, text = invitation_create(
                org=caller.org, actor=caller.actor, may_own=caller.is_owner, **asked.validated_data
            )
            turn.keep_id(made.id)
        row = {
            **invitation_row(made),
            "url": invitation_url(text),
            "was_sent": invitation_send(invitation=made, text=text),
        }
        return Response(InvitationMadeShape(row).data, status=201, headers={"Cache-Control": "no-store"})


class OneInvitation(APIView):
    actions = {"DELETE": "team.write"}

    @extend_schema(
        operation_id="invitations_withdraw", summary="Withdraw an invitation", responses={204: None}
    )
    def delete(self, request: Request, invitation_id: str) -> Response:
        caller = caller_of(request)
        invitation_withdraw(org=caller.org, invitation_id=invitation_id, actor=caller.actor)
        return Response(status=204)
