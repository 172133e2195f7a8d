"""Checks the tensors that adapter_model.safetensors claims to hold against the base model and the config."""

from math import prod
from typing import Any

from kindling_engine.protocol.adapter_base import BaseShape
from kindling_engine.protocol.adapter_config import transformed_layers
from kindling_engine.protocol.adapter_parts import Assembly, Part, adapter_assemble, base_as_adapted
from kindling_engine.protocol.adapter_report import SAVE_AGAIN, UNSEEN, WEIGHTS_NAME, AdapterReport
from kindling_engine.protocol.adapter_rules import ModuleRules, RulesRefused, layer_of
from kindling_engine.protocol.safetensors_header import HeaderRefused, TensorEntry, parse_header

FLOAT_DTYPES = {"F32", "F16", "BF16"}
_WHOLE_WEIGHTS = (".embed_tokens.weight", ".lm_head.weight")
_MANY_TARGETS = 12


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
    shapes = {entry.name: entry.shape for entry in entries}
    if base.open:
        base = base_as_adapted(shapes, base)
    assembly = adapter_assemble(shapes, base)
    _check_names(report, assembly.strange, base)
    _check_unseen(report, assembly)
    if assembly.faults:
        report.add(
            "tensor_shapes",
            "fail",
            f"{len(assembly.faults)} layers do not fit {base.ref}: {assembly.faults[0]}.",
            "Choose the base model that the adapter was trained on.",
        )
    report.rank = max((part.rank for part in assembly.parts), default=0)
    if config is not None and not report.failed("target_modules"):
        _check_config(report, assembly.parts, config)
    if report.ok and assembly.parts:
        _describe(report, assembly.parts, shapes, base)
    return report


def _check_dtype(report: AdapterReport, entries: list[TensorEntry]) -> None:
    dtypes = sorted({entry.dtype for entry in entries})
    report.dtype = "+".join(dtypes)
    if set(dtypes) <= FLOAT_DTYPES:
        report.add("dtype", "pass", f"Weights are {report.dtype}.")
    else:
        report.add("dtype", "fail", f"Weights are {report.dtype}.", "Save the adapter in fp32, fp16 or bf16.")


def _check_names(report: AdapterReport, strange: tuple[str, ...], base: BaseShape) -> None:
    whole = next((name for name in strange if name.endswith(_WHOLE_WEIGHTS)), None)
    if whole is not None:
        report.add(
            "target_modules",
            "fail",
            f"{whole[:100]!r} is a whole weight, as modules_to_save and save_embedding_layers leave it; only LoRA "
            "matrices are served.",
            "Train without modules_to_save, and save with save_embedding_layers=False.",
        )
    elif strange:
        report.add(
            "target_modules",
            "fail",
            f"{len(strange)} tensors do not belong to {base.ref}, such as {strange[0][:100]!r}.",
            f"Train on {base.ref} with targets among {', '.join(base.targets[:_MANY_TARGETS])}.",
        )


def _check_unseen(report: AdapterReport, assembly: Assembly) -> None:
    """Targets such as ``all-linear`` also name layers of what sees images, beside the text that is served."""
    if not assembly.unseen:
        return
    where = f"parts of the base that text does not pass through, such as {assembly.unseen[0][:100]!r}"
    if assembly.parts or assembly.faults:
        report.add(
            UNSEEN,
            "warn",
            f"{len(assembly.unseen)} matrices stand in {where}. They are left aside; answers to text are the same.",
        )
    else:
        report.add(
            UNSEEN,
            "fail",
            f"All matrices stand in {where}, so the adapter changes nothing.",
            "Train layers of the language model, too.",
        )


def _check_config(report: AdapterReport, parts: tuple[Part, ...], config: dict[str, Any]) -> None:
    """Config and file have to agree on what is adapted: PEFT would leave out what the config does not name."""
    try:
        rules = ModuleRules(config)
        unnamed = [part.path for part in parts if not rules.targeted(part.path)]
        ranks = [(part, rules.rank(part.path)) for part in parts]
        for part in parts:
            rules.scale(part.path, part.rank)
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        if isinstance(error, RulesRefused):
            report.add(error.check, "fail", f"{error}.", error.fix)
        return  # anything else is refused with the config
    odd = next(((part, rank) for part, rank in ranks if part.rank != rank), None)
    if odd is not None:
        report.add(
            "rank",
            "fail",
            f"The matrices of {odd[0].path} have rank {odd[0].rank}; the config says {odd[1]}.",
            SAVE_AGAIN,
        )
    absent = transformed_layers(config) - {layer_of(part.path) for part in parts}
    if unnamed:
        report.add(
            "target_modules",
            "fail",
            f"The file holds matrices of {len(unnamed)} modules that the config does not name, such as "
            f"{unnamed[0]}; PEFT would leave them out.",
            SAVE_AGAIN,
        )
    elif absent:
        report.add(
            "target_modules",
            "warn",
            f"layers_to_transform names layer {min(absent)}, of which the file holds nothing; PEFT leaves out layers "
            "that have none of the target modules.",
            "Look whether the file is whole.",
        )
    _check_magnitudes(report, parts, dora=bool(config.get("use_dora")))


def _check_magnitudes(report: AdapterReport, parts: tuple[Part, ...], *, dora: bool) -> None:
    odd = next((part.path for part in parts if (part.magnitude is not None) is not dora), None)
    if odd is not None:
        said = "lacks its lora_magnitude_vector" if dora else "has a lora_magnitude_vector"
        report.add(
            "tensor_shapes",
            "fail",
            f"use_dora is {'on' if dora else 'off'}, but {odd} {said}.",
            SAVE_AGAIN,
        )


def _describe(
    report: AdapterReport, parts: tuple[Part, ...], shapes: dict[str, tuple[int, ...]], base: BaseShape
) -> None:
    found = {part.path.rsplit(".", 1)[-1] for part in parts}
    report.target_modules = [name for name in base.targets if name in found]
    report.parameters = sum(
        prod(shapes[name]) for part in parts for name in (part.a, part.b, part.magnitude) if name
    )
    report.add("target_modules", "pass", f"Adapts {', '.join(report.target_modules)}.")
    fits = f"A and B fit each other; an engine compares them with {base.ref}."
    report.add("tensor_shapes", "pass", fits if base.open else f"Every matrix fits {base.ref}.")
