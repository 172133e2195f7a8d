"""Usage booked the real way, and what must be made of it, reckoned from the single requests alone."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from kindling_billing.services import price_publish
from kindling_people import (
    CACHED,
    INPUT,
    OUTPUT,
    Customer,
    make_customer,
    make_model,
    make_operator,
    make_record,
)
from kindling_platform.common.clock import now
from kindling_platform.keys.models import ApiKey
from kindling_platform.keys.services import key_create
from kindling_platform.usage.models import SpooledUsage, UsageEvent
from kindling_platform.usage.rerating import rerating_start, rerating_step
from kindling_platform.usage.services import usage_ingest
from kindling_platform.usage.spooled import spool_book

MILLISECOND = timedelta(milliseconds=1)
COUNTED = ("requests", "failed", "prompt_tokens", "cached_tokens", "completion_tokens", "cost_picousd")


@dataclass
class Books:
    """A customer who uses a priced model with two keys, one of them somebody else's."""

    operator: Customer = field(default_factory=make_operator)
    customer: Customer = field(default_factory=make_customer)
    offset: int = 0

    def __post_init__(self) -> None:
        self.model = make_model(self.operator, priced=False)
        self.price = self.publish(1, datetime(2026, 1, 1, tzinfo=ZoneInfo("UTC")))
        self.keys = [
            key_create(org=self.customer.org, name=name, scopes=["inference"], actor=self.customer.actor)[0]
            for name in ("laptop", "server")
        ]
        ApiKey.objects.filter(id=self.keys[1].id).update(created_by=make_customer("colleague").user)

    def publish(self, times: int, valid_from: datetime) -> Any:
        return price_publish(
            sku=self.model.id, input_picousd=times * INPUT, cached_input_picousd=times * CACHED,
            output_picousd=times * OUTPUT, valid_from=valid_from,
        )  # fmt: skip

    def record(
        self, at: datetime, *, key: str = "", adapter: str = "", customer: Customer | None = None, **changes
    ):
        """A request that ended then."""
        org = (customer or self.customer).org
        ms = int(at.timestamp() * 1000)
        record = make_record(org.id, self.model, self.price, **{
            "started_ms": ms - 50, "first_token_ms": ms - 30, "finished_ms": ms, **changes,
        })  # fmt: skip
        context = json.loads(record.context) | {"key": key or self.keys[0].id, "adapter": adapter}
        return msgspec.structs.replace(record, context=json.dumps(context))

    def book(self, records: Sequence[Any]) -> None:
        """Book what an engine has logged."""
        usage_ingest(
            source="r0", log_id="log", after=self.offset, records=records,
            next_offset=self.offset + len(records),
        )  # fmt: skip
        self.offset += len(records)

    def give_back(self, records: Sequence[Any]) -> None:
        """A gateway says that these failed on our side."""
        SpooledUsage.objects.bulk_create(
            SpooledUsage(
                request_id=record.request_id, source="gateway", verdict="void", shipped_at=now(),
                record=msgspec.json.encode(record).decode(),
            )
            for record in records
        )  # fmt: skip
        spool_book()

    def rate_anew(self, start: datetime, end: datetime) -> None:
        run = rerating_start(sku=self.model.id, start=start, end=end, reason="x", actor=self.operator.actor)
        while rerating_step(run_id=run.id, limit=3):
            pass


def reckoned(
    org: Any, start: datetime, end: datetime, *, zone: ZoneInfo, interval: str = "", by: str = "",
    only: Mapping[str, Sequence[str]] | None = None,
) -> dict[tuple[Any, str], tuple[int, ...]]:  # fmt: skip
    """Sums by the beginning of the local hour or day, and group, one request after the other."""
    makers = dict(ApiKey.objects.for_org(org).values_list("id", "created_by_id"))
    columns = {"model": "model_id", "adapter": "adapter_id", "key": "key_id", "status": "finish"}
    sums: dict[tuple[Any, str], list[int]] = defaultdict(lambda: [0] * (len(COUNTED) + 3))
    for event in UsageEvent.objects.for_org(org).filter(finished_at__gte=start, finished_at__lt=end):
        if any(getattr(event, column) not in values for column, values in (only or {}).items()):
            continue
        local = event.finished_at.astimezone(zone)
        at = None
        if interval == "day":
            at = local.date()
        elif interval == "hour":
            at = event.finished_at.replace(minute=0, second=0, microsecond=0)
        group = (
            makers.get(event.key_id) or "" if by == "member" else getattr(event, columns[by]) if by else ""
        )
        first = event.first_token_at
        added = (
            1, int(not event.billable), event.prompt_tokens, event.cached_tokens, event.completion_tokens,
            event.cost_picousd, max(0, (event.finished_at - event.started_at) // MILLISECOND),
            max(0, (first - event.started_at) // MILLISECOND) if first else 0, int(first is not None),
        )  # fmt: skip
        for column, value in enumerate(added):
            sums[at, group][column] += value
    return {key: tuple(row) for key, row in sums.items()}


def summed(
    rows: Sequence[Any], *, zone: ZoneInfo, interval: str = ""
) -> dict[tuple[Any, str], tuple[int, ...]]:
    """Rows of a report in the same form."""
    found = {}
    for row in rows:
        at = row.at
        if interval == "day":
            at = row.at.astimezone(zone).date()
        elif interval == "hour":
            at = row.at.replace(minute=0)
        counts = [getattr(row, column) for column in COUNTED]
        found[at, row.group] = (*counts, row.duration_ms, row.first_token_ms, row.timed)
    assert len(found) == len(rows)
    return found
