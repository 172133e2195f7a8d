"""Usage as rows of a table to download: sums, or single requests; read piece by piece, so that any length will do."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from kindling_billing.money import pico_to_usd_text
from kindling_platform.accounts.models import Organisation
from kindling_platform.common.pagination import MAX_PAGE_ROWS, page_get
from kindling_platform.usage.names import GONE, name_map
from kindling_platform.usage.questions import Question
from kindling_platform.usage.reports import UsageSum, series_list
from kindling_platform.usage.selectors import usage_event_list

# Buckets asked for at once; there may be a thousand keys in each.
BUCKETS = 31
Row = Sequence[Any]
SUM_COLUMNS = (
    "requests", "failed", "prompt_tokens", "cached_tokens", "completion_tokens", "mean_first_token_ms",
    "mean_duration_ms",
)  # fmt: skip
REQUEST_COLUMNS = (
    "model_name", "adapter_id", "key_id", "deployment_id", "finish", "billable", "prompt_tokens",
    "cached_tokens", "completion_tokens", "reasoning_tokens", "batch", "price_version_id",
)  # fmt: skip
COST_COLUMNS = ("cost_picousd", "cost_usd")


def sum_rows(question: Question) -> Iterator[Row]:
    """A header, then the rows that a question asks for; their cost sums to the ledger's, to the pico-dollar."""
    grouped = (question.by, f"{question.by}_name") if question.by else ()
    yield ("from", "to", *grouped, *SUM_COLUMNS, *COST_COLUMNS)
    names = name_map(org=question.org, by=question.by) if question.by else {}
    for start, end, row in _sums(question):
        group = (row.group, names.get(row.group, GONE[question.by])) if question.by else ()
        moments = (moment.astimezone(question.zone) for moment in (start, end))
        yield (*moments, *group, *(getattr(row, column) for column in SUM_COLUMNS), *_cost(row.cost_picousd))


def request_rows(question: Question) -> Iterator[Row]:
    """A header, then every request of a span, newest first; moments are the time zone's."""
    yield ("request_id", "started_at", "first_token_at", "finished_at", *REQUEST_COLUMNS, *COST_COLUMNS)
    events = usage_event_list(org=question.org, start=question.start, end=question.end, only=question.only)
    cursor = ""
    while True:
        page = page_get(events, order=("finished_at", "request_id"), cursor=cursor, limit=MAX_PAGE_ROWS)
        for event in page.rows:
            moments = (event.started_at, event.first_token_at, event.finished_at)
            yield (
                event.request_id, *(moment and moment.astimezone(question.zone) for moment in moments),
                *(getattr(event, column) for column in REQUEST_COLUMNS), *_cost(event.cost_picousd),
            )  # fmt: skip
        if not (cursor := page.next_cursor):
            return


def file_name(org: Organisation, kind: str, question: Question) -> str:
    """What a download is called: whose, of which days."""
    first, last = (moment.astimezone(question.zone) for moment in (question.start, question.end))
    return f"kindling-{kind}-{org.slug}-{first:%Y-%m-%d}-{last:%Y-%m-%d}.csv"


def _sums(question: Question) -> Iterator[tuple[datetime, datetime, UsageSum]]:
    starts = question.starts
    if not starts:
        for row in question.rows():
            yield question.start, question.end, row
        return
    ends = dict(zip(starts, [*starts[1:], question.end], strict=True))
    for first in range(0, len(starts), BUCKETS):
        some = starts[first : first + BUCKETS]
        piece = replace(question.scope, start=some[0], end=ends[some[-1]])
        for row in series_list(piece, some, question.by):
            if row.at is not None:
                yield row.at, ends[row.at], row


def _cost(picousd: int) -> tuple[int, str]:
    return picousd, pico_to_usd_text(picousd, 12).replace(",", "")
