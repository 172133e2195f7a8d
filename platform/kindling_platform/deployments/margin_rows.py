"""Margins as a table."""

from collections.abc import Iterator
from dataclasses import astuple, fields
from datetime import datetime
from typing import Any

from kindling_billing.margins import Margin
from kindling_platform.catalog.selectors import model_name_map
from kindling_platform.deployments.margins import margin_days


def margin_rows(*, start: datetime, end: datetime) -> Iterator[tuple[Any, ...]]:
    """Each model and day (UTC) of a span behind a header, in pico-dollars and microseconds."""
    names = model_name_map()
    yield ("model", "day", *(field.name for field in fields(Margin)))
    for (sku, day), sums in sorted(margin_days(start=start, end=end).items()):
        yield (names.get(sku, sku), day, *astuple(sums))
