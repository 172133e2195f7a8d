"""Webhooks: where an organisation hears of what happens, and what was sent there."""

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from kindling_platform.api.caller import caller_of
from kindling_platform.api.once import ONCE_SHOWN, once
from kindling_platform.api.paging import PAGING, page_response, page_shape
from kindling_platform.api.webhook_shapes import (
    DeliveryShape,
    OneDeliveryShape,
    WebhookChangeShape,
    WebhookCreateShape,
    WebhookMadeShape,
    WebhookShape,
    delivery_row,
    one_delivery_row,
    webhook_row,
)
from kindling_platform.hooks.places import place_check
from kindling_platform.hooks.selectors import delivery_get, delivery_list, endpoint_get, endpoint_list
from kindling_platform.hooks.services import (
    Wanted,
    delivery_again,
    endpoint_change,
    endpoint_create,
    endpoint_delete,
    endpoint_rotate,
    endpoint_test,
)

NO_STORE = {"Cache-Control": "no-store"}


class Webhooks(APIView):
    actions = {"GET": "webhooks.read", "POST": "webhooks.write"}
    confirmed = ("POST",)

    @extend_schema(
        operation_id="webhooks_list",
        summary="Your webhooks",
        parameters=PAGING,
        responses=page_shape(WebhookShape),
    )
    def get(self, request: Request) -> Response:
        return page_response(request, endpoint_list(org=caller_of(request).org), WebhookShape, webhook_row)

    @extend_schema(
        operation_id="webhooks_create",
        summary="Have events sent to an address",
        description="Each is signed with the `secret` of the answer, as the Standard Webhooks have it.",
        parameters=[ONCE_SHOWN],
        request=WebhookCreateShape,
        responses={201: WebhookMadeShape},
    )
    def post(self, request: Request) -> Response:
        asked = WebhookCreateShape(data=request.data)
        asked.is_valid(raise_exception=True)
        caller, given = caller_of(request), dict(asked.validated_data)
        # It asks the network, so it comes before the transaction of `once`.
        place = place_check(given.pop("url"))
        with once(request) as turn:
            endpoint, secret = endpoint_create(
                org=caller.org, place=place, wanted=Wanted(**given), actor=caller.actor
            )
            turn.keep_id(endpoint.id)
        row = WebhookMadeShape({**webhook_row(endpoint), "secret": secret}).data
        return Response(row, status=201, headers=NO_STORE)


class OneWebhook(APIView):
    actions = {"GET": "webhooks.read", "PATCH": "webhooks.write", "DELETE": "webhooks.write"}
    confirmed = ("PATCH",)

    @extend_schema(
        operation_id="webhooks_get", summary="One webhook, without its secret", responses=WebhookShape
    )
    def get(self, request: Request, webhook_id: str) -> Response:
        found = endpoint_get(org=caller_of(request).org, endpoint_id=webhook_id)
        return Response(WebhookShape(webhook_row(found)).data)

    @extend_schema(
        operation_id="webhooks_change",
        summary="Change a webhook, or switch it on or off",
        description="What was not sent to one that is switched off is given up.",
        request=WebhookChangeShape,
        responses=WebhookShape,
    )
    def patch(self, request: Request, webhook_id: str) -> Response:
        asked = WebhookChangeShape(data=request.data)
        asked.is_valid(raise_exception=True)
        caller, given = caller_of(request), dict(asked.validated_data)
        endpoint = endpoint_get(org=caller.org, endpoint_id=webhook_id)
        url = given.pop("url", endpoint.url)
        place = place_check(url) if url != endpoint.url else None
        changed = endpoint_change(
            org=caller.org, endpoint_id=webhook_id, wanted=Wanted(place=place, **given), actor=caller.actor
        )
        return Response(WebhookShape(webhook_row(changed)).data)

    @extend_schema(operation_id="webhooks_delete", summary="Delete a webhook", responses={204: None})
    def delete(self, request: Request, webhook_id: str) -> Response:
        caller = caller_of(request)
        endpoint_delete(org=caller.org, endpoint_id=webhook_id, actor=caller.actor)
        return Response(status=204)


class WebhookRotate(APIView):
    actions = {"POST": "webhooks.write"}
    confirmed = ("POST",)

    @extend_schema(
        operation_id="webhooks_rotate",
        summary="Make a new secret; for 24 hours the old one signs as well",
        parameters=[ONCE_SHOWN],
        request=None,
        responses=WebhookMadeShape,
    )
    def post(self, request: Request, webhook_id: str) -> Response:
        caller = caller_of(request)
        with once(request) as turn:
            endpoint, secret = endpoint_rotate(org=caller.org, endpoint_id=webhook_id, actor=caller.actor)
            turn.keep_id(endpoint.id)
        row = WebhookMadeShape({**webhook_row(endpoint), "secret": secret}).data
        return Response(row, headers=NO_STORE)


class WebhookTest(APIView):
    actions = {"POST": "webhooks.write"}

    @extend_schema(
        operation_id="webhooks_test",
        summary="Send an event of the kind webhook.test",
        request=None,
        responses={202: DeliveryShape},
    )
    def post(self, request: Request, webhook_id: str) -> Response:
        caller = caller_of(request)
        made = endpoint_test(org=caller.org, endpoint_id=webhook_id, actor=caller.actor)
        return Response(DeliveryShape(delivery_row(made)).data, status=202)


class WebhookDeliveries(APIView):
    actions = {"GET": "webhooks.read"}

    @extend_schema(
        operation_id="webhook_deliveries_list",
        summary="What was sent to a webhook in the last 30 days, or will be",
        parameters=PAGING,
        responses=page_shape(DeliveryShape),
    )
    def get(self, request: Request, webhook_id: str) -> Response:
        rows = delivery_list(org=caller_of(request).org, endpoint_id=webhook_id)
        return page_response(request, rows, DeliveryShape, delivery_row)


class OneWebhookDelivery(APIView):
    actions = {"GET": "webhooks.read"}

    @extend_schema(
        operation_id="webhook_deliveries_get",
        summary="What was sent, and what was answered",
        responses=OneDeliveryShape,
    )
    def get(self, request: Request, webhook_id: str, delivery_id: str) -> Response:
        found = delivery_get(org=caller_of(request).org, endpoint_id=webhook_id, delivery_id=delivery_id)
        return Response(OneDeliveryShape(one_delivery_row(found)).data)


class WebhookDeliveryAgain(APIView):
    actions = {"POST": "webhooks.write"}

    @extend_schema(
        operation_id="webhook_deliveries_resend",
        summary="Send an event again, under the same id",
        request=None,
        responses={202: DeliveryShape},
    )
    def post(self, request: Request, webhook_id: str, delivery_id: str) -> Response:
        caller = caller_of(request)
        again = delivery_again(
            org=caller.org, endpoint_id=webhook_id, delivery_id=delivery_id, actor=caller.actor
        )
        return Response(DeliveryShape(delivery_row(again)).data, status=202)
