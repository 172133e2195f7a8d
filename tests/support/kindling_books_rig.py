"""Small change for the tests of billing: charges with lines, refusals by code, moments of one month."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime

import pytest

from kindling_billing.errors import BillingError
from kindling_billing.rating import Price, Used, usage_rate
from kindling_billing.services import UsageCharge

CENT = 10**10
USD = 100 * CENT
OWNER = "org_a"
MARCH, APRIL, MAY = date(2026, 3, 1), date(2026, 4, 1), date(2026, 5, 1)
PRICE = Price(100_000, 50_000, 400_000)


def moment(month: int = 3, day: int = 15, hour: int = 12) -> datetime:
    return datetime(2026, month, day, hour, tzinfo=UTC)


def charge(
    request_id: str,
    *,
    prompt: int = 1000,
    cached: int = 0,
    made: int = 500,
    price: Price = PRICE,
    at: datetime | None = None,
    owner: str = OWNER,
    sku: str = "mdl_a",
    batch: bool = False,
) -> UsageCharge:
    used = Used(prompt_tokens=prompt, cached_tokens=cached, completion_tokens=made, batch=batch)
    lines = usage_rate(price, used)
    return UsageCharge(
        owner_id=owner,
        request_id=request_id,
        cost_picousd=sum(line.amount_picousd for line in lines),
        memo="Usage",
        sku=sku,
        label=sku,
        used_at=at or moment(),
        lines=lines,
    )


@contextmanager
def refused(code: str) -> Iterator[None]:
    """The block ends in a billing error of this code."""
    with pytest.raises(BillingError) as error:
        yield
    assert error.value.code == code
