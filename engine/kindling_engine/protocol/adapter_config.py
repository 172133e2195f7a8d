"""Checks PEFT's adapter_config.json: what this engine would not do as trained is refused by the field's name."""

import json
import re
from dataclasses import dataclass
from typing import Any, TypeGuard

from kindling_engine.protocol.adapter_report import (
    CONFIG_NAME,
    MAX_RANK,
    SAVE_AGAIN,
    AdapterReport,
    BaseShape,
)

MAX_CONFIG_BYTES = 1024 * 1024
MAX_ALPHA = 1e6

_PLAIN_LORA = "Train a plain LoRA adapter."
REFUSED_FIELDS = {
    "use_dora": "Train without DoRA.",
    "modules_to_save": "Train without modules_to_save; only LoRA matrices are served.",
    "trainable_token_indices": "Train without trainable tokens.",
    "target_parameters": "Name linear layers in target_modules instead.",
    "layer_replication": "Train without layer replication.",
    "megatron_config": "Save the adapter in plain PEFT format.",
    "loftq_config": "Save the adapter against the unquantised base.",
    "corda_config": "Convert the adapter to plain LoRA when saving it.",
    "lora_ga_config": "Convert the adapter to plain LoRA when saving it.",
    "lora_bias": "Train with lora_bias off.",
    "exclude_modules": "Name the targets in target_modules instead.",
    "alora_invocation_tokens": "Train without invocation tokens.",
    "use_qalora": _PLAIN_LORA,
    "use_bdlora": _PLAIN_LORA,
    "arrow_config": _PLAIN_LORA,
    "kasa_config": _PLAIN_LORA,
    "velora_config": _PLAIN_LORA,
    "monteclora_config": _PLAIN_LORA,
    "fan_in_fan_out": "Train on linear layers.",
}
# Fields that say nothing about how the finished weights are used, or that are checked on their own.
KNOWN_FIELDS = {
    "task_type", "peft_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision",
    "inference_mode", "r", "target_modules", "lora_alpha", "lora_dropout", "bias", "use_rslora",
    "init_lora_weights", "layers_to_transform", "layers_pattern", "rank_pattern", "alpha_pattern",
    "megatron_core", "eva_config", "qalora_group_size", "runtime_config", "ensure_weight_tying",
}  # fmt: skip
# These start from weights taken out of the base, so the result fits a base that was changed with them.
BASE_CHANGING_INITS = ("pissa", "olora", "loftq", "corda", "lora_ga")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_.]+")


@dataclass(slots=True)
class CheckedConfig(AdapterReport):
    """The report, and the config itself when it could be read."""

    config: dict[str, Any] | None = None


def check_config(content: bytes, base: BaseShape) -> CheckedConfig:
    """Check the bytes of adapter_config.json; never raises."""
    report = CheckedConfig()
    if len(content) > MAX_CONFIG_BYTES:
        report.add(
            "config_json", "fail", f"{CONFIG_NAME} is larger than 1 MiB.", "Upload the file that PEFT saved."
        )
        return report
    try:
        config = json.loads(content.decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        report.add("config_json", "fail", f"{CONFIG_NAME} is not valid JSON: {str(error)[:200]}.", SAVE_AGAIN)
        return report
    if not isinstance(config, dict):
        report.add("config_json", "fail", f"{CONFIG_NAME} is not a JSON object.", SAVE_AGAIN)
        return report
    report.config = config
    report.add("config_json", "pass", f"{CONFIG_NAME} is valid JSON.")
    _check_kind(report, config, base)
    _check_base(report, config, base)
    _check_rank(report, config)
    _check_targets(report, config, base)
    return report


def allowed_ranks(config: dict[str, Any]) -> set[int]:
    """The ranks that a checked config names."""
    pattern = config.get("rank_pattern")
    ranks = [config.get("r"), *(pattern.values() if isinstance(pattern, dict) else [])]
    return {rank for rank in ranks if _is_integer(rank)}


def transformed_layers(config: dict[str, Any]) -> set[int] | None:
    """The layers that a checked config names, None for all."""
    layers = config.get("layers_to_transform")
    if layers is None:
        return None
    return {layers} if isinstance(layers, int) else set(layers)


def _check_kind(report: AdapterReport, config: dict[str, Any], base: BaseShape) -> None:
    kind = config.get("peft_type")
    if kind != "LORA":
        report.add("peft_type", "fail", f"peft_type is {_shown(kind)}; only LORA is served.", _PLAIN_LORA)
        return
    for name, fix in REFUSED_FIELDS.items():
        # Where the base keeps its weights the other way round, PEFT notes it; A and B are the same either way.
        if name == "fan_in_fan_out" and base.linears:
            continue
        if config.get(name):
            report.add("peft_type", "fail", f"{name} is not supported.", fix)
    for name in sorted(set(config) - KNOWN_FIELDS - set(REFUSED_FIELDS)):
        if config[name]:
            report.add("peft_type", "fail", f"The option {name[:60]!r} is not known here.", _PLAIN_LORA)
    if config.get("bias", "none") != "none":
        report.add("peft_type", "fail", 'bias must be "none".', 'Train with bias="none".')
    init = config.get("init_lora_weights")
    if isinstance(init, str) and init.startswith(BASE_CHANGING_INITS):
        report.add(
            "peft_type",
            "fail",
            f"init_lora_weights {_shown(init)} belongs to a base model changed along with the adapter.",
            "Save with path_initial_model_for_weight_conversion, which makes it a plain LoRA adapter.",
        )
    if not report.failed("peft_type"):
        report.add("peft_type", "pass", "A LoRA adapter without unsupported options.")


def _check_base(report: AdapterReport, config: dict[str, Any], base: BaseShape) -> None:
    named = config.get("base_model_name_or_path")
    if not isinstance(named, str) or not named:
        report.add("base_model", "warn", "The adapter does not say which base it was trained on.")
    elif named.rstrip("/").split("/")[-1].lower() != base.ref.split("/")[-1].lower():
        report.add(
            "base_model",
            "warn",
            f"Trained on {_shown(named)}, uploaded for {base.ref!r}.",
            "If the shapes fit but the answers are odd, choose the base it was trained on.",
        )
    else:
        report.add("base_model", "pass", f"Trained on {named[:120]}.")


def _check_rank(report: AdapterReport, config: dict[str, Any]) -> None:
    for name in ("rank_pattern", "alpha_pattern"):
        if not _check_pattern(report, config.get(name), name):
            return
    pattern, alphas = config.get("rank_pattern") or {}, config.get("alpha_pattern") or {}
    ranks = [config.get("r"), *pattern.values()]
    if not all(_is_integer(rank) and 1 <= rank <= MAX_RANK for rank in ranks):
        report.add(
            "rank",
            "fail",
            f"r and the ranks of rank_pattern must be between 1 and {MAX_RANK}.",
            "Train with a rank in that range.",
        )
        return
    scales = [config.get("lora_alpha", 8), *alphas.values()]
    # The comparison refuses NaN as well.
    if not all(_is_number(scale) and abs(scale) < MAX_ALPHA for scale in scales):
        report.add("rank", "fail", "lora_alpha and alpha_pattern must hold moderate numbers.", SAVE_AGAIN)
        return
    report.rank = max(allowed_ranks(config))
    report.add("rank", "pass", f"Rank {report.rank}.")


def _check_pattern(report: AdapterReport, pattern: Any, name: str) -> bool:
    """Keys are names only: PEFT runs them as regular expressions, which could take for ever to match."""
    if pattern is None:
        return True
    if not isinstance(pattern, dict):
        report.add("rank", "fail", f"{name} must be an object.", SAVE_AGAIN)
        return False
    for key in pattern:
        if not _PLAIN_NAME.fullmatch(key.removeprefix("^").removesuffix("$").replace("\\.", ".")):
            report.add(
                "rank",
                "fail",
                f"The key {_shown(key)} of {name} is not the plain name of a module.",
                f"Name modules in {name}, such as q_proj or model.layers.0.self_attn.q_proj.",
            )
            return False
    return True


def _check_targets(report: AdapterReport, config: dict[str, Any], base: BaseShape) -> None:
    layers = config.get("layers_to_transform")
    named = layers if isinstance(layers, list) else [layers]
    if layers is not None and not all(_is_integer(layer) for layer in named):
        report.add("target_modules", "fail", "layers_to_transform must hold layer numbers.", SAVE_AGAIN)
    targets = config.get("target_modules")
    if isinstance(targets, str) and targets:
        return  # "all-linear" or a pattern: the tensors say what was trained; no stranger's pattern is run here
    if not isinstance(targets, list) or not targets or not all(isinstance(name, str) for name in targets):
        report.add(
            "target_modules", "fail", "target_modules must be a list of names or a pattern.", SAVE_AGAIN
        )
        return
    unknown = sorted({name for name in targets if name.split(".")[-1] not in base.targets})
    if unknown:
        names = ", ".join(name[:60] for name in unknown[:5])
        report.add(
            "target_modules",
            "fail",
            f"Not supported in target_modules: {names}.",
            f"Train with targets among {', '.join(base.targets[:12])}.",
        )


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a name occurs twice")
    return result


def _is_integer(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _shown(value: Any) -> str:
    return repr(str(value)[:100]) if isinstance(value, str) else str(type(value).__name__)
