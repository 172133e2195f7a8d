"""The price book: every version, new ones with their effect on what was used, taking back one that has not begun."""

from collections.abc import Sequence

from django.http import StreamingHttpResponse
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from kindling_billing.book import BOOK, Version
from kindling_billing.models import PriceVersion
from kindling_billing.plans import plan_list
from kindling_billing.selectors import price_list, version_list
from kindling_billing.timeline import IN_FORCE, timeline_map
from kindling_platform.api.asked import word_asked
from kindling_platform.api.caller import caller_of
from kindling_platform.api.downloads import CSV, AnyAccepted
from kindling_platform.api.once import ONCE, once
from kindling_platform.api.operator_shapes.prices import (
    PricesDraftShape,
    PricesMadeShape,
    PricesPreviewShape,
    PriceVersionShape,
    drafts_asked,
    effect_row,
    price_version_row,
)
from kindling_platform.api.paging import PAGING, page_of, page_shape
from kindling_platform.catalog.price_sheet import sheet_rows
from kindling_platform.catalog.prices import drafts_check, price_withdraw, prices_publish
from kindling_platform.catalog.selectors import model_name_map
from kindling_platform.common.clock import now
from kindling_platform.common.streamed_csv import csv_response
from kindling_platform.deployments.price_effects import price_effects

FILTERS = [
    OpenApiParameter("model", str, description="A reference or an id."),
    OpenApiParameter("plan_id", str, description="A plan's id; `book` is what holds for everybody."),
]


class Prices(APIView):
    actions = {"GET": "operator.read", "POST": "operator.write"}

    @extend_schema(
        operation_id="operator_prices_list",
        summary="Every price version, the one that begins last first",
        parameters=[*FILTERS, *PAGING],
        responses=page_shape(PriceVersionShape),
    )
    def get(self, request: Request) -> Response:
        rows, names = price_list(), model_name_map()
        if model := word_asked(request, "model"):
            rows = rows.filter(sku=_skus(names).get(model, model))
        if plan := word_asked(request, "plan_id"):
            rows = rows.filter(plan_id=BOOK if plan == "book" else plan)
        found = page_of(request, rows, order=("valid_from", "id"))
        data = PriceVersionShape(_rows(found.rows, names), many=True).data
        return Response({"data": data, "next_cursor": found.next_cursor or None})

    @extend_schema(
        operation_id="operator_prices_publish",
        summary="Publish prices, all or none; requests already admitted keep the price they were admitted with",
        parameters=[ONCE],
        request=PricesDraftShape,
        responses={201: PricesMadeShape},
    )
    def post(self, request: Request) -> Response:
        drafts, corrects = _drafts(request)
        with once(request) as turn:
            if turn.reply is not None:
                return turn.reply
            made = prices_publish(drafts=drafts, actor=caller_of(request).actor, corrects=corrects)
            row = PricesMadeShape({"data": _rows(made, model_name_map())}).data
            return turn.keep(Response(row, status=201))


class PricesPreview(APIView):
    # It changes nothing, but a body has no place in a GET.
    actions = {"POST": "operator.read"}

    @extend_schema(
        operation_id="operator_prices_preview",
        summary="What prices would have made of last month and of the last 30 days; nothing is published",
        request=PricesDraftShape,
        responses=PricesPreviewShape,
    )
    def post(self, request: Request) -> Response:
        drafts, corrects = _drafts(request)
        drafts_check(drafts, corrects=corrects)
        effects = price_effects(drafts, models=model_name_map())
        return Response(PricesPreviewShape({"data": [effect_row(effect) for effect in effects]}).data)


class PriceWithdraw(APIView):
    actions = {"POST": "operator.write"}

    @extend_schema(
        operation_id="operator_prices_withdraw",
        summary="Take back a price that has not begun; answers with the version that goes on instead",
        request=None,
        responses=PriceVersionShape,
    )
    def post(self, request: Request, price_id: str) -> Response:
        version = price_withdraw(price_id=price_id, actor=caller_of(request).actor)
        (row,) = _rows([version], model_name_map())
        return Response(PriceVersionShape(row).data)


class PriceBookCsv(APIView):
    actions = {"GET": "operator.read"}
    content_negotiation_class = AnyAccepted

    @extend_schema(operation_id="operator_prices_csv", summary="The whole price book as CSV", responses=CSV)
    def get(self, request: Request) -> StreamingHttpResponse:
        plans = {BOOK: "", **{plan.id: plan.name for plan in plan_list()}}
        rows = sheet_rows(version_list(), models=model_name_map(), plans=plans)
        return csv_response(request._request, name="price-book.csv", rows=rows)


def _drafts(request: Request) -> tuple[list[Version], bool]:
    asked = PricesDraftShape(data=request.data)
    asked.is_valid(raise_exception=True)
    given, moment = asked.validated_data, now()
    entries = timeline_map(price_list(), now=moment).values()
    gpu = {
        (entry.version.plan_id, entry.version.sku): entry.version.gpu_ms_picousd
        for entry in entries
        if entry.state == IN_FORCE
    }
    drafts = drafts_asked(given["prices"], skus=_skus(model_name_map()), gpu=gpu, at=moment)
    return drafts, given["corrects"]


def _skus(names: dict[str, str]) -> dict[str, str]:
    """Ids of models by their references and by themselves."""
    return {ref: sku for sku, ref in names.items()} | {sku: sku for sku in names}


def _rows(versions: Sequence[PriceVersion], names: dict[str, str]) -> list[dict[str, object]]:
    skus = {version.sku for version in versions}
    entries = timeline_map(price_list().filter(sku__in=skus), now=now())
    return [price_version_row(version, entries.get(version.id), names) for version in versions]
