"""Bar charts as plain numbers; the template draws them as SVG, so that no script is needed to see them."""

from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 880, 220
LEFT, RIGHT, TOP, BOTTOM = 80, 8, 12, 28
FLOOR = HEIGHT - BOTTOM
GRID_LINES = 4
MAX_LABELS, MAX_LONG_LABELS, LONG_LABEL = 8, 6, 8
MAX_BAR_WIDTH = 44


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar in the drawing's coordinates, with the words of its title."""

    x: float
    y: float
    width: float
    height: float
    label: str
    value: int
    label_x: float
    shows_label: bool
    before: int | None = None
    before_y: float = 0.0

    @property
    def right(self) -> float:
        """Where it ends."""
        return round(self.x + self.width, 2)


@dataclass(frozen=True, slots=True)
class GridLine:
    """A horizontal line and the value it stands for."""

    y: float
    value: int


@dataclass(frozen=True, slots=True)
class Chart:
    """A finished drawing."""

    width: int
    height: int
    left: int
    right: int
    bars: list[Bar]
    grid: list[GridLine]
    total: int
    peak: Bar | None

    @property
    def plot(self) -> int:
        """How wide the bars' part of it is; the values' names stand left of that."""
        return self.width - self.left


def bar_chart(points: Sequence[tuple[str, int]], *, before: Sequence[int] = ()) -> Chart:
    """Bars for labelled values of zero or more, scaled to a round top value; `before` is a mark across each bar."""
    top = round_up(max(max((value for _, value in points), default=0), max(before, default=0)))
    slot = (WIDTH - LEFT - RIGHT) / max(len(points), 1)
    width = min(slot * 0.72, MAX_BAR_WIDTH)
    # Long labels want more room.
    most = (
        MAX_LABELS if max((len(label) for label, _ in points), default=0) <= LONG_LABEL else MAX_LONG_LABELS
    )
    every = -(-len(points) // most)
    bars = []
    for index, (label, value) in enumerate(points):
        height = (FLOOR - TOP) * value / top if top else 0.0
        # A value that is not nothing must be seen.
        height = max(height, 2.0) if value else 0.0
        middle = LEFT + slot * (index + 0.5)
        mark = before[index] if index < len(before) else None
        bars.append(
            Bar(
                x=round(middle - width / 2, 2), y=round(FLOOR - height, 2), width=round(width, 2),
                height=round(height, 2), label=label, value=value, label_x=round(middle, 2),
                shows_label=(len(points) - 1 - index) % every == 0, before=mark,
                before_y=round(FLOOR - ((FLOOR - TOP) * mark / top if mark and top else 0), 2),
            )
        )  # fmt: skip
    grid = [
        GridLine(round(FLOOR - (FLOOR - TOP) * step / GRID_LINES, 2), top * step // GRID_LINES)
        for step in range(GRID_LINES + 1)
    ]
    peak = max(bars, key=lambda bar: bar.value, default=None)
    total = sum(value for _, value in points)
    return Chart(WIDTH, HEIGHT, LEFT, WIDTH - RIGHT, bars, grid, total, peak if total else None)


def round_up(value: int) -> int:
    """The next round number whose quarters are round too: 1, 1.2, 1.6, 2, 2.4 … times a power of ten."""
    if value <= 0:
        return 0
    power = int(10 ** (len(str(value)) - 1))
    return next(
        factor * power // 10
        for factor in (10, 12, 16, 20, 24, 32, 40, 60, 80, 100)
        if factor * power >= value * 10
    )
