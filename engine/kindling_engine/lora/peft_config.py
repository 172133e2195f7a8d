"""The part of PEFT's ``adapter_config.json`` that decides how strongly each target is scaled."""

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kindling_engine.lora.errors import AdapterError

_PLAIN_NAME = re.compile(r"[A-Za-z0-9_.]+")


@dataclass(frozen=True, slots=True)
class PeftScaling:
    """``lora_alpha`` with its per-module exceptions, and whether rank-stabilised scaling is on."""

    alpha: float
    alpha_of: tuple[tuple[str, bool, float], ...]
    rank_stabilised: bool

    def scale(self, module: str, rank: int) -> float:
        """Factor on B·A for a module path such as ``model.layers.0.self_attn.q_proj``.

        α/r, or α/√r when rank-stabilised (Kalajdzievski, 2023). The first matching exception wins, as in
        PEFT.
        """
        alpha = self.alpha
        for name, anchored, value in self.alpha_of:
            if module == name or (not anchored and module.endswith("." + name)):
                alpha = value
                break
        return alpha / math.sqrt(rank) if self.rank_stabilised else alpha / rank


def peft_scaling_read(path: Path) -> PeftScaling:
    """Read the scaling from an ``adapter_config.json`` that has passed the checks of its form."""
    try:
        raw = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise AdapterError("config_json", f"{path.name} cannot be read.") from error
    return PeftScaling(
        alpha=_number(raw.get("lora_alpha", 8), "lora_alpha"),
        alpha_of=_exceptions(raw.get("alpha_pattern") or {}),
        rank_stabilised=bool(raw.get("use_rslora", False)),
    )


def _exceptions(raw: Any) -> tuple[tuple[str, bool, float], ...]:
    """Names with their alpha; the flag says whether the name is anchored to the start of the path.

    PEFT reads the keys as regular expressions. Ours are names only: an uploaded expression could take for
    ever to match.
    """
    if not isinstance(raw, dict):
        raise AdapterError("config_json", "alpha_pattern must be an object.")
    exceptions = []
    for key, value in raw.items():
        name = key.removeprefix("^").removesuffix("$").replace("\\.", ".")
        if not _PLAIN_NAME.fullmatch(name):
            raise AdapterError("config_json", f"alpha_pattern key {key[:80]!r} is not a plain module name.")
        exceptions.append((name, key.startswith("^"), _number(value, "alpha_pattern")))
    return tuple(exceptions)


def _number(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise AdapterError("config_json", f"{name} must be a finite number.")
    return float(value)
