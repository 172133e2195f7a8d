"""What prices, drafts of them and their effects look like to the operator."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from rest_framework import serializers as s

from kindling_billing.book import BOOK, Version
from kindling_billing.effects import draft
from kindling_billing.models import PriceVersion
from kindling_billing.rating import Price
from kindling_billing.timeline import Entry
from kindling_platform.api.money import MOST_DIGITS, money, per_million_asked, usd
from kindling_platform.api.rows import MILLION, plain_row
from kindling_platform.api.strict import StrictShape
from kindling_platform.common.errors import KindlingError
from kindling_platform.deployments.price_effects import Row, SpanEffect

MOST_DRAFTS = 500
PER_MILLION = "Dollars per million tokens, as text."
MOST_PER_MS_PICOUSD = 10**12


class PriceVersionShape(s.Serializer[object]):
    id = s.CharField()
    model_id = s.CharField()
    model = s.CharField(help_text="Its reference.")
    plan_id = s.CharField(allow_blank=True, help_text="Empty: for everybody.")
    state = s.CharField(help_text="in_force, future, past, or replaced by another of the same moment.")
    valid_from = s.DateTimeField()
    until = s.DateTimeField(allow_null=True)
    input_usd_per_million = s.CharField()
    cached_input_usd_per_million = s.CharField()
    output_usd_per_million = s.CharField()
    reasoning_usd_per_million = s.CharField(allow_null=True, help_text="null: what output costs.")
    input_picousd = s.CharField(help_text="Pico-dollars per token.")
    cached_input_picousd = s.CharField()
    output_picousd = s.CharField()
    reasoning_picousd = s.CharField(allow_null=True)
    gpu_picousd_per_ms = s.CharField()
    batch_percent = s.IntegerField(help_text="The part of a price that batch work pays.")
    created_at = s.DateTimeField()
    created_by = s.CharField(allow_blank=True)


class PriceDraftShape(StrictShape):
    model = s.CharField(max_length=160, help_text="Its reference or id.")
    plan_id = s.CharField(
        required=False, allow_blank=True, max_length=32, default="", help_text="Empty: for everybody."
    )
    input_usd_per_million = s.CharField(max_length=MOST_DIGITS, help_text=PER_MILLION)
    cached_input_usd_per_million = s.CharField(max_length=MOST_DIGITS, help_text=PER_MILLION)
    output_usd_per_million = s.CharField(max_length=MOST_DIGITS, help_text=PER_MILLION)
    reasoning_usd_per_million = s.CharField(
        required=False,
        allow_null=True,
        default=None,
        max_length=MOST_DIGITS,
        help_text="null: what output costs.",
    )
    gpu_picousd_per_ms = s.IntegerField(
        required=False, allow_null=True, default=None, min_value=0, max_value=MOST_PER_MS_PICOUSD,
        help_text="Left out: what holds now goes on.",
    )  # fmt: skip
    batch_percent = s.IntegerField(required=False, min_value=0, max_value=100, default=50)
    valid_from = s.DateTimeField(
        required=False, allow_null=True, default=None, help_text="Left out: the moment of publishing."
    )


class PricesDraftShape(StrictShape):
    prices = s.ListField(child=PriceDraftShape(), min_length=1, max_length=MOST_DRAFTS)
    corrects = s.BooleanField(
        required=False, default=False,
        help_text="Past dates are meant. They change nothing that was billed until usage is rated anew.",
    )  # fmt: skip


class PricesMadeShape(s.Serializer[object]):
    data = PriceVersionShape(many=True)  # type: ignore[assignment]  # DRF takes fields out of the class


class EffectRowShape(s.Serializer[object]):
    id = s.CharField(allow_blank=True)
    name = s.CharField()
    before_picousd = s.CharField()
    before_usd = s.CharField()
    after_picousd = s.CharField()
    after_usd = s.CharField()
    difference_picousd = s.CharField()
    difference_usd = s.CharField()


class SpanEffectShape(s.Serializer[object]):
    start = s.DateTimeField()
    end = s.DateTimeField()
    total = EffectRowShape(help_text="Requests and GPU time.")
    gpu_time = EffectRowShape(
        help_text="The part of `total` that is GPU time of organisations' own deployments."
    )
    by_model = EffectRowShape(many=True)
    by_organisation = EffectRowShape(many=True, help_text="The 50 with the largest differences.")
    organisations = s.IntegerField()


class PricesPreviewShape(s.Serializer[object]):
    data = SpanEffectShape(many=True)  # type: ignore[assignment]  # DRF takes fields out of the class


def price_version_row(version: PriceVersion, entry: Entry | None, names: Mapping[str, str]) -> dict[str, Any]:
    amounts = {
        "input": version.input_picousd,
        "cached_input": version.cached_input_picousd,
        "output": version.output_picousd,
        "reasoning": version.reasoning_picousd,
    }
    return {
        **plain_row(version, "id", "plan_id", "valid_from", "batch_percent", "created_at", "created_by"),
        "model_id": version.sku,
        "model": names.get(version.sku, version.sku),
        "state": entry.state if entry else "",
        "until": entry.until if entry else None,
        **{f"{name}_picousd": None if one is None else str(one) for name, one in amounts.items()},
        **{
            f"{name}_usd_per_million": None if one is None else usd(one * MILLION)
            for name, one in amounts.items()
        },
        "gpu_picousd_per_ms": str(version.gpu_ms_picousd),
    }


def drafts_asked(
    asked: list[dict[str, Any]],
    *,
    skus: Mapping[str, str],
    gpu: Mapping[tuple[str, str], int],
    at: datetime,
) -> list[Version]:
    """Drafts as the price book takes them; `skus` are ids of models by reference and by id, `at` is now.

    `gpu` is what a millisecond of GPU time costs now, by plan and sku.

    Raises:
        KindlingError: `model_unknown`, `amount_invalid`.
    """
    return [_draft(one, f"prices.{place}", skus, gpu, at) for place, one in enumerate(asked)]


def effect_row(effect: SpanEffect) -> dict[str, Any]:
    return {
        **plain_row(effect, "start", "end", "organisations"),
        "total": _row(effect.total),
        "gpu_time": _row(effect.gpu_time),
        "by_model": [_row(row) for row in effect.by_model],
        "by_organisation": [_row(row) for row in effect.by_organisation],
    }


def _draft(
    asked: dict[str, Any],
    where: str,
    skus: Mapping[str, str],
    gpu: Mapping[tuple[str, str], int],
    at: datetime,
) -> Version:
    sku, plan_id = skus.get(asked["model"]), asked["plan_id"]
    if sku is None:
        text = f"There is no model {asked['model'][:80]!r}."
        raise KindlingError("model_unknown", text, param=f"{where}.model")
    amounts = {
        name: per_million_asked(asked[field], param=f"{where}.{field}")
        for name in ("input", "cached_input", "output", "reasoning")
        if asked[field := f"{name}_usd_per_million"] is not None
    }
    gpu_ms = asked["gpu_picousd_per_ms"]
    if gpu_ms is None:
        gpu_ms = gpu.get((plan_id, sku), gpu.get((BOOK, sku), 0))
    price = Price(**amounts, gpu_ms=gpu_ms, batch_percent=asked["batch_percent"])
    return draft(sku=sku, plan_id=plan_id, valid_from=asked["valid_from"] or at, price=price)


def _row(row: Row) -> dict[str, Any]:
    return {
        "id": row.id,
        "name": row.name,
        **money("before", row.before_picousd),
        **money("after", row.after_picousd),
        **money("difference", row.difference_picousd),
    }
