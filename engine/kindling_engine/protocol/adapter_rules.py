"""What adapter_config.json says about each module, as PEFT reads it: whether it is adapted, and how strongly.

The keys of rank_pattern and alpha_pattern, and target_modules where it is one string, are regular expressions. Nearly
all are plain names, which are looked up; a dot in those is a dot. The others run within a budget (see ``patterns``).
"""

import math
import re
from functools import lru_cache
from typing import Any

from kindling_engine.protocol.patterns import Budget, Pattern, PatternRefused

ALL_LINEAR = "all-linear"
PATTERNS = ("rank_pattern", "alpha_pattern")
EMBEDDING, HEAD = "embed_tokens", "lm_head"
_EMBEDDINGS = (f"model.{EMBEDDING}", f"model.language_model.{EMBEDDING}")
MAX_PATTERNS = 64
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_.]+")
_LAYER = re.compile(r"0|[1-9][0-9]*")


class RulesRefused(ValueError):
    """A field cannot be read as PEFT would: the check that fails, the text that names the field, and the fix."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.check = "rank" if field in PATTERNS else "target_modules"
        self.fix = f"Name modules in {field}, such as q_proj or model.layers.0.self_attn.q_proj."


class ModuleRules:
    """Reads a config whose fields are of the right types; every method may raise RulesRefused."""

    def __init__(self, config: dict[str, Any]) -> None:
        budget = Budget()
        self.rank_stabilised = bool(config.get("use_rslora"))
        self._rank = int(config.get("r", 8))
        self._ranks = _Keys(config, "rank_pattern", budget)
        self._alpha = float(config.get("lora_alpha", 8))
        self._alphas = _Keys(config, "alpha_pattern", budget)
        self._targets = _Modules(config, "target_modules", budget)
        self._excluded = _Modules(config, "exclude_modules", budget)
        self._parameters = tuple(config.get("target_parameters") or ())
        self._ties = bool(config.get("ensure_weight_tying"))
        self._layers = _Layers(config)

    def rank(self, module: str) -> int:
        """The rank that a module or parameter was trained with."""
        return int(self._ranks.value(self._name(module), self._rank))

    def scale(self, module: str, rank: int) -> float:
        """Factor on B·A: α/r, or α/√r when rank-stabilised (Kalajdzievski, 2023)."""
        alpha = self._alphas.value(self._name(module), self._alpha)
        return alpha / math.sqrt(rank) if self.rank_stabilised else alpha / rank

    def targeted(self, module: str) -> bool:
        """Whether PEFT would adapt the module, or the parameter, at this path."""
        if self._parameter(self._name(module)):
            return True
        if self._ties and module == HEAD and any(self.targeted(path) for path in _EMBEDDINGS):
            return True  # PEFT adapts the embedding, and the head along with it
        if self._excluded.hold(module):
            return False
        if self._targets.all_linear:
            return not module.endswith(EMBEDDING)
        if not self._targets.hold(module):
            return False
        # A whole path, and a pattern, go before layers_to_transform.
        return self._targets.is_pattern or self._targets.names(module) or self._layers.hold(module)

    def _name(self, module: str) -> str:
        """A router is one of PEFT's modules or, where transformers makes a parameter of it, its weight."""
        weight = f"{module}.weight"
        return weight if self._parameter(weight) else module

    def _parameter(self, path: str) -> bool:
        return bool(self._parameters) and any(name in self._parameters for name in _endings(path))


class _Keys:
    """The first key that matches decides, as ``re.match(rf"(.*\\.)?({key})$", module)`` does."""

    def __init__(self, config: dict[str, Any], field: str, budget: Budget) -> None:
        self._field = field
        self._plain: dict[tuple[str, bool], int] = {}
        self._patterns: list[tuple[int, Pattern]] = []
        self._values: list[float] = []
        for index, (key, value) in enumerate((config.get(field) or {}).items()):
            self._values.append(float(value))
            name = key.removeprefix("^").removesuffix("$").replace("\\.", ".")
            if _PLAIN_NAME.fullmatch(name):
                self._plain.setdefault((name, key.startswith("^")), index)
            elif len(self._patterns) == MAX_PATTERNS:
                raise RulesRefused(field, f"more than {MAX_PATTERNS} of its keys are no plain names")
            else:
                self._patterns.append((index, _compiled(field, rf"(.*\.)?({key})$", key, budget)))

    def value(self, module: str, default: float) -> float:
        if not self._values:
            return default
        places = [self._plain.get((name, False)) for name in _endings(module)]
        places.append(self._plain.get((module, True)))
        first = min((place for place in places if place is not None), default=len(self._values))
        for place, pattern in self._patterns:
            if place > first:
                break
            if _matches(self._field, pattern, module):
                return self._values[place]
        return self._values[first] if first < len(self._values) else default


class _Modules:
    """A list of names that modules are called or end in, or one expression for whole paths."""

    def __init__(self, config: dict[str, Any], field: str, budget: Budget) -> None:
        value = config.get(field) or ()
        self._field = field
        self.all_linear = isinstance(value, str) and value.lower() == ALL_LINEAR
        self.is_pattern = isinstance(value, str)
        self._names = frozenset(() if self.is_pattern else value)
        self._pattern = None
        if isinstance(value, str) and not self.all_linear:
            self._pattern = _compiled(field, value, value, budget)

    def names(self, module: str) -> bool:
        return module in self._names

    def hold(self, module: str) -> bool:
        if self._pattern is not None:
            return _matches(self._field, self._pattern, module)
        return bool(self._names) and any(name in self._names for name in _endings(module))


class _Layers:
    """``layers_to_transform``: the number behind a name of ``layers_pattern``, or else the first number in a path."""

    def __init__(self, config: dict[str, Any]) -> None:
        layers, names = config.get("layers_to_transform"), config.get("layers_pattern") or ()
        self._layers = {layers} if isinstance(layers, int) else set(layers or ())
        self._names = (names,) if isinstance(names, str) else tuple(names)
        for name in self._names:
            if not _PLAIN_NAME.fullmatch(name):
                raise RulesRefused("layers_pattern", f"{name[:60]!r} is not the plain name of a module")

    def hold(self, module: str) -> bool:
        return not self._layers or layer_of(module, self._names) in self._layers


def layer_of(module: str, names: tuple[str, ...] = ()) -> int | None:
    """The number of the layer that a module lies in, None for none."""
    parts = module.split(".")
    for name in names or (None,):
        for at in range(1, len(parts) - 1):
            before = ".".join(parts[:at])
            # Without a name, PEFT wants two parts before the number.
            fits = at > 1 if name is None else before == name or before.endswith(f".{name}")
            if fits and _LAYER.fullmatch(parts[at]):
                return int(parts[at])
    return None


@lru_cache(maxsize=4)  # each path is asked for several times in a row
def _endings(module: str) -> tuple[str, ...]:
    """The path itself and what is left of it behind each dot."""
    endings = [module]
    while (dot := module.find(".")) >= 0:
        module = module[dot + 1 :]
        endings.append(module)
    return tuple(endings)


def _compiled(field: str, text: str, shown: str, budget: Budget) -> Pattern:
    try:
        return Pattern(text, budget)
    except PatternRefused as refused:
        raise RulesRefused(field, f"the expression {shown[:60]!r} is not served, as {refused}") from refused


def _matches(field: str, pattern: Pattern, module: str) -> bool:
    try:
        return pattern.fullmatch(module)
    except PatternRefused as refused:
        raise RulesRefused(field, f"an expression is not served, as {refused}") from refused
