"""How the console writes times and speeds that were measured."""

from django import template

register = template.Library()


@register.filter
def duration(ms: float | None) -> str:
    """A time in milliseconds: in seconds from one second up, with a decimal where it is short."""
    if ms is None:
        return "—"
    if ms >= 1000:
        return f"{ms / 1000:,.2f} s" if ms < 10_000 else f"{ms / 1000:,.1f} s"
    return f"{ms:.0f} ms" if ms >= 10 else f"{ms:.1f} ms"


@register.filter
def per_second(rate: float | None) -> str:
    """Tokens per second."""
    if rate is None:
        return "—"
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.1f}"
