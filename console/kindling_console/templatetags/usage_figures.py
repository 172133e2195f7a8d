"""How the usage page writes its figures: each in its unit, and what changed since the span before."""

from datetime import datetime
from typing import Any

from django import template

from kindling_console.templatetags.kindling import count, count_plain, usd_cost

register = template.Library()


@register.filter
def figure(value: int | None, key: str) -> Any:
    """A value of a figure: dollars, milliseconds, or a count."""
    if key == "cost":
        return usd_cost(value)
    return milliseconds(value) if key == "latency" else count(value)


@register.filter
def figure_plain(value: int | None, key: str) -> str:
    """The same as text alone, where no markup can stand: in a drawing and in titles."""
    if key in {"cost", "latency"}:
        return str(figure(value, key))
    return "—" if value is None else count_plain(value)


@register.filter
def clock(moment: datetime, form: str) -> str:
    """A moment by its own clock; the built-in filter would turn it to the server's."""
    return f"{moment:{form}}"


@register.filter
def milliseconds(value: int | None) -> str:
    """A time, in seconds from one second up."""
    if value is None:
        return "—"
    return f"{value / 1000:,.1f} s" if value >= 1000 else f"{value:,} ms"


@register.filter
def since(value: int | None, before: int | None) -> str:
    """How a value compares with an earlier one, in a few words; a sign and a word, no colour."""
    if not value and not before:
        return "as before"
    if not before:
        return "none before"
    percent = round(100 * ((value or 0) - before) / before)
    if percent == 0:
        return "as before"
    sign = "+" if percent > 0 else "−"
    return f"{sign}{abs(percent):,} %" if percent < 1000 else f"{(value or 0) / before:,.0f} times"


@register.filter
def compared(value: int | None, before: int | None) -> str:
    """The same as the end of a sentence about a span."""
    if not before:
        return "there was none in the span before"
    percent = round(100 * ((value or 0) - before) / before)
    if percent == 0:
        return "as in the span before"
    return f"{abs(percent):,} % {'more' if percent > 0 else 'less'} than in the span before"
