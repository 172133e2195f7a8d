"""Puts the tensors of an adapter together to the modules and parameters that they adapt, from names and shapes alone.

PEFT's names: ``lora_A`` and ``lora_B`` at a linear layer, ``lora_embedding_A`` and ``_B`` at a table, with DoRA a
``lora_magnitude_vector``, and beside an adapted table or head the base's own weight. Experts that transformers keeps
as two parameters are wrapped one in the other, so that ``experts`` and ``experts.base_layer`` name either of the two;
shapes tell which. ``experts.3.up_proj`` is what an older transformers called one of many.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from kindling_engine.protocol.adapter_base import DOWN, GATE_UP, HEAD, BaseShape, ExpertShape
from kindling_engine.protocol.adapter_report import MAX_RANK

LINEAR, TABLE, EXPERTS = "linear", "table", "experts"
_NAME = re.compile(
    r"base_model\.model\.([A-Za-z0-9_.]{1,200})\."
    r"(?:lora_([AB])\.weight|lora_embedding_([AB])|(lora_magnitude_vector)(?:\.weight)?|(base_layer)\.weight)"
)
_A, _B, _TABLE_A, _TABLE_B, _MAGNITUDE, _BASE = "A", "B", "embedding_A", "embedding_B", "magnitude", "base"
_SIDES = {
    _A: "lora_A", _B: "lora_B", _TABLE_A: "lora_embedding_A", _TABLE_B: "lora_embedding_B",
    _MAGNITUDE: "lora_magnitude_vector", _BASE: "base_layer",
}  # fmt: skip

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """What an adapter does to one module or parameter, at ``path``: the names of its tensors, and its rank.

    Linear layers have A ``[r, in]`` and B ``[out, r]``, tables A ``[r, rows]`` and B ``[width, r]``; experts have
    A ``[experts · r, in]``, expert by expert, and B ``[out, r · experts]``, in which the expert changes fastest.
    """

    path: str
    kind: str
    rank: int
    a: str
    b: str
    magnitude: str | None = None
    base: str | None = None


@dataclass(frozen=True, slots=True)
class Assembly:
    """``strange`` are names that belong to nothing, ``unseen`` those of what stands where text does not pass, and
    ``faults`` what does not fit, each with its path.
    """

    parts: tuple[Part, ...]
    strange: tuple[str, ...]
    faults: tuple[str, ...]
    unseen: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Tensor:
    name: str
    shape: Shape


_Sides = dict[str, _Tensor]


def base_as_adapted(shapes: Mapping[str, Shape], base: BaseShape) -> BaseShape:
    """A base with just the layers and tables that a file's matrices are for, as wide as these are."""
    widths: dict[tuple[bool, str], dict[str, int]] = {}
    for name, shape in shapes.items():
        found = _NAME.fullmatch(name)
        side = _side(found)[-1] if found and found.group(2, 3) != (None, None) else ""
        if found and side and shape:
            place = "in" if side == "A" else "out"
            widths.setdefault((found[3] is not None, found[1]), {})[place] = (
                shape[-1] if side == "A" else shape[0]
            )
    places = {key: (width.get("in", 0), width.get("out", 0)) for key, width in widths.items()}
    return replace(
        base,
        linears={path: width for (table, path), width in places.items() if not table},
        embeddings={path: width for (table, path), width in places.items() if table},
    )


def adapter_assemble(shapes: Mapping[str, Shape], base: BaseShape) -> Assembly:
    """All tensors of a file by name; never raises."""
    modules: dict[str, _Sides] = {}
    strange: list[str] = []
    unseen: list[str] = []
    for name, shape in shapes.items():
        found = _NAME.fullmatch(name)
        if found and found[1] in base.unseen:
            unseen.append(name)
            continue
        sides = modules.setdefault(found[1], {}) if found and _known(found[1], base) else None
        side = _side(found) if found else ""
        if sides is None or side in sides:
            strange.append(name)
        else:
            sides[side] = _Tensor(name, shape)
    parts: dict[str, Part] = {}
    faults: list[str] = []
    for module, sides in sorted(modules.items()):
        part = _part(module, sides, base)
        if isinstance(part, str):
            faults.append(f"{module} {part}")
        elif part.path in parts:
            faults.append(f"{part.path} is there twice")
        else:
            parts[part.path] = part
    fused = {path.rsplit(".", 1)[0] for path, part in parts.items() if part.kind == EXPERTS}
    both = next((path for path in parts if fused and path.rsplit(".", 2)[0] in fused), None)
    if both is not None:
        faults.append(f"{both} is there beside matrices for all experts at once")
    return Assembly(tuple(parts.values()), tuple(strange), tuple(faults), tuple(unseen))


def _side(found: re.Match[str]) -> str:
    linear, table, magnitude, _ = found.group(2, 3, 4, 5)
    if table:
        return f"embedding_{table}"
    return linear or (_MAGNITUDE if magnitude else _BASE)


def _known(module: str, base: BaseShape) -> bool:
    return (
        base.linear_at(module) is not None
        or base.embedding_at(module) is not None
        or _mixture(module, base) is not None
    )


def _mixture(module: str, base: BaseShape) -> ExpertShape | None:
    return base.experts_at(module.removesuffix(".base_layer"))


def _part(module: str, sides: _Sides, base: BaseShape) -> Part | str:
    """The part, or what is wrong with it."""
    mixture = _mixture(module, base)
    if mixture is not None:
        return _experts(module, sides, mixture)
    table = base.embedding_at(module)
    kind, (a, b) = (TABLE, (_TABLE_A, _TABLE_B)) if table else (LINEAR, (_A, _B))
    expected = {a, b, _MAGNITUDE}
    if table is not None or module == HEAD:
        expected.add(_BASE)
    fault = _sides_fault(sides, a, b, expected)
    if fault:
        return fault
    width_in, width_out = table or base.linear_at(module) or (0, 0)
    rank = sides[a].shape[0] if sides[a].shape else 0
    wanted = {a: (rank, width_in), b: (width_out, rank), _MAGNITUDE: (width_out,)}
    wanted[_BASE] = (width_in, width_out) if table else (width_out, width_in)
    fault = _shapes_fault(sides, wanted, rank)
    if fault:
        return fault
    others = {side: sides[side].name if side in sides else None for side in (_MAGNITUDE, _BASE)}
    return Part(
        module, kind, rank, sides[a].name, sides[b].name, magnitude=others[_MAGNITUDE], base=others[_BASE]
    )


def _experts(module: str, sides: _Sides, mixture: ExpertShape) -> Part | str:
    fault = _sides_fault(sides, _A, _B, {_A, _B})
    if fault:
        return fault
    a, b = sides[_A], sides[_B]
    whole = a.shape[0] if a.shape else 0
    for name, limit in ((GATE_UP, 2 * MAX_RANK), (DOWN, MAX_RANK)):
        width_in, width_out = mixture.parameter(name)
        if a.shape == (whole, width_in) and b.shape == (width_out, whole):
            rank, rest = divmod(whole, mixture.count)
            if rest or not 1 <= rank <= limit:
                return f"has {whole} ranks in all, which do not make 1 to {limit} of each of {mixture.count} experts"
            return Part(f"{module.removesuffix('.base_layer')}.{name}", EXPERTS, rank, a.name, b.name)
    return f"has A {list(a.shape)} and B {list(b.shape)}, which fit neither {GATE_UP} nor {DOWN}"


def _sides_fault(sides: _Sides, a: str, b: str, expected: set[str]) -> str:
    for side in (a, b):
        if side not in sides:
            return f"lacks its {_SIDES[side]}"
    odd = next((side for side in sides if side not in expected), None)
    return "" if odd is None else f"has a {_SIDES[odd]}, which is not for it"


def _shapes_fault(sides: _Sides, wanted: dict[str, Shape], rank: int) -> str:
    if not 1 <= rank <= MAX_RANK:
        return f"has a rank of {rank}, which is not between 1 and {MAX_RANK}"
    for side, tensor in sides.items():
        if tensor.shape != wanted[side]:
            return f"has {_SIDES[side]} {list(tensor.shape)}, expected {list(wanted[side])}"
    return ""
