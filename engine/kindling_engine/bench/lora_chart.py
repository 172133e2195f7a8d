"""The curve of the adapter bench as a picture: speed against the number of adapters, with the byte floor."""

from collections.abc import Mapping, Sequence
from typing import Any

_WIDTH, _HEIGHT, _LEFT, _TOP, _RIGHT, _BOTTOM = 720, 360, 64, 44, 24, 56
_TICKS = (0, 20, 40, 60, 80, 100)


def lora_chart(values: Mapping[str, Any]) -> str:
    """An SVG of ``curve``; numbers of adapters stand side by side, as they are taken in powers of four or so."""
    points: Sequence[Mapping[str, float]] = values["curve"]
    names = ["base alone" if not point["adapters"] else f"{point['adapters']:,.0f}" for point in points]
    step = (_WIDTH - _LEFT - _RIGHT) / max(1, len(points) - 1)
    places = [_LEFT + index * step for index in range(len(points))]
    ours = [(x, _y(point["fraction_of_base"])) for x, point in zip(places, points, strict=True)]
    floor = [(x, _y(point["byte_floor"])) for x, point in zip(places, points, strict=True)]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        'font-family="system-ui, sans-serif" font-size="13" fill="#444">',
        "<title>Decode speed by the number of adapters, as a share of the base model's</title>",
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>',
        f'<text x="{_LEFT}" y="24" font-size="15" fill="#111">Decode, 32 rows: % of the base model’s speed by '
        f"adapters among the rows ({values['device']}, {values['layers']} layers)</text>",
    ]
    for tick in _TICKS:
        y = _y(tick / 100)
        parts.append(
            f'<line x1="{_LEFT}" y1="{y:.1f}" x2="{_WIDTH - _RIGHT}" y2="{y:.1f}" stroke="#e4e4e4"/>'
        )
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{tick} %</text>')
    for x, name in zip(places, names, strict=True):
        parts.append(f'<text x="{x:.1f}" y="{_HEIGHT - 30}" text-anchor="middle">{name}</text>')
    parts.append(_line(floor, "#999", dashed=True))
    parts.append(_line(ours, "#c2410c"))
    parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="#c2410c"/>' for x, y in ours]
    parts.append(
        f'<text x="{_LEFT}" y="{_HEIGHT - 8}">adapters; <tspan fill="#c2410c">measured</tspan>, dashed: what '
        "reading their bytes once allows</text></svg>"
    )
    return "\n".join(parts) + "\n"


def _y(fraction: float) -> float:
    return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (1 - min(fraction, 1.1) / 1.1)


def _line(points: Sequence[tuple[float, float]], colour: str, *, dashed: bool = False) -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dashes = ' stroke-dasharray="5 4"' if dashed else ""
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"{dashes}/>'
