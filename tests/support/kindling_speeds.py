"""Requests of a known speed, booked the real way."""

import itertools
import json
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from kindling_billing.selectors import price_current
from kindling_people import Customer, make_record
from kindling_platform.catalog.models import Model
from kindling_platform.common.clock import now
from kindling_platform.deployments.models import Deployment
from kindling_platform.usage.services import MAX_RECORDS, usage_ingest

SOURCES = itertools.count()
AGO = timedelta(hours=1)


def answer(
    customer: Customer,
    model: Model,
    durations_ms: Iterable[int],
    *,
    by: Deployment | None = None,
    ended: datetime | None = None,
    first_ms: int | None = 10,
    said: dict[str, Any] | None = None,
    **changes: Any,
) -> None:
    """A request of 5 tokens for each duration, whose first token came after `first_ms`; `said` by the gateway."""
    price = price_current(sku=model.id)
    assert price
    end = int((ended or now() - AGO).timestamp() * 1000)
    facts = {
        "org": customer.org.id, "key": "key_1", "model": model.id, "name": model.ref, "adapter": "",
        "deployment": by.id if by else "", "price": price.id,
    }  # fmt: skip
    records = [
        make_record(
            customer.org.id, model, price, context=json.dumps(facts | (said or {})), started_ms=end - duration,
            first_token_ms=None if first_ms is None else end - duration + first_ms, finished_ms=end, **changes,
        )
        for duration in durations_ms
    ]  # fmt: skip
    for begin in range(0, len(records), MAX_RECORDS):
        part = records[begin : begin + MAX_RECORDS]
        source = f"speeds-{next(SOURCES)}"
        booked = usage_ingest(source=source, log_id="log", after=0, records=part, next_offset=len(part))
        assert booked.inserted == len(part)
