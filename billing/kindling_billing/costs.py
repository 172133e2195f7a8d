"""What an hour of a replica costs the operator, and what is asked elsewhere: entered, never edited, read as books."""

from collections.abc import Iterable
from datetime import date, datetime, timedelta

from django.db.models import QuerySet

from kindling_billing.errors import BillingError
from kindling_billing.margins import CostBook, Quote, Rate
from kindling_billing.models import HostedPrice, HourCost, utc_now
from kindling_billing.money import PICO_PER_USD

MOST_PER_HOUR_PICOUSD = 10_000 * PICO_PER_USD
A_DAY = timedelta(days=1)  # somewhere on earth it is tomorrow


def hour_cost_set(
    *,
    picousd_per_hour: int,
    sku: str = "",
    valid_from: datetime | None = None,
    note: str = "",
    created_by: str = "",
) -> HourCost:
    """Say what an hour of a replica costs from a moment on, which may have passed: margins of then follow.

    Raises:
        BillingError: `amount_invalid` below nothing or above ten thousand dollars.
    """
    if not 0 <= picousd_per_hour <= MOST_PER_HOUR_PICOUSD:
        raise BillingError("amount_invalid", "An hour costs between nothing and ten thousand dollars.")
    return HourCost.objects.create(
        sku=sku,
        picousd_per_hour=picousd_per_hour,
        valid_from=valid_from or utc_now(),
        note=note.strip()[:200],
        created_by=created_by,
    )


def hosted_price_set(
    *,
    sku: str,
    input_picousd: int,
    output_picousd: int,
    source: str,
    quoted_on: date,
    cached_input_picousd: int | None = None,
    created_by: str = "",
) -> HostedPrice:
    """Note what a provider asks for a model like ours.

    Raises:
        BillingError: `amount_invalid`, `source_missing`, `date_invalid` for a day to come.
    """
    prices = [input_picousd, output_picousd, cached_input_picousd or 0]
    if min(prices) < 0 or max(prices) > PICO_PER_USD:
        raise BillingError("amount_invalid", "A price per token lies between nothing and one dollar.")
    if not source.strip():
        raise BillingError("source_missing", "Say who asks this price: a name or an address.")
    if quoted_on > (utc_now() + A_DAY).date():
        raise BillingError("date_invalid", "A price cannot have been read on a day to come.")
    return HostedPrice.objects.create(
        sku=sku,
        input_picousd=input_picousd,
        cached_input_picousd=cached_input_picousd,
        output_picousd=output_picousd,
        source=source.strip()[:200],
        quoted_on=quoted_on,
        created_by=created_by,
    )


def hour_cost_find() -> QuerySet[HourCost]:
    """Every cost of an hour that was entered, newest first."""
    return HourCost.objects.order_by("-valid_from", "-id")


def hour_cost_list() -> list[HourCost]:
    """The same, read."""
    return list(hour_cost_find())


def cost_book() -> CostBook:
    """The costs of hours, to be asked by moment."""
    rows = HourCost.objects.order_by("valid_from", "id")
    return CostBook(Rate(row.sku, row.valid_from, row.picousd_per_hour) for row in rows)


def hosted_price_map(*, skus: Iterable[str]) -> dict[str, HostedPrice]:
    """The price elsewhere that was noted last, by sku; skus without one are absent."""
    rows = HostedPrice.objects.filter(sku__in=list(skus)).order_by("sku", "-id").distinct("sku")
    return {row.sku: row for row in rows}


def hosted_price_find() -> QuerySet[HostedPrice]:
    """Every price elsewhere that was noted, newest first."""
    return HostedPrice.objects.order_by("-created_at", "-id")


def hosted_price_list(*, sku: str) -> list[HostedPrice]:
    """Every price elsewhere that was noted for a sku, newest first."""
    return list(HostedPrice.objects.filter(sku=sku).order_by("-id")[:50])


def quote_of(row: HostedPrice) -> Quote:
    """A stored price elsewhere as the numbers that are reckoned with."""
    return Quote(row.input_picousd, row.cached_input_picousd, row.output_picousd)
