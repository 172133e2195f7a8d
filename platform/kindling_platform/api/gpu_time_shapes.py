"""What answers about GPU time look like, and their rows."""

from typing import Any

from rest_framework import serializers as s

from kindling_platform.api.money import usd
from kindling_platform.deployments.gpu_reports import GpuSum, gpu_time_list, gpu_time_total
from kindling_platform.usage.questions import Question


class GpuSumShape(s.Serializer[object]):
    gpu_ms = s.IntegerField(help_text="Milliseconds for which replicas held their devices.")
    unbilled_ms = s.IntegerField(help_text="The part of them that has no price yet, or was given up.")
    cost_picousd = s.CharField()
    cost_usd = s.CharField()


class GpuRowShape(GpuSumShape):
    at = s.DateTimeField(
        allow_null=True, help_text="When its hour, day or month begins; null without `interval`."
    )
    deployment_id = s.CharField()
    deployment = s.CharField()


class GpuTimeShape(s.Serializer[object]):
    start = s.DateTimeField()
    end = s.DateTimeField()
    interval = s.CharField(allow_null=True)
    tz = s.CharField()
    data = GpuRowShape(many=True)  # type: ignore[assignment]  # DRF takes fields out of the class
    total = GpuSumShape()


def gpu_time_answer(question: Question) -> dict[str, Any]:
    """A question's answer in the form of `GpuTimeShape`; its rows sum to its total."""
    rows = gpu_time_list(question)
    return {
        "start": question.start,
        "end": question.end,
        "interval": question.interval or None,
        "tz": question.zone.key,
        "data": [
            {"at": row.at, "deployment_id": row.deployment_id, "deployment": row.name, **gpu_sum_row(row)}
            for row in rows
        ],
        "total": gpu_sum_row(gpu_time_total(rows)),
    }


def gpu_sum_row(row: GpuSum) -> dict[str, Any]:
    """A sum in the form of `GpuSumShape`."""
    return {
        "gpu_ms": row.held_ms,
        "unbilled_ms": row.unbilled_ms,
        "cost_picousd": str(row.cost_picousd),
        "cost_usd": usd(row.cost_picousd),
    }
