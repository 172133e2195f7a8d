"""What a bench is asked for and what it gives back."""

import platform
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from os import cpu_count
from pathlib import Path

Value = float | int | str | None
LIBRARIES = ("torch", "aiohttp", "tokenizers")


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """``quick`` takes medians of 3 instead of 5."""

    model: Path
    device: str
    quick: bool

    @property
    def repeats(self) -> int:
        return 3 if self.quick else 5


@dataclass(frozen=True, slots=True)
class Figures:
    """Named figures; the unit is part of the name."""

    values: dict[str, Value] = field(default_factory=dict)

    def table(self) -> str:
        """One figure per line."""
        width = max(map(len, self.values), default=0)
        return "\n".join(f"{name.ljust(width)}  {shown(value)}" for name, value in self.values.items())


def circumstances() -> dict[str, Value]:
    """Date, machine and versions, without which a figure says little."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": f"{platform.machine()}, {cpu_count()} cores, Python {platform.python_version()}",
        **{f"{name}_version": _version(name) for name in LIBRARIES},
    }


def shown(value: Value) -> str:
    return f"{value:,.3g}" if isinstance(value, float) and value < 1000 else f"{value:,.0f}" if isinstance(
        value, float
    ) else str(value)  # fmt: skip


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
