"""The bars of the usage page's drawing as SVG, without the template engine: there may be eight hundred."""

from collections.abc import Sequence

from django import template
from django.utils.html import escape
from django.utils.safestring import SafeString

from kindling_console.charts import FLOOR, Bar, Chart
from kindling_console.templatetags.usage_figures import figure_plain

register = template.Library()
# Of more bars than that each is thinner than one can point at: neighbours share a title, which has a line for each.
MOST_APART = 120
LABELS_Y = 212
HALF_LETTER = 3.2


@register.simple_tag
def usage_bars(chart: Chart, figure: str) -> SafeString:
    """Bars with their titles, marks of the span before, and labels."""
    together = max(1, -(-len(chart.bars) // MOST_APART))
    parts = []
    for first in range(0, len(chart.bars), together):
        bars = chart.bars[first : first + together]
        title = "\n".join(_title(bar, figure, alone=together == 1) for bar in bars)
        parts.append(f'<g class="bar">{_shapes(bars)}<title>{escape(title)}</title></g>')
        parts += [
            f'<text class="axis" {_place(bar, chart.width)} y="{LABELS_Y}">{escape(bar.label)}</text>'
            for bar in bars
            if bar.shows_label
        ]
    return SafeString("".join(parts))


def _shapes(bars: Sequence[Bar]) -> str:
    if len(bars) == 1:
        (bar,) = bars
        size = f'width="{bar.width}" height="{bar.height}"'
        shape = f'<rect x="{bar.x}" y="{bar.y}" {size} rx="3"></rect>' if bar.value else ""
    else:
        lines = "".join(f"M{bar.label_x} {FLOOR}V{bar.y}" for bar in bars if bar.value)
        shape = f'<path class="bars" d="{lines}" stroke-width="{bars[0].width}"></path>' if lines else ""
    marks = "".join(f"M{bar.x} {bar.before_y}h{bar.width}" for bar in bars if bar.before)
    return shape + (f'<path class="before" d="{marks}"></path>' if marks else "")


def _place(bar: Bar, width: int) -> str:
    # What would stick out at the right is moved in.
    if bar.label_x + len(bar.label) * HALF_LETTER > width:
        return f'x="{width}" text-anchor="end"'
    return f'x="{bar.label_x}" text-anchor="middle"'


def _title(bar: Bar, figure: str, *, alone: bool) -> str:
    text = f"{bar.label}: {figure_plain(bar.value, figure)}"
    return f"{text}, before: {figure_plain(bar.before, figure)}" if alone and bar.before is not None else text
