"""Who am I: what a client asks first."""

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from kindling_platform.api.caller import caller_of
from kindling_platform.api.permissions import ANY_CALLER
from kindling_platform.api.rows import organisation_row, plain_row
from kindling_platform.api.shapes import MeShape


class Me(APIView):
    actions = {"GET": ANY_CALLER}

    @extend_schema(operation_id="me_get", summary="The organisation and the caller", responses=MeShape)
    def get(self, request: Request) -> Response:
        caller = caller_of(request)
        membership = caller.membership
        row = {
            "organisation": organisation_row(caller.org),
            "user": plain_row(membership.user, "id", "email", "name") if membership else None,
            "role": membership.role if membership else None,
            "key_id": caller.key.id if caller.key else None,
            "scopes": sorted(caller.scopes),
        }
        return Response(MeShape(row).data)
