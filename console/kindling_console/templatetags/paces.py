"""How the console writes how busy a deployment is, and what it costs."""

from django import template

from kindling_billing.money import PICO_PER_USD, pico_to_usd_text

register = template.Library()
CENT_PICOUSD = PICO_PER_USD // 100


@register.filter
def requests_rate(per_s: float | None) -> str:
    """Requests per second: two decimals where there are few, and never nothing where there were some."""
    if per_s is None:
        return "—"
    if per_s >= 100:
        return f"{per_s:,.0f}"
    if per_s >= 10:
        return f"{per_s:.1f}"
    return "< 0.01" if 0 < per_s < 0.01 else f"{per_s:.2f}"


@register.filter
def hour_cost(picousd: int | None) -> str:
    """Dollars for an hour: in cents, with more decimals only below one."""
    if picousd is None:
        return "no price"
    if 0 < picousd < CENT_PICOUSD:
        return f"${pico_to_usd_text(picousd, 6).rstrip('0')}"
    return f"${pico_to_usd_text(picousd, 2)}"
