"""Which quantised checkpoints are read, and which are refused by the name of their format."""

from dataclasses import dataclass
from typing import Any

from kindling_engine.models.errors import ModelError

FORMAT_NAMES = {
    "gptq": "GPTQ",
    "awq": "AWQ",
    "bitsandbytes": "bitsandbytes",
    "bitsandbytes_4bit": "bitsandbytes",
    "bitsandbytes_8bit": "bitsandbytes",
    "compressed-tensors": "compressed-tensors",
    "gguf": "GGUF",
    "mxfp4": "MXFP4",
    "nvfp4": "NVFP4",
    "hqq": "HQQ",
    "aqlm": "AQLM",
    "quanto": "Quanto",
    "torchao": "TorchAO",
    "modelopt": "ModelOpt",
    "eetq": "EETQ",
    "vptq": "VPTQ",
}
_DEFAULT_BLOCK = (128, 128)
_MXFP4_ARCHITECTURE = "GptOssForCausalLM"


@dataclass(frozen=True, slots=True)
class Fp8Weights:
    """Weights in float8_e4m3fn with scales beside them; ``block`` is (rows, columns) of a block scale."""

    block: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Mxfp4Weights:
    """Experts in blocks of 4-bit floats with scales beside them."""


def quantization_read(config: dict[str, Any]) -> Fp8Weights | Mxfp4Weights | None:
    """What a ``config.json`` says of the weights' format; None for plain weights.

    Raises ModelError ``weights_dtype`` for every format but FP8 and GPT-OSS's MXFP4, with its name.
    """
    raw = config.get("quantization_config") or config.get("compression_config") or _of_text(config)
    if not raw:
        return None
    if not isinstance(raw, dict):
        raise ModelError("model_config", "quantization_config in config.json is not an object.")
    method = str(raw.get("quant_method") or raw.get("quant_algo") or "").lower()
    if method in ("fp8", "fbgemm_fp8") or (method == "compressed-tensors" and _is_float8(raw)):
        return Fp8Weights(_block_read(raw.get("weight_block_size")))
    if method == "mxfp4" and (config.get("architectures") or [""])[0] == _MXFP4_ARCHITECTURE:
        return Mxfp4Weights()
    name = FORMAT_NAMES.get(method, repr(method[:40]) if method else "a format that it does not name")
    raise ModelError(
        "weights_dtype",
        f"The checkpoint is quantised with {name}, which is not served. "
        "Serve the original in bf16, fp16 or fp32, or an FP8 version of it.",
    )


def _of_text(config: dict[str, Any]) -> Any:
    """What the part for text says, in checkpoints that see images beside it."""
    text = config.get("text_config")
    return text.get("quantization_config") if isinstance(text, dict) else None


def _is_float8(raw: dict[str, Any]) -> bool:
    """Whether all groups of a compressed-tensors checkpoint hold 8-bit floats and nothing else is compressed.

    Scales for a cache in e4m3 may be there: they are read, and change nothing where the cache is not.
    """
    groups, cache = raw.get("config_groups"), raw.get("kv_cache_scheme")
    if raw.get("format") != "float-quantized" or not isinstance(groups, dict):
        return False
    if cache and not (isinstance(cache, dict) and (cache.get("type"), cache.get("num_bits")) == ("float", 8)):
        return False
    weights = [group.get("weights") for group in groups.values() if isinstance(group, dict)]
    return bool(weights) and all(
        isinstance(item, dict) and item.get("type") == "float" and item.get("num_bits") == 8
        for item in weights
    )


def _block_read(value: Any) -> tuple[int, int]:
    if value is None:
        return _DEFAULT_BLOCK
    if isinstance(value, list) and len(value) == 2 and all(isinstance(n, int) and n > 0 for n in value):
        return value[0], value[1]
    raise ModelError("model_config", "weight_block_size in config.json is not two positive numbers.")
