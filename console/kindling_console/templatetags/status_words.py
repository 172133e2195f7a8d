"""How the console writes what components are like."""

from collections.abc import Iterable
from typing import Any

from django import template
from django.utils.html import format_html_join
from django.utils.safestring import SafeString

register = template.Library()
WORDS = {"up": "Up", "limited": "Limited", "starting": "Starting", "down": "Down", "unknown": "Not known"}
AGES = ((60, "minute"), (3600, "hour"), (86_400, "day"))


@register.filter
def state_word(state: str) -> str:
    """A component's state."""
    return WORDS.get(state, state)


@register.filter
def drawn(cells: Iterable[Any]) -> SafeString:
    """A strip's cells as rectangles: a template's own loop takes more than twice as long for them."""
    rectangle = '<rect class="strip-{}" x="{}" y="{}" width="8" height="{}"><title>{}</title></rect>'
    return format_html_join("", rectangle, ((one.kind, one.x, one.y, one.height, one.words) for one in cells))


@register.filter
def lasted(since: object, moment: object) -> str:
    """How long something has been so, in the largest unit that fits; "" where that is not known."""
    if since is None:
        return ""
    seconds = (moment - since).total_seconds()  # type: ignore[operator]
    if seconds < AGES[0][0]:
        return "for less than a minute"
    unit_s, name = next(age for age in reversed(AGES) if seconds >= age[0])
    number = int(seconds // unit_s)
    return f"for {number:,} {name}{'' if number == 1 else 's'}"
