"""What margins, costs and hosted prices look like to the operator."""

from collections.abc import Mapping
from datetime import date
from typing import Any

from rest_framework import serializers as s

from kindling_billing.margins import Margin, Quote
from kindling_billing.models import HostedPrice, HourCost
from kindling_platform.api.money import MOST_DIGITS, money, usd
from kindling_platform.api.rows import MILLION, plain_row
from kindling_platform.api.strict import StrictShape

SUMS = (
    "prompt_tokens",
    "cached_tokens",
    "completion_tokens",
    "running_us",
    "unpriced_us",
    "busy_us",
    "looked_us",
)


class MarginShape(s.Serializer[object]):
    revenue_picousd = s.CharField()
    revenue_usd = s.CharField()
    cost_picousd = s.CharField(help_text="Lacks the part of `running_us` that is `unpriced_us`.")
    cost_usd = s.CharField()
    margin_picousd = s.CharField()
    margin_usd = s.CharField()
    margin_permille = s.IntegerField(allow_null=True, help_text="The margin as a part of the revenue.")
    prompt_tokens = s.IntegerField()
    cached_tokens = s.IntegerField()
    completion_tokens = s.IntegerField()
    running_us = s.IntegerField(help_text="Microseconds that replicas ran.")
    unpriced_us = s.IntegerField(help_text="Those of them for which no cost of an hour was entered.")
    busy_us = s.IntegerField(help_text="Microseconds of `looked_us` in which engines computed.")
    looked_us = s.IntegerField()
    busy_permille = s.IntegerField(allow_null=True)
    tokens_per_hour = s.IntegerField(allow_null=True, help_text="Served in an hour of one replica.")
    usd_per_million = s.CharField(
        allow_null=True, help_text="What a million tokens cost to serve; null while that is not known."
    )
    hosted_usd_per_million = s.CharField(
        allow_null=True, help_text="What the same mixture of tokens costs at the hosted price."
    )
    even_tokens_per_hour = s.IntegerField(
        allow_null=True,
        help_text="From so many tokens an hour of a replica on, serving is cheaper than buying.",
    )


class ModelMarginShape(MarginShape):
    model_id = s.CharField()
    model = s.CharField()


class MarginsShape(s.Serializer[object]):
    month = s.CharField()
    data = ModelMarginShape(many=True)  # type: ignore[assignment]  # DRF takes fields out of the class
    total = MarginShape()


class DayMarginShape(MarginShape):
    day = s.DateField()


class ModelMonthShape(s.Serializer[object]):
    month = s.CharField()
    model_id = s.CharField()
    model = s.CharField()
    data = DayMarginShape(many=True)  # type: ignore[assignment]  # DRF takes fields out of the class
    total = MarginShape()


class CostShape(s.Serializer[object]):
    id = s.IntegerField()
    model_id = s.CharField(allow_blank=True, help_text="Empty: every model without a cost of its own.")
    usd_per_hour = s.CharField()
    picousd_per_hour = s.CharField()
    note = s.CharField(allow_blank=True)
    valid_from = s.DateTimeField()
    created_at = s.DateTimeField()
    created_by = s.CharField(allow_blank=True)


class CostEnterShape(StrictShape):
    model = s.CharField(
        required=False,
        allow_blank=True,
        max_length=160,
        default="",
        help_text="A reference or an id; empty: every model.",
    )
    usd_per_hour = s.CharField(max_length=MOST_DIGITS, help_text="What an hour of one replica costs.")
    note = s.CharField(required=False, allow_blank=True, max_length=200, default="")
    valid_from = s.DateTimeField(
        required=False,
        allow_null=True,
        default=None,
        help_text="Left out: now. A past one gives past days this cost.",
    )


class HostedPriceShape(s.Serializer[object]):
    id = s.IntegerField()
    model_id = s.CharField()
    input_usd_per_million = s.CharField()
    cached_input_usd_per_million = s.CharField(allow_null=True, help_text="null: what input costs.")
    output_usd_per_million = s.CharField()
    source = s.CharField()  # type: ignore[assignment]  # DRF takes fields out of the class
    quoted_on = s.DateField()
    created_at = s.DateTimeField()
    created_by = s.CharField(allow_blank=True)


class HostedPriceEnterShape(StrictShape):
    model = s.CharField(max_length=160, help_text="A reference or an id.")
    input_usd_per_million = s.CharField(max_length=MOST_DIGITS)
    cached_input_usd_per_million = s.CharField(
        required=False,
        allow_null=True,
        default=None,
        max_length=MOST_DIGITS,
        help_text="null: what input costs.",
    )
    output_usd_per_million = s.CharField(max_length=MOST_DIGITS)
    source = s.CharField(max_length=200, help_text="Who asks it.")  # type: ignore[assignment]
    quoted_on = s.DateField(help_text="When it was read.")


def margin_row(sums: Margin, quote: Quote | None = None) -> dict[str, Any]:
    hosted = sums.hosted_per_million_picousd(quote) if quote else None
    return {
        **money("revenue", sums.revenue_picousd),
        **money("cost", sums.cost_picousd),
        **money("margin", sums.margin_picousd),
        **plain_row(sums, *SUMS, "margin_permille", "busy_permille", "tokens_per_hour"),
        "usd_per_million": _usd(sums.per_million_picousd),
        "hosted_usd_per_million": _usd(hosted),
        "even_tokens_per_hour": sums.even_tokens_per_hour(quote) if quote else None,
    }


def model_margin_row(
    model_id: str, sums: Margin, quote: Quote | None, names: Mapping[str, str]
) -> dict[str, Any]:
    return {"model_id": model_id, "model": names.get(model_id, model_id), **margin_row(sums, quote)}


def day_margin_row(day: date, sums: Margin, quote: Quote | None) -> dict[str, Any]:
    return {"day": day, **margin_row(sums, quote)}


def cost_row(row: HourCost) -> dict[str, Any]:
    return {
        **plain_row(row, "id", "note", "valid_from", "created_at", "created_by"),
        "model_id": row.sku,
        "usd_per_hour": usd(row.picousd_per_hour),
        "picousd_per_hour": str(row.picousd_per_hour),
    }


def hosted_price_row(row: HostedPrice) -> dict[str, Any]:
    cached = row.cached_input_picousd
    return {
        **plain_row(row, "id", "source", "quoted_on", "created_at", "created_by"),
        "model_id": row.sku,
        "input_usd_per_million": usd(row.input_picousd * MILLION),
        "cached_input_usd_per_million": None if cached is None else usd(cached * MILLION),
        "output_usd_per_million": usd(row.output_picousd * MILLION),
    }


def _usd(picousd: int | None) -> str | None:
    return None if picousd is None else usd(picousd)
