"""A tax of one rate: enough to see that what is charged, booked and invoiced is the same."""

from kindling_billing.fake_stripe.customers import customer_alive
from kindling_billing.fake_stripe.world import Body, World, cents_of, currency_of

# Countries that are taxed here, in hundredths of a percent; all others are not.
RATES = {"GB": 2000, "DE": 1900, "FR": 2000}


def tax_cents_of(customer: Body, cents: int) -> int:
    """The tax on a sum for a customer, by the country of their address."""
    country = (customer.get("address") or {}).get("country", "")
    return (cents * RATES.get(country, 0) + 5000) // 10_000


def calculation_create(world: World, params: Body) -> Body:
    """What the tax on a sum would be."""
    customer = customer_alive(world, str(params.get("customer", "")))
    cents = sum(cents_of(item, "amount") for item in params.get("line_items") or [])
    tax = tax_cents_of(customer, cents)
    return world.make(
        "taxcalc", "tax.calculation", amount_total=cents + tax, currency=currency_of(params),
        customer=customer["id"], tax_amount_exclusive=tax, tax_amount_inclusive=0,
    )  # fmt: skip
