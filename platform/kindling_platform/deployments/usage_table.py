"""Usage as a table that sums to the ledger: requests as they were asked for, then one of GPU time for each bucket."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby, pairwise
from operator import attrgetter
from typing import Any

from kindling_billing.money import pico_to_usd_text
from kindling_platform.deployments.gpu_reports import gpu_time_list, gpu_time_total
from kindling_platform.usage.exports import SUM_COLUMNS, sum_rows
from kindling_platform.usage.questions import Question
from kindling_platform.usage.reports import UsageSum

KIND_COLUMNS = ("kind", "gpu_ms")
REQUESTS, GPU_TIME = "requests", "gpu_time"
NAME = "GPU time"


def charged_rows(question: Question) -> Iterator[Sequence[Any]]:
    """A header, then a question's rows; their cost is what the ledger has of its span, to the pico-dollar.

    GPU time has no key, model name or outcome of a request: where some are chosen there is none.
    """
    rows = sum_rows(question)
    yield (*next(rows), *KIND_COLUMNS)
    for row in rows:
        yield (*row, REQUESTS, "")
    if not question.only:
        yield from _gpu_rows(question)


def _gpu_rows(question: Question) -> Iterator[Sequence[Any]]:
    starts = question.starts
    ends = dict(pairwise([*starts, question.end]))
    none = [getattr(UsageSum(), column) for column in SUM_COLUMNS]
    held = gpu_time_list(replace(question, by=""))
    for at, some in groupby(held, key=attrgetter("at")):
        total, start = gpu_time_total(some), at or question.start
        moments = (moment.astimezone(question.zone) for moment in (start, ends.get(start, question.end)))
        usd = pico_to_usd_text(total.cost_picousd, 12).replace(",", "")
        name = ("", NAME) if question.by else ()
        yield (*moments, *name, *none, total.cost_picousd, usd, GPU_TIME, total.held_ms)
