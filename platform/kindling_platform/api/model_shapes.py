"""What a model looks like in an answer: its facts, its price, what it can be asked for and how fast it was."""

from typing import Any

from rest_framework import serializers as s

from kindling_platform.api.money import money
from kindling_platform.api.rows import plain_row, price_row
from kindling_platform.api.shapes import PriceShape
from kindling_platform.catalog.models import ModelSpeed
from kindling_platform.catalog.offers import TASKS, Offer

FACTS = (
    "id", "ref", "name", "display_name", "description", "architecture", "task", "context_length", "vocab_size",
    "vocabulary_hash", "parameters", "shapes", "licence", "revision", "is_public", "is_stand_in", "chat_ready",
    "lora_ready", "deployable", "created_at",
)  # fmt: skip


class SpeedFigureShape(s.Serializer[object]):
    p50 = s.FloatField()
    p95 = s.FloatField(
        allow_null=True,
        help_text="95 of 100 requests took no longer, or were made at least as fast; null of too few samples.",
    )
    samples = s.IntegerField()


class SpeedShape(s.Serializer[object]):
    scope = s.ChoiceField(
        choices=["all", "organisation"],
        help_text="Over all organisations, samples rounded down to two digits; or your organisation's own requests.",
    )
    window_start = s.DateTimeField()
    window_end = s.DateTimeField()
    duration_ms = SpeedFigureShape(help_text="From the request to the end of its answer.")
    first_token_ms = SpeedFigureShape(allow_null=True)
    tokens_per_s = SpeedFigureShape(allow_null=True, help_text="Behind the first token.")


class ModelShape(s.Serializer[object]):
    id = s.CharField()
    ref = s.CharField()
    name = s.CharField()
    display_name = s.CharField()
    description = s.CharField()
    architecture = s.CharField()
    task = s.ChoiceField(choices=["generate", "embed"])
    tasks = s.ListField(
        child=s.ChoiceField(choices=list(TASKS)),
        help_text="What it can be asked for; the filter `task` goes by it.",
    )
    context_length = s.IntegerField()
    vocab_size = s.IntegerField()
    vocabulary_hash = s.CharField()
    parameters = s.IntegerField()
    shapes = s.DictField(child=s.IntegerField())
    licence = s.CharField()
    revision = s.CharField()
    is_public = s.BooleanField()
    is_stand_in = s.BooleanField()
    chat_ready = s.BooleanField(help_text="Whether it has a chat template; a base model completes text.")
    lora_ready = s.BooleanField()
    deployable = s.BooleanField(help_text="Whether organisations may deploy it for themselves.")
    gpu_hour_picousd = s.CharField(
        allow_null=True, help_text="What an hour of a replica of your own costs; null while it has no price."
    )
    gpu_hour_usd = s.CharField(allow_null=True)
    is_warm = s.BooleanField(help_text="Whether a replica that serves you is ready to answer.")
    price = PriceShape(allow_null=True)
    speed = SpeedShape(allow_null=True, help_text="Measured in the last 24 hours; null where too little was.")
    created_at = s.DateTimeField()


def model_row(offer: Offer, *, shows_own: bool) -> dict[str, Any]:
    """An offer as `ModelShape` describes it; `shows_own` is whether the caller may see their organisation's usage."""
    speed = offer.speeds.shown if shows_own else offer.speeds.everybody
    hour = offer.hour_price_picousd
    return {
        **plain_row(offer.model, *FACTS),
        "tasks": offer.tasks,
        "is_warm": offer.is_warm,
        **(money("gpu_hour", hour) if hour else {"gpu_hour_picousd": None, "gpu_hour_usd": None}),
        "price": price_row(offer.price),
        "speed": _speed_row(speed) if speed else None,
    }


def _speed_row(speed: ModelSpeed) -> dict[str, Any]:
    return {
        "scope": "all" if speed.is_everybodys else "organisation",
        **plain_row(speed, "window_start", "window_end"),
        "duration_ms": _figure(speed.duration_p50_ms, speed.duration_p95_ms, speed.samples),
        "first_token_ms": _figure(
            speed.first_token_p50_ms, speed.first_token_p95_ms, speed.first_token_samples
        ),
        "tokens_per_s": _figure(speed.tokens_per_s_p50, speed.tokens_per_s_p95, speed.tokens_per_s_samples),
    }


def _figure(p50: float | None, p95: float | None, samples: int) -> dict[str, Any] | None:
    return None if p50 is None else {"p50": p50, "p95": p95, "samples": samples}
