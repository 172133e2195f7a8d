"""Rows and options of the usage page, written without the template engine: it takes longer for a thousand cells than
the sums behind them do.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache

from django import template
from django.urls import reverse
from django.utils.html import escape
from django.utils.safestring import SafeString

from kindling_console.templatetags.kindling import count, usd_cost, usd_exact
from kindling_console.templatetags.usage_figures import milliseconds
from kindling_console.usage_lines import UsageLine
from kindling_console.usage_steps import UsageStep
from kindling_platform.usage.buckets import zone_names
from kindling_platform.usage.reports import UsageSum

register = template.Library()


@register.simple_tag
def usage_line_rows(lines: Sequence[tuple[UsageLine, str]], compare: bool) -> SafeString:
    """A row per name, which leads to its requests where they can be told."""
    requests = reverse("console:requests")
    rows = []
    for line, query in lines:
        name = str(escape(line.name))
        name = f'<a href="{requests}?{escape(query)}">{name}</a>' if query else name
        before = line.before if compare else None
        rows.append(f'<tr><td class="clip">{name}</td>{usage_line_cells(line.sums, before)}</tr>')
    return _html(rows)


@register.simple_tag
def usage_line_cells(sums: UsageSum, before: UsageSum | None) -> SafeString:
    """The cells of a breakdown's row, behind its name; `before` is what it was in the span before."""
    return _html(
        (
            _cell(count(sums.requests)),
            *(_cell(count(value), wide=True) for value in (sums.failed, sums.prompt_tokens)),
            *(_cell(count(value), wide=True) for value in (sums.cached_tokens, sums.completion_tokens)),
            _cell(milliseconds(sums.mean_first_token_ms), wide=True),
            _cost(before.cost_picousd, wide=True) if before else "",
            _cost(sums.cost_picousd),
        )
    )


@register.simple_tag
def usage_step_rows(steps: Sequence[UsageStep]) -> SafeString:
    """A row per hour, day or month."""
    return _html(
        f'<tr><td class="nowrap">{escape(step.name)}</td>{usage_step_cells(step.sums)}</tr>' for step in steps
    )


@register.simple_tag
def usage_step_cells(sums: UsageSum) -> SafeString:
    """The cells of a step's row, behind its time."""
    return _html(
        (
            _cell(count(sums.requests)),
            *(_cell(count(value), wide=True) for value in (sums.prompt_tokens, sums.completion_tokens)),
            _cell(milliseconds(sums.mean_first_token_ms), wide=True),
            _cost(sums.cost_picousd),
        )
    )


@register.simple_tag
@lru_cache(maxsize=1)
def zone_options() -> SafeString:
    """The time zones that this machine knows, to choose from."""
    return _html(f"<option>{escape(name)}" for name in sorted(zone_names()))


def _cell(text: str, *, wide: bool = False) -> str:
    return f'<td class="num{" hide-sm" if wide else ""}">{text}</td>'


def _cost(picousd: int, *, wide: bool = False) -> str:
    hidden = " hide-sm" if wide else ""
    return f'<td class="num nowrap{hidden}" title="{usd_exact(picousd)}">{usd_cost(picousd)}</td>'


def _html(parts: Iterable[str]) -> SafeString:
    return SafeString("".join(parts))
