"""Checks the tensors that adapter_model.safetensors claims to hold against the base model and the config."""

import re
from typing import Any

from kindling_engine.protocol.adapter_config import allowed_ranks, transformed_layers
from kindling_engine.protocol.adapter_report import (
    MAX_RANK,
    SAVE_AGAIN,
    WEIGHTS_NAME,
    AdapterReport,
    BaseShape,
)
from kindling_engine.protocol.safetensors_header import HeaderRefused, TensorEntry, parse_header

FLOAT_DTYPES = {"F32", "F16", "BF16"}
TENSOR_NAME = re.compile(r"base_model\.model\.([A-Za-z0-9_.]{1,200})\.lora_([AB])\.weight")

# The module's path, then the shapes of A and B.
Sides = dict[str, dict[str, tuple[int, ...]]]


def check_safetensors_header(
    header: bytes, file_size: int, base: BaseShape, config: dict[str, Any] | None = None
) -> AdapterReport:
    """Check the header's JSON bytes; never raises. A config that passed its own check sharpens this one."""
    report = AdapterReport()
    try:
        entries = parse_header(header, file_size)
    except HeaderRefused as refused:
        report.add("safetensors_header", "fail", f"{WEIGHTS_NAME}: {refused}.", SAVE_AGAIN)
        return report
    report.add("safetensors_header", "pass", f"{len(entries)} tensors, without gaps or overlaps.")
    _check_dtype(report, entries)
    sides = _check_names(report, entries, base)
    _check_shapes(report, sides, base, config)
    if config is not None:
        _check_layers(report, sides, config)
    if report.ok and sides:
        report.target_modules = [name for name in base.targets if any(_short(path) == name for path in sides)]
        report.parameters = sum(a * b for pair in sides.values() for a, b in pair.values())
        report.add("target_modules", "pass", f"Adapts {', '.join(report.target_modules)}.")
        report.add("tensor_shapes", "pass", f"Every matrix fits {base.ref}.")
    return report


def _check_dtype(report: AdapterReport, entries: list[TensorEntry]) -> None:
    dtypes = sorted({entry.dtype for entry in entries})
    report.dtype = "+".join(dtypes)
    if set(dtypes) <= FLOAT_DTYPES:
        report.add("dtype", "pass", f"Weights are {report.dtype}.")
    else:
        report.add("dtype", "fail", f"Weights are {report.dtype}.", "Save the adapter in fp32, fp16 or bf16.")


def _check_names(report: AdapterReport, entries: list[TensorEntry], base: BaseShape) -> Sides:
    sides: Sides = {}
    strange = []
    for entry in entries:
        match = TENSOR_NAME.fullmatch(entry.name)
        pair = sides.setdefault(match[1], {}) if match and base.linear_at(match[1]) else None
        if match is None or pair is None:
            strange.append(entry.name[:100])
        else:
            pair[match[2]] = entry.shape
    if strange:
        report.add(
            "target_modules",
            "fail",
            f"{len(strange)} tensors do not belong to {base.ref}, such as {strange[0]!r}.",
            f"Train on {base.ref} with targets among {', '.join(base.targets[:12])}.",
        )
    return sides


def _check_shapes(
    report: AdapterReport, sides: Sides, base: BaseShape, config: dict[str, Any] | None
) -> None:
    wrong, ranks = [], set()
    for path, pair in sorted(sides.items()):
        fault = _fault(pair, *(base.linear_at(path) or (0, 0)))
        if fault:
            wrong.append(f"{path} {fault}")
        else:
            ranks.add(pair["A"][0])
    if wrong:
        report.add(
            "tensor_shapes",
            "fail",
            f"{len(wrong)} layers do not fit {base.ref}: {wrong[0]}.",
            "Choose the base model that the adapter was trained on.",
        )
    report.rank = max(ranks, default=0)
    allowed = allowed_ranks(config or {})
    if allowed and not ranks <= allowed:
        report.add(
            "rank",
            "fail",
            f"A matrix has rank {max(ranks - allowed)}; the config names {sorted(allowed)[:8]}.",
            SAVE_AGAIN,
        )


def _fault(pair: dict[str, tuple[int, ...]], width_in: int, width_out: int) -> str:
    if set(pair) != {"A", "B"}:
        return f"lacks its lora_{'B' if 'A' in pair else 'A'}"
    rank = pair["A"][0] if len(pair["A"]) == 2 else 0
    if not 1 <= rank <= MAX_RANK:
        return f"has A {list(pair['A'])}, whose rank is not between 1 and {MAX_RANK}"
    if pair["A"] != (rank, width_in) or pair["B"] != (width_out, rank):
        return (
            f"has A {list(pair['A'])} and B {list(pair['B'])}, "
            f"expected [{rank}, {width_in}] and [{width_out}, {rank}]"
        )
    return ""


def _check_layers(report: AdapterReport, sides: Sides, config: dict[str, Any]) -> None:
    try:
        named = transformed_layers(config)
    except TypeError:
        return  # refused with the config
    if named is not None and named != {_layer(path) for path in sides}:
        report.add(
            "target_modules",
            "fail",
            "layers_to_transform names other layers than the file holds.",
            SAVE_AGAIN,
        )


def _short(path: str) -> str:
    return path.rsplit(".", 1)[-1]


def _layer(path: str) -> int:
    """The number of the layer that a module lies in, −1 for none; the first number in a path is that."""
    return next((int(part) for part in path.split(".") if part.isdigit()), -1)
