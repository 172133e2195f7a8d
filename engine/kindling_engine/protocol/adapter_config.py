"""Checks PEFT's adapter_config.json: what this engine would not do as trained is refused by the field's name."""

import json
from dataclasses import dataclass
from typing import Any, TypeGuard

from kindling_engine.protocol.adapter_base import DOWN, GATE_UP, BaseShape
from kindling_engine.protocol.adapter_report import CONFIG_NAME, MAX_RANK, SAVE_AGAIN, AdapterReport
from kindling_engine.protocol.adapter_rules import PATTERNS, ModuleRules, RulesRefused

MAX_CONFIG_BYTES = 1024 * 1024
MAX_ALPHA = 1e6

_PLAIN_LORA = "Train a plain LoRA adapter."
REFUSED_FIELDS = {
    "modules_to_save": "Train without modules_to_save; only LoRA matrices are served.",
    "trainable_token_indices": "Train without trainable tokens.",
    "layer_replication": "Train without layer replication.",
    "megatron_config": "Save the adapter in plain PEFT format.",
    "loftq_config": "Save the adapter against the unquantised base.",
    "corda_config": "Convert the adapter to plain LoRA when saving it.",
    "lora_ga_config": "Convert the adapter to plain LoRA when saving it.",
    "lora_bias": "Train with lora_bias off.",
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
    "use_dora", "target_parameters", "exclude_modules",
}  # fmt: skip
# These start from weights taken out of the base, so the result fits a base that was changed with them.
BASE_CHANGING_INITS = ("pissa", "olora", "loftq", "corda", "lora_ga")
_PARAMETERS = (GATE_UP, DOWN, "gate.weight", "router.weight")


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


def transformed_layers(config: dict[str, Any]) -> set[int]:
    """The layers that a checked config names, none for all."""
    layers = config.get("layers_to_transform")
    return {layers} if isinstance(layers, int) else set(layers or ())


def _check_kind(report: AdapterReport, config: dict[str, Any], base: BaseShape) -> None:
    kind = config.get("peft_type")
    if kind != "LORA":
        report.add("peft_type", "fail", f"peft_type is {_shown(kind)}; only LORA is served.", _PLAIN_LORA)
        return
    for name, fix in REFUSED_FIELDS.items():
        # Where the base keeps its weights the other way round, PEFT notes it; A and B are the same either way.
        if name == "fan_in_fan_out" and (base.linears or base.open):
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
        name = "DoRA" if config.get("use_dora") else "LoRA"
        report.add("peft_type", "pass", f"A {name} adapter without unsupported options.")


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
    for name in PATTERNS:
        if not isinstance(config.get(name) or {}, dict):
            report.add("rank", "fail", f"{name} must be an object.", SAVE_AGAIN)
            return
    pattern, alphas = config.get("rank_pattern") or {}, config.get("alpha_pattern") or {}
    # Of gate and up in one, PEFT makes a layer of twice the rank.
    limits = [MAX_RANK, *(MAX_RANK * (1 + key.endswith(GATE_UP)) for key in pattern)]
    ranks = [config.get("r"), *pattern.values()]
    if not all(_is_integer(rank) and 1 <= rank <= limit for rank, limit in zip(ranks, limits, strict=True)):
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
    named = sorted(allowed_ranks(config))
    report.rank = named[-1]
    said = f"Rank {named[-1]}" if len(named) == 1 else f"Ranks {named[0]} to {named[-1]}"
    alpha = f"alpha {config.get('lora_alpha', 8):g}" + (" and exceptions" if alphas else "")
    by = "α/√r (rsLoRA)" if config.get("use_rslora") else "α/r"
    report.add("rank", "pass", f"{said}, {alpha}, scaled by {by}.")


def _check_targets(report: AdapterReport, config: dict[str, Any], base: BaseShape) -> None:
    layers = config.get("layers_to_transform")
    named = layers if isinstance(layers, list) else [layers]
    if layers is not None and not all(_is_integer(layer) for layer in named):
        report.add("target_modules", "fail", "layers_to_transform must hold layer numbers.", SAVE_AGAIN)
    for name in ("layers_pattern", "exclude_modules"):
        if not isinstance(config.get(name), str | None) and not _is_names(config[name]):
            report.add("target_modules", "fail", f"{name} must be names or a pattern.", SAVE_AGAIN)
    parameters = _check_parameters(report, config)
    targets = config.get("target_modules")
    if isinstance(targets, list) and _is_names(targets) and (targets or parameters):
        _check_names(report, targets, base)
    elif not (isinstance(targets, str) and targets) and not (targets is None and parameters):
        report.add(
            "target_modules", "fail", "target_modules must be a list of names or a pattern.", SAVE_AGAIN
        )
    if not report.failed("target_modules", "rank"):
        try:
            ModuleRules(config)
        except RulesRefused as refused:
            report.add(refused.check, "fail", f"{refused}.", refused.fix)


def _check_names(report: AdapterReport, targets: list[str], base: BaseShape) -> None:
    unknown = sorted({name for name in targets if not base.knows(name.split(".")[-1])})
    if unknown and not base.open:
        names = ", ".join(name[:60] for name in unknown[:5])
        report.add(
            "target_modules",
            "fail",
            f"Not supported in target_modules: {names}.",
            f"Train with targets among {', '.join(base.targets[:12])}.",
        )


def _check_parameters(report: AdapterReport, config: dict[str, Any]) -> bool:
    """Whether parameters are named; those of experts and routers may be."""
    parameters = config.get("target_parameters") or []
    if not isinstance(parameters, list) or not _is_names(parameters):
        report.add("target_modules", "fail", "target_parameters must be a list of names.", SAVE_AGAIN)
        return False
    odd = next(
        (name for name in parameters if not f".{name}".endswith(tuple(f".{p}" for p in _PARAMETERS))), None
    )
    if odd is not None:
        report.add(
            "target_modules",
            "fail",
            f"Not supported in target_parameters: {odd[:60]}.",
            f"Name parameters among {', '.join(_PARAMETERS)}, and all others in target_modules.",
        )
    if parameters and config.get("use_dora"):
        report.add(
            "peft_type",
            "fail",
            "use_dora does not go together with target_parameters.",
            "Train without DoRA, or on linear layers only.",
        )
    return bool(parameters)


def _is_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


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
