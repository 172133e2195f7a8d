"""Top-ups, cards, automatic top-up, invoices: what the console's billing page does."""

from django.conf import settings
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from kindling_billing.invoicing import invoice_list
from kindling_billing.payment_selectors import auto_topup_get, payment_find, payment_list
from kindling_billing.saved_cards import card_list
from kindling_platform.accounts import paying
from kindling_platform.api.caller import caller_of
from kindling_platform.api.once import ONCE, REPLAYED, once
from kindling_platform.api.paging import PAGING, page_response, page_shape
from kindling_platform.api.payment_shapes import (
    AutoTopUpShape,
    CardShape,
    InvoiceShape,
    PaymentMadeShape,
    PaymentShape,
    PortalShape,
    TopUpShape,
    auto_topup_row,
    card_row,
    invoice_row,
    payment_row,
)
from kindling_platform.common.errors import not_found

NO_WISH = {
    "enabled": False,
    "paused_reason": "",
    "threshold_cents": 0,
    "amount_cents": 0,
    "monthly_cap_cents": 0,
}
RETURN_PATH = "/console/billing/payments/{payment}/"
BILLING_PATH = "/console/billing/"


class Payments(APIView):
    actions = {"GET": "billing.read", "POST": "billing.write"}
    confirmed = ("POST",)

    @extend_schema(
        operation_id="payments_list",
        summary="Your payments, newest first",
        parameters=PAGING,
        responses=page_shape(PaymentShape),
    )
    def get(self, request: Request) -> Response:
        return page_response(
            request, payment_list(owner_id=caller_of(request).org.id), PaymentShape, payment_row
        )

    @extend_schema(
        operation_id="payments_create",
        summary="Begin a top-up; pay it at `url`, or look again while that is empty",
        parameters=[ONCE],
        request=TopUpShape,
        responses={201: PaymentMadeShape},
    )
    def post(self, request: Request) -> Response:
        asked = TopUpShape(data=request.data)
        asked.is_valid(raise_exception=True)
        caller, amount_cents = caller_of(request), asked.validated_data["amount_cents"]
        paying.topup_ready(org=caller.org, amount_cents=amount_cents, actor=caller.actor)
        with once(request) as turn:
            again = turn.reply.data["id"] if turn.reply is not None else ""
            # One that the provider has refused is none, and begins anew.
            if not again or paying.topup_is_refused(payment_id=again):
                again = ""
                call = paying.topup_open(
                    org=caller.org,
                    amount_cents=amount_cents,
                    return_url=f"{settings.KINDLING_ENV.public_url}{RETURN_PATH}",
                    actor=caller.actor,
                )
                turn.keep(_shown(caller.org.id, call.subject))
        if again:  # as it is by now: the first answer had no page yet
            return _shown(caller.org.id, again, headers=REPLAYED)
        paying.topup_send(call)
        return _shown(caller.org.id, call.subject)


class OnePayment(APIView):
    actions = {"GET": "billing.read"}

    @extend_schema(operation_id="payments_get", summary="One payment", responses=PaymentMadeShape)
    def get(self, request: Request, payment_id: str) -> Response:
        return Response(PaymentMadeShape(_made(caller_of(request).org.id, payment_id)).data)


class AutoTopUpView(APIView):
    actions = {"GET": "billing.read", "PUT": "billing.write", "DELETE": "billing.write"}
    confirmed = ("PUT",)

    @extend_schema(
        operation_id="auto_topup_get",
        summary="Whether your card is charged when the balance is low",
        responses=AutoTopUpShape,
    )
    def get(self, request: Request) -> Response:
        wish = auto_topup_get(owner_id=caller_of(request).org.id)
        return Response(AutoTopUpShape(auto_topup_row(wish) if wish else NO_WISH).data)

    @extend_schema(
        operation_id="auto_topup_set",
        summary="Have your card charged when the balance is low",
        request=AutoTopUpShape,
        responses=AutoTopUpShape,
    )
    def put(self, request: Request) -> Response:
        asked = AutoTopUpShape(data=request.data)
        asked.is_valid(raise_exception=True)
        caller, fields = caller_of(request), asked.validated_data
        wish = paying.auto_topup_change(
            org=caller.org,
            enabled=True,
            threshold_cents=fields["threshold_cents"],
            amount_cents=fields["amount_cents"],
            monthly_cap_cents=fields["monthly_cap_cents"],
            actor=caller.actor,
        )
        return Response(AutoTopUpShape(auto_topup_row(wish)).data)

    @extend_schema(
        operation_id="auto_topup_off", summary="Charge nothing by itself any more", responses={204: None}
    )
    def delete(self, request: Request) -> Response:
        caller = caller_of(request)
        paying.auto_topup_off(org=caller.org, actor=caller.actor)
        return Response(status=204)


class Cards(APIView):
    actions = {"GET": "billing.read"}

    @extend_schema(
        operation_id="cards_list",
        summary="Your saved cards; the one with `is_default` is charged",
        parameters=PAGING,
        responses=page_shape(CardShape),
    )
    def get(self, request: Request) -> Response:
        return page_response(request, card_list(owner_id=caller_of(request).org.id), CardShape, card_row)


class OneCard(APIView):
    actions = {"DELETE": "billing.write"}
    confirmed = ("DELETE",)

    @extend_schema(operation_id="cards_remove", summary="Remove a saved card", responses={204: None})
    def delete(self, request: Request, card_id: str) -> Response:
        caller = caller_of(request)
        if not card_list(owner_id=caller.org.id).filter(id=card_id).exists():
            raise not_found("card")
        paying.card_remove(org=caller.org, card_id=card_id, actor=caller.actor)
        return Response(status=204)


class Invoices(APIView):
    actions = {"GET": "billing.read"}

    @extend_schema(
        operation_id="invoices_list",
        summary="Your invoices, newest month first; drafts have no number",
        parameters=PAGING,
        responses=page_shape(InvoiceShape),
    )
    def get(self, request: Request) -> Response:
        rows = invoice_list(owner_id=caller_of(request).org.id)
        return page_response(request, rows, InvoiceShape, invoice_row, order=("month", "id"))


class InvoicePay(APIView):
    actions = {"POST": "billing.pay"}

    @extend_schema(
        operation_id="invoices_pay",
        summary="Begin to pay an invoice, also while suspended; pay it at `url`, or look again while that is empty",
        request=None,
        responses={201: PaymentMadeShape},
    )
    def post(self, request: Request, invoice_id: str) -> Response:
        caller = caller_of(request)
        if not invoice_list(owner_id=caller.org.id).filter(id=invoice_id).exists():
            raise not_found("invoice")
        call = paying.invoice_pay_begin(
            org=caller.org,
            invoice_id=invoice_id,
            return_url=f"{settings.KINDLING_ENV.public_url}{RETURN_PATH}",
            actor=caller.actor,
        )
        return _shown(caller.org.id, call.subject)


class Portal(APIView):
    actions = {"POST": "billing.pay"}

    @extend_schema(
        operation_id="billing_portal",
        summary="A page of the payment provider for cards, address and tax id; it can be opened for some minutes",
        request=None,
        responses=PortalShape,
    )
    def post(self, request: Request) -> Response:
        caller = caller_of(request)
        url = paying.portal_begin(
            org=caller.org,
            return_url=f"{settings.KINDLING_ENV.public_url}{BILLING_PATH}",
            actor=caller.actor,
        )
        return Response(PortalShape({"url": url}).data, headers={"Cache-Control": "no-store"})


def _shown(owner_id: str, payment_id: str, *, headers: dict[str, str] | None = None) -> Response:
    return Response(PaymentMadeShape(_made(owner_id, payment_id)).data, status=201, headers=headers)


def _made(owner_id: str, payment_id: str) -> dict[str, object]:
    found = payment_find(owner_id=owner_id, payment_id=payment_id)
    if found is None:
        raise not_found("payment")
    is_open = found.payment.state == "open"
    return {**payment_row(found.payment), "url": found.url if is_open else ""}
