"""The balance and the lines behind it."""

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from kindling_billing.selectors import balance_get, ledger_list
from kindling_platform.api.caller import caller_of
from kindling_platform.api.money import usd
from kindling_platform.api.paging import PAGING, limit_of, page_shape
from kindling_platform.api.rows import ledger_row
from kindling_platform.api.shapes import BalanceShape, LedgerLineShape
from kindling_platform.common.errors import KindlingError


class BalanceView(APIView):
    actions = {"GET": "billing.read"}

    @extend_schema(operation_id="balance_get", summary="What is left", responses=BalanceShape)
    def get(self, request: Request) -> Response:
        picousd = balance_get(owner_id=caller_of(request).org.id).picousd
        return Response(BalanceShape({"balance_picousd": str(picousd), "balance_usd": usd(picousd)}).data)


class Ledger(APIView):
    actions = {"GET": "billing.read"}

    @extend_schema(
        operation_id="ledger_list",
        summary="Every movement of your balance, newest first",
        parameters=PAGING,
        responses=page_shape(LedgerLineShape),
    )
    def get(self, request: Request) -> Response:
        cursor = request.query_params.get("cursor", "")
        if cursor and not (cursor.isascii() and cursor.isdigit() and len(cursor) < 19):
            raise KindlingError("cursor_invalid", "Start again from the first page.", param="cursor")
        limit = limit_of(request)
        entries = ledger_list(owner_id=caller_of(request).org.id)
        if cursor:
            entries = entries.filter(id__lt=int(cursor))
        lines = list(entries[: limit + 1])
        shown = lines[:limit]
        following = str(shown[-1].id) if len(lines) > limit else None
        rows = LedgerLineShape([ledger_row(line) for line in shown], many=True).data
        return Response({"data": rows, "next_cursor": following})
