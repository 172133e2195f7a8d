"""What a bench is asked for and what it gives back."""

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from os import cpu_count
from pathlib import Path
from typing import Any

Value = float | int | str | Mapping[str, Any] | None
CUDA_PARTS = ("gates", "mixed", "decode", "adapters")
"""Of the engine bench on a GPU, in the order in which they run."""
LIBRARIES = ("torch", "transformers", "aiohttp", "tokenizers")


class DeviceMissingError(Exception):
    """There is no device that the bench could measure anything on."""


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """``quick`` takes medians of 3 instead of 5; ``peers`` installs those that are not there. ``only``: one of
    CUDA_PARTS, all where it is empty.
    """

    model: Path
    device: str
    quick: bool
    peers: bool = False
    only: str = ""

    @property
    def repeats(self) -> int:
        return 3 if self.quick else 5

    @property
    def on_cuda(self) -> bool:
        import torch

        return self.device == "cuda" or (self.device == "auto" and torch.cuda.is_available())


@dataclass(frozen=True, slots=True)
class Figures:
    """Named figures; the unit is part of the name."""

    values: dict[str, Value] = field(default_factory=dict)

    def table(self) -> str:
        """One figure per line."""
        rows = list(_flat(self.values))
        width = max((len(name) for name, _ in rows), default=0)
        return "\n".join(f"{name.ljust(width)}  {shown(value)}" for name, value in rows)


def circumstances() -> dict[str, Value]:
    """Date, machine and versions, without which a figure says little."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": f"{_processor()}, {cpu_count()} cores, Python {platform.python_version()}",
        **{f"{name}_version": _version(name) for name in LIBRARIES},
    }


def shown(value: Value) -> str:
    return f"{value:,.3g}" if isinstance(value, float) and value < 1000 else f"{value:,.0f}" if isinstance(
        value, float
    ) else str(value)  # fmt: skip


def _flat(values: Mapping[str, Value], above: str = "") -> list[tuple[str, Value]]:
    rows: list[tuple[str, Value]] = []
    for name, value in values.items():
        rows += _flat(value, f"{above}{name}: ") if isinstance(value, Mapping) else [(above + name, value)]
    return rows


def _processor() -> str:
    """The processor's name and the vector instructions that decide how fast it multiplies."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    entries = dict(line.split("\t", 1) for line in reversed(lines) if "\t" in line)
    name = entries.get("model name", platform.machine()).strip(":\t ")
    flags = entries.get("flags", "").split()
    known = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_tile") if flag in flags]
    return f"{name} ({' '.join(known)})"


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
