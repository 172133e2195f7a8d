"""What answers about usage look like, and their rows."""

from datetime import datetime
from typing import Any

from rest_framework import serializers as s

from kindling_platform.api.gpu_time_shapes import GpuSumShape, gpu_sum_row
from kindling_platform.api.money import money
from kindling_platform.common.errors import KindlingError
from kindling_platform.deployments.gpu_reports import gpu_time_beside
from kindling_platform.usage.names import GONE, name_map
from kindling_platform.usage.questions import Question
from kindling_platform.usage.reports import UsageSum, sums_add

MOST_ROWS = 10_000


class UsageRowShape(s.Serializer[object]):
    at = s.DateTimeField(
        allow_null=True, help_text="When its hour, day or month begins; null without `interval`."
    )
    group = s.CharField(allow_null=True, help_text="An id or an outcome; null without `group_by`.")
    label = s.CharField()  # type: ignore[assignment]  # DRF takes fields out of the class
    requests = s.IntegerField()
    failed = s.IntegerField(help_text="By a fault of ours; they cost nothing.")
    prompt_tokens = s.IntegerField()
    cached_tokens = s.IntegerField()
    completion_tokens = s.IntegerField()
    mean_first_token_ms = s.IntegerField(allow_null=True)
    mean_duration_ms = s.IntegerField(allow_null=True)
    cost_picousd = s.CharField()
    cost_usd = s.CharField()


class UsagePeriodShape(s.Serializer[object]):
    start = s.DateTimeField()
    end = s.DateTimeField()
    data = UsageRowShape(many=True)  # type: ignore[assignment]  # DRF takes fields out of the class
    total = UsageRowShape()
    gpu_time = GpuSumShape(
        allow_null=True,
        help_text="Of your own deployments, beside `data` and `total`, which are of requests alone; null where some of"
        " them are chosen, as machines have no key and no outcome.",
    )
    charged_picousd = s.CharField(help_text="Requests and GPU time together, as the ledger has them.")
    charged_usd = s.CharField()


class UsageShape(UsagePeriodShape):
    group_by = s.CharField(allow_null=True)
    interval = s.CharField(allow_null=True)
    tz = s.CharField()
    previous = UsagePeriodShape(
        allow_null=True, help_text="With `compare=previous`: the span before, as long."
    )


def usage_answer(question: Question, *, compare: bool) -> dict[str, Any]:
    """A question's answer in the form of `UsageShape`; its rows sum to its total.

    It goes out as it is: passing ten thousand rows through the serializer's fields takes longer than all the rest.

    Raises:
        KindlingError: `too_many_rows`.
    """
    return {
        "group_by": question.by or None,
        "interval": question.interval or None,
        "tz": question.zone.key,
        **_period(question),
        "previous": _period(question.before) if compare else None,
    }


def _period(question: Question) -> dict[str, Any]:
    names = name_map(org=question.org, by=question.by) if question.by else {}
    rows = question.rows()
    if len(rows) > MOST_ROWS:
        text = f"That would be {len(rows):,} rows: ask for less, or for /api/v1/usage.csv."
        raise KindlingError("too_many_rows", text, param="group_by")
    at: dict[datetime | None, str] = {moment: _text(question, moment) for moment in question.starts}
    gone = GONE.get(question.by, "")
    total, gpu = sums_add(rows), gpu_time_beside(question)
    return {
        "start": _text(question, question.start),
        "end": _text(question, question.end),
        "data": [
            _row(row, at.get(row.at), row.group if question.by else None, names.get(row.group, gone))
            for row in rows
        ],
        "total": _row(total, None, None, "Total"),
        "gpu_time": gpu and gpu_sum_row(gpu),
        **money("charged", total.cost_picousd + (gpu.cost_picousd if gpu else 0)),
    }


def _row(row: UsageSum, at: str | None, group: str | None, name: str) -> dict[str, Any]:
    return {
        "at": at,
        "group": group,
        "label": name or at or "",
        "requests": row.requests,
        "failed": row.failed,
        "prompt_tokens": row.prompt_tokens,
        "cached_tokens": row.cached_tokens,
        "completion_tokens": row.completion_tokens,
        "mean_first_token_ms": row.mean_first_token_ms,
        "mean_duration_ms": row.mean_duration_ms,
        **money("cost", row.cost_picousd),
    }


def _text(question: Question, moment: datetime) -> str:
    """A moment as the question's time zone writes it; the serializer's own field would make it UTC."""
    return moment.astimezone(question.zone).isoformat().replace("+00:00", "Z")
