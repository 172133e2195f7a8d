"""Checks a PEFT LoRA folder against its base model without torch: every refusal has a reason and a fix."""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kindling_engine.protocol.ipc import Finding
from kindling_engine.protocol.safetensors_header import (
    LENGTH,
    HeaderRefused,
    TensorEntry,
    header_length,
    parse_header,
)

CONFIG_NAME = "adapter_config.json"
WEIGHTS_NAME = "adapter_model.safetensors"
MAX_CONFIG_BYTES = 1024 * 1024
MAX_RANK = 256
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
FLOAT_DTYPES = {"F32", "F16", "BF16"}
TENSOR_NAME = re.compile(
    r"base_model\.model\.model\.layers\.(\d{1,4})\.(?:self_attn|mlp)\.("
    + "|".join(TARGETS)
    + r")\.lora_([AB])\.weight"
)
REFUSED_FIELDS = {
    "use_dora": "Train without DoRA.",
    "modules_to_save": "Train without modules_to_save; only LoRA matrices are served.",
    "trainable_token_indices": "Train without trainable tokens.",
    "layer_replication": "Train without layer replication.",
    "megatron_config": "Save the adapter in plain PEFT format.",
    "loftq_config": "Save the adapter against the unquantised base.",
    "lora_bias": "Train with lora_bias off.",
    "exclude_modules": "Name the targets in target_modules instead.",
}
HARMLESS_WHEN = {"loftq_config": ({}, None), "megatron_config": (None,)}


@dataclass(frozen=True, slots=True)
class BaseShape:
    """The sizes of a base model that an adapter's matrices must fit."""

    architecture: str
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    vocab_size: int
    ref: str

    def linear(self, target: str) -> tuple[int, int]:
        """(input width, output width) of a linear layer by its name."""
        heads, kv = self.num_heads * self.head_dim, self.num_kv_heads * self.head_dim
        return {
            "q_proj": (self.hidden_size, heads),
            "k_proj": (self.hidden_size, kv),
            "v_proj": (self.hidden_size, kv),
            "o_proj": (heads, self.hidden_size),
            "gate_proj": (self.hidden_size, self.intermediate_size),
            "up_proj": (self.hidden_size, self.intermediate_size),
            "down_proj": (self.intermediate_size, self.hidden_size),
        }[target]


@dataclass(slots=True)
class AdapterReport:
    """The findings of a check and what could be read on the way."""

    findings: list[Finding] = field(default_factory=list)
    rank: int = 0
    target_modules: list[str] = field(default_factory=list)
    parameters: int = 0
    dtype: str = ""
    size_bytes: int = 0

    @property
    def ok(self) -> bool:
        """True when nothing failed; warnings may remain."""
        return all(finding.level != "fail" for finding in self.findings)

    def add(self, check: str, level: str, message: str, fix: str = "") -> None:
        """Note one finding."""
        self.findings.append(Finding(check, level, message, fix))


def check_adapter_folder(path: Path, base: BaseShape) -> AdapterReport:
    """Check both files of a folder. Reads the config and the header only, never the weights; never raises."""
    report = AdapterReport()
    config_path, weights_path = path / CONFIG_NAME, path / WEIGHTS_NAME
    for file in (config_path, weights_path):
        if not file.is_file() or file.stat().st_size == 0:
            report.add(
                "files", "fail", f"{file.name} is missing or empty.", f"Upload {file.name} as PEFT saves it."
            )
    if not report.ok:
        return report
    report.add("files", "pass", "Both files are there.")
    report.size_bytes = config_path.stat().st_size + weights_path.stat().st_size
    config = _merge(report, check_config(config_path.read_bytes()[: MAX_CONFIG_BYTES + 1], base))
    size = weights_path.stat().st_size
    with weights_path.open("rb") as file:
        try:
            length = header_length(file.read(LENGTH.size), size)
        except HeaderRefused as refused:
            report.add("safetensors_header", "fail", f"{WEIGHTS_NAME}: {refused}.", SAVE_AGAIN)
            return report
        header = file.read(length)
    _merge(report, check_safetensors_header(header, size, base, config))
    return report


SAVE_AGAIN = (
    "Save the adapter again with PEFT's save_pretrained(safe_serialization=True) and upload it whole."
)


@dataclass(slots=True)
class Checked(AdapterReport):
    """A part of the report, and the config that was read."""

    config: dict[str, Any] | None = None


def check_config(content: bytes, base: BaseShape) -> Checked:
    """Check the bytes of adapter_config.json."""
    report = Checked()
    if len(content) > MAX_CONFIG_BYTES:
        report.add(
            "config_json", "fail", f"{CONFIG_NAME} is larger than 1 MiB.", "Upload the file that PEFT saved."
        )
        return report
    try:
        config = json.loads(content)
    except (ValueError, RecursionError) as error:
        report.add("config_json", "fail", f"{CONFIG_NAME} is not valid JSON: {str(error)[:200]}", SAVE_AGAIN)
        return report
    if not isinstance(config, dict):
        report.add("config_json", "fail", f"{CONFIG_NAME} is not a JSON object.", SAVE_AGAIN)
        return report
    report.config = config
    report.add("config_json", "pass", f"{CONFIG_NAME} is valid JSON.")
    _check_kind(report, config)
    _check_base(report, config, base)
    _check_rank(report, config)
    _check_targets(report, config)
    return report


def _check_kind(report: AdapterReport, config: dict[str, Any]) -> None:
    kind = config.get("peft_type")
    if kind != "LORA":
        report.add(
            "peft_type",
            "fail",
            f"peft_type is {str(kind)[:40]!r}; only LORA is served.",
            "Train a LoRA adapter.",
        )
        return
    for name, fix in REFUSED_FIELDS.items():
        value = config.get(name)
        if value and value not in HARMLESS_WHEN.get(name, ()):
            report.add("peft_type", "fail", f"{name} is not supported yet.", fix)
    if config.get("bias", "none") != "none":
        report.add(
            "peft_type", "fail", 'bias is not supported: it must be "none".', 'Train with bias="none".'
        )
    if config.get("fan_in_fan_out"):
        report.add("peft_type", "fail", "fan_in_fan_out is not supported.", "Train on linear layers.")
    if report.ok:
        report.add("peft_type", "pass", "A LoRA adapter without unsupported options.")


def _check_base(report: AdapterReport, config: dict[str, Any], base: BaseShape) -> None:
    named = config.get("base_model_name_or_path")
    if not isinstance(named, str) or not named:
        report.add("base_model", "warn", "The adapter does not say which base it was trained on.")
    elif named.rstrip("/").split("/")[-1].lower() != base.ref.split("/")[-1].lower():
        report.add(
            "base_model", "warn", f"Trained on {named[:120]!r}, uploaded for {base.ref!r}.",
            "If the shapes fit but the answers are odd, choose the base it was trained on.",
        )  # fmt: skip
    else:
        report.add("base_model", "pass", f"Trained on {named[:120]}.")


def _check_rank(report: AdapterReport, config: dict[str, Any]) -> None:
    pattern = config.get("rank_pattern") or {}
    alphas = config.get("alpha_pattern") or {}
    ranks = [config.get("r"), *pattern.values()] if isinstance(pattern, dict) else [None]
    if not all(
        isinstance(rank, int) and not isinstance(rank, bool) and 1 <= rank <= MAX_RANK for rank in ranks
    ):
        report.add(
            "rank", "fail", f"The rank must be between 1 and {MAX_RANK}.", "Train with a rank in that range."
        )
        return
    scales = [config.get("lora_alpha"), *(alphas.values() if isinstance(alphas, dict) else [None])]
    if not all(isinstance(scale, int | float) and abs(scale) < 1e6 for scale in scales):
        report.add("rank", "fail", "lora_alpha must be a number.", SAVE_AGAIN)
        return
    report.rank = max(ranks)
    report.add("rank", "pass", f"Rank {report.rank}.")


def _check_targets(report: AdapterReport, config: dict[str, Any]) -> None:
    targets = config.get("target_modules")
    if isinstance(targets, str):
        return  # "all-linear" or a pattern: the tensors themselves say what was trained; no pattern is run here
    if not isinstance(targets, list) or not targets or not all(isinstance(name, str) for name in targets):
        report.add("target_modules", "fail", "target_modules must be a list of names.", SAVE_AGAIN)
        return
    unknown = sorted({name for name in targets if name.split(".")[-1] not in TARGETS})
    if unknown:
        names = ", ".join(name[:60] for name in unknown[:5])
        report.add(
            "target_modules",
            "fail",
            f"Not supported as targets: {names}.",
            f"Use any of {', '.join(TARGETS)}.",
        )


def check_safetensors_header(
    header: bytes, file_size: int, base: BaseShape, config: dict[str, Any] | None = None
) -> AdapterReport:
    """Check the header's JSON bytes of adapter_model.safetensors; the config sharpens the check of ranks."""
    report = AdapterReport()
    try:
        entries = parse_header(header, file_size)
    except HeaderRefused as refused:
        report.add("safetensors_header", "fail", f"{WEIGHTS_NAME}: {refused}.", SAVE_AGAIN)
        return report
    report.add("safetensors_header", "pass", f"{len(entries)} tensors, without gaps or overlaps.")
    _check_dtype(report, entries)
    _check_tensors(report, entries, base, config)
    return report


def _check_dtype(report: AdapterReport, entries: list[TensorEntry]) -> None:
    dtypes = sorted({entry.dtype for entry in entries})
    report.dtype = "+".join(dtypes)
    if set(dtypes) <= FLOAT_DTYPES:
        report.add("dtype", "pass", f"Weights are {report.dtype}.")
    else:
        report.add("dtype", "fail", f"Weights are {report.dtype}.", "Save the adapter in fp32, fp16 or bf16.")


def _check_tensors(
    report: AdapterReport, entries: list[TensorEntry], base: BaseShape, config: dict[str, Any] | None
) -> None:
    sides: dict[tuple[int, str], dict[str, tuple[int, ...]]] = {}
    strange = []
    for entry in entries:
        match = TENSOR_NAME.fullmatch(entry.name)
        if match is None or int(match[1]) >= base.num_layers:
            strange.append(entry.name[:100])
        else:
            sides.setdefault((int(match[1]), match[2]), {})[match[3]] = entry.shape
    if strange:
        report.add(
            "target_modules", "fail", f"{len(strange)} tensors do not belong to {base.ref}, such as {strange[0]!r}.",
            f"Train on {base.ref} with targets among {', '.join(TARGETS)}.",
        )  # fmt: skip
    wrong, ranks = _wrong_shapes(sides, base)
    if wrong:
        report.add(
            "tensor_shapes", "fail", f"{len(wrong)} layers do not fit {base.ref}: {wrong[0]}.",
            "Choose the base model that the adapter was trained on.",
        )  # fmt: skip
    limit = _rank_limit(config)
    if limit and max(ranks, default=0) > limit:
        report.add("rank", "fail", f"A matrix has rank {max(ranks)}; the config allows {limit}.", SAVE_AGAIN)
    if not strange and not wrong and sides:
        report.target_modules = [name for name in TARGETS if any(target == name for _, target in sides)]
        report.parameters = sum(
            shape[0] * shape[1] for pair in sides.values() for shape in pair.values() if len(shape) == 2
        )
        report.add("target_modules", "pass", f"Adapts {', '.join(report.target_modules)}.")
        report.add("tensor_shapes", "pass", f"Every matrix fits {base.ref}.")


def _wrong_shapes(
    sides: dict[tuple[int, str], dict[str, tuple[int, ...]]], base: BaseShape
) -> tuple[list[str], list[int]]:
    wrong, ranks = [], []
    for (layer, target), pair in sorted(sides.items()):
        label = f"layer {layer} {target}"
        if set(pair) != {"A", "B"}:
            wrong.append(f"{label} lacks its lora_A or lora_B")
            continue
        width_in, width_out = base.linear(target)
        rank = pair["A"][0] if len(pair["A"]) == 2 else 0
        if not 1 <= rank <= MAX_RANK or pair["A"] != (rank, width_in) or pair["B"] != (width_out, rank):
            wrong.append(
                f"{label} has A {list(pair['A'])} and B {list(pair['B'])}, "
                f"expected [r, {width_in}] and [{width_out}, r]"
            )
            continue
        ranks.append(rank)
    return wrong, ranks


def _rank_limit(config: dict[str, Any] | None) -> int:
    if not config:
        return 0
    pattern = config.get("rank_pattern")
    ranks = [config.get("r"), *(pattern.values() if isinstance(pattern, dict) else [])]
    return max((rank for rank in ranks if isinstance(rank, int)), default=0)


def _merge(report: AdapterReport, part: AdapterReport) -> dict[str, Any] | None:
    report.findings += part.findings
    report.rank = part.rank or report.rank
    report.target_modules = part.target_modules or report.target_modules
    report.parameters = part.parameters or report.parameters
    report.dtype = part.dtype or report.dtype
    return part.config if isinstance(part, Checked) else None
