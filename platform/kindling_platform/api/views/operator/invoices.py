"""Invoices of all organisations, those that are unpaid, and giving one up."""

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from kindling_billing.invoicing import invoice_find
from kindling_billing.models import Invoice
from kindling_billing.risk import invoice_ages, invoice_list_unpaid
from kindling_platform.accounts.decisions import invoice_give_up
from kindling_platform.accounts.selectors import organisation_id_of
from kindling_platform.api.asked import choice_asked, word_asked
from kindling_platform.api.caller import caller_of
from kindling_platform.api.operator_shapes.invoices import (
    NoteShape,
    OperatedInvoiceShape,
    UnpaidShape,
    age_row,
    operated_invoice_row,
)
from kindling_platform.api.paging import PAGING, page_response, page_shape
from kindling_platform.common.clock import now

STATES = [str(state) for state in Invoice.State.values]
ORGANISATION = OpenApiParameter("organisation", str, description="A slug or an id.")
STATE = OpenApiParameter("state", str, enum=STATES)


class OperatedInvoices(APIView):
    actions = {"GET": "operator.read"}

    @extend_schema(
        operation_id="operator_invoices_list",
        summary="Everybody's invoices, newest first",
        parameters=[ORGANISATION, STATE, *PAGING],
        responses=page_shape(OperatedInvoiceShape),
    )
    def get(self, request: Request) -> Response:
        rows = invoice_find(
            owner_id=organisation_id_of(word_asked(request, "organisation")),
            state=choice_asked(request, "state", STATES),
        )
        moment = now()
        return page_response(
            request, rows, OperatedInvoiceShape, lambda invoice: operated_invoice_row(invoice, at=moment)
        )


class Unpaid(APIView):
    actions = {"GET": "operator.read"}

    @extend_schema(
        operation_id="operator_invoices_unpaid",
        summary="Every invoice of which something is open, and how long it has been due",
        responses=UnpaidShape,
    )
    def get(self, request: Request) -> Response:
        rows, moment = invoice_list_unpaid(), now()
        ages = invoice_ages(rows)
        answer = {
            "open_cents": sum(age.open_cents for age in ages),
            "ages": [age_row(age) for age in ages],
            "data": [operated_invoice_row(invoice, at=moment) for invoice in rows],
        }
        return Response(UnpaidShape(answer).data)


class InvoiceGiveUp(APIView):
    actions = {"POST": "operator.write"}

    @extend_schema(
        operation_id="operator_invoices_give_up",
        summary="Give up what is open of an invoice: it becomes a loss",
        request=NoteShape,
        responses=OperatedInvoiceShape,
    )
    def post(self, request: Request, invoice_id: str) -> Response:
        asked = NoteShape(data=request.data)
        asked.is_valid(raise_exception=True)
        invoice = invoice_give_up(
            invoice_id=invoice_id, reason=asked.validated_data["note"], actor=caller_of(request).actor
        )
        return Response(OperatedInvoiceShape(operated_invoice_row(invoice, at=now())).data)
