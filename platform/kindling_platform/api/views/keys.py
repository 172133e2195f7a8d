"""API keys."""

from datetime import timedelta

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from kindling_platform.api.caller import caller_of
from kindling_platform.api.once import ONCE_SHOWN, once
from kindling_platform.api.paging import PAGING, page_response, page_shape
from kindling_platform.api.rows import key_row
from kindling_platform.api.shapes import KeyCreateShape, KeyMadeShape, KeyRotateShape, KeyShape
from kindling_platform.keys.selectors import key_get, key_list
from kindling_platform.keys.services import key_create, key_revoke, key_rotate


class Keys(APIView):
    actions = {"GET": "keys.read", "POST": "keys.write"}
    confirmed = ("POST",)

    @extend_schema(
        operation_id="keys_list", summary="Your keys", parameters=PAGING, responses=page_shape(KeyShape)
    )
    def get(self, request: Request) -> Response:
        return page_response(request, key_list(org=caller_of(request).org), KeyShape, key_row)

    @extend_schema(
        operation_id="keys_create",
        summary="Make a key",
        parameters=[ONCE_SHOWN],
        request=KeyCreateShape,
        responses={201: KeyMadeShape},
    )
    def post(self, request: Request) -> Response:
        asked = KeyCreateShape(data=request.data)
        asked.is_valid(raise_exception=True)
        caller = caller_of(request)
        with once(request) as turn:
            key, text = key_create(
                org=caller.org, actor=caller.actor, may_operate=caller.may_operate, **asked.validated_data
            )
            turn.keep_id(key.id)
        row = KeyMadeShape({**key_row(key), "key": text}).data
        return Response(row, status=201, headers={"Cache-Control": "no-store"})


class OneKey(APIView):
    actions = {"GET": "keys.read", "DELETE": "keys.write"}

    @extend_schema(operation_id="keys_get", summary="One key, without its secret", responses=KeyShape)
    def get(self, request: Request, key_id: str) -> Response:
        return Response(KeyShape(key_row(key_get(org=caller_of(request).org, key_id=key_id))).data)

    @extend_schema(operation_id="keys_revoke", summary="Revoke a key", responses={204: None})
    def delete(self, request: Request, key_id: str) -> Response:
        caller = caller_of(request)
        key_revoke(org=caller.org, key_id=key_id, actor=caller.actor)
        return Response(status=204)


class KeyRotate(APIView):
    actions = {"POST": "keys.write"}
    confirmed = ("POST",)

    @extend_schema(
        operation_id="keys_rotate",
        summary="Make a successor of a key, which goes on for a while and then expires",
        parameters=[ONCE_SHOWN],
        request=KeyRotateShape,
        responses={201: KeyMadeShape},
    )
    def post(self, request: Request, key_id: str) -> Response:
        asked = KeyRotateShape(data=request.data)
        asked.is_valid(raise_exception=True)
        caller = caller_of(request)
        overlap = timedelta(seconds=asked.validated_data["overlap_s"])
        with once(request) as turn:
            key, text = key_rotate(
                org=caller.org,
                key_id=key_id,
                overlap=overlap,
                actor=caller.actor,
                may_operate=caller.may_operate,
            )
            turn.keep_id(key.id)
        row = KeyMadeShape({**key_row(key), "key": text}).data
        return Response(row, status=201, headers={"Cache-Control": "no-store"})
