"""What the installation's usage and takings over time look like."""

from dataclasses import fields
from typing import Any

from rest_framework import serializers as s

from kindling_billing.takings import Takings
from kindling_platform.api.money import money
from kindling_platform.api.rows import plain_row
from kindling_platform.usage.overview import FIGURES, Figures
from kindling_platform.usage.revenue import RevenueStep

TAKINGS = tuple(field.name for field in fields(Takings))


class UsedShape(s.Serializer[object]):
    requests = s.IntegerField()
    failed = s.IntegerField()
    prompt_tokens = s.IntegerField()
    cached_tokens = s.IntegerField()
    completion_tokens = s.IntegerField()
    cost_picousd = s.CharField(help_text="Of requests.")
    cost_usd = s.CharField()


class TakingsShape(s.Serializer[object]):
    received_picousd = s.CharField(help_text="What customers paid.")
    refunded_picousd = s.CharField()
    disputed_picousd = s.CharField(help_text="What banks took back less what they returned.")
    granted_picousd = s.CharField(help_text="Credit that was given less what of it expired.")
    expired_picousd = s.CharField(help_text="Bought credit that nobody used in time.")
    gpu_time_picousd = s.CharField(help_text="What was billed for hours of deployments, beside the requests.")
    invoiced_picousd = s.CharField()
    given_up_picousd = s.CharField()
    fees_picousd = s.CharField()
    taxed_picousd = s.CharField()


class RevenueStepShape(s.Serializer[object]):
    at = s.DateTimeField(help_text="When its day or month (UTC) begins.")
    usage = UsedShape()
    takings = TakingsShape()


class RevenueShape(s.Serializer[object]):
    data = RevenueStepShape(many=True)  # type: ignore[assignment]  # DRF takes fields out of the class


class RevenueShareShape(UsedShape):
    id = s.CharField(help_text="An organisation's or a model's.")
    name = s.CharField()


class RevenueSharesShape(s.Serializer[object]):
    data = RevenueShareShape(many=True)  # type: ignore[assignment]  # DRF takes fields out of the class


def revenue_row(step: RevenueStep) -> dict[str, Any]:
    return {
        "at": step.moment,
        "usage": _used(step.usage),
        "takings": {f"{name}_picousd": str(getattr(step.takings, name)) for name in TAKINGS},
    }


def share_row(used: Figures, name: str) -> dict[str, Any]:
    return {"id": used.group, "name": name, **_used(used)}


def _used(used: Figures) -> dict[str, Any]:
    return {**plain_row(used, *FIGURES[:-1]), **money("cost", used.cost_picousd)}
