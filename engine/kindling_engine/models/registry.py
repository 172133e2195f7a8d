"""Which architectures are served, and how each differs from Llama."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from kindling_engine.models.base import Model
from kindling_engine.models.config import architecture_read, config_load
from kindling_engine.models.decoder import Decoder
from kindling_engine.models.task import task_read
from kindling_engine.models.weights import Checkpoint, LoadProgress


@dataclass(frozen=True, slots=True)
class Family:
    """``qkv_bias`` None: as config.json says; ``qk_norm``: queries and keys are normed per head."""

    qkv_bias: bool | None = None
    qk_norm: bool = False


FAMILIES: dict[str, Family] = {
    "LlamaForCausalLM": Family(),
    "MistralForCausalLM": Family(qkv_bias=False),
    "Qwen2ForCausalLM": Family(qkv_bias=True),
    "Qwen3ForCausalLM": Family(qk_norm=True),
}


def model_load(
    folder: Path, *, device: torch.device, dtype: torch.dtype, progress: LoadProgress | None = None
) -> Model:
    """Load a checkpoint folder; raises ModelError with a code and a remedy.

    An architecture without a decoder here is served through transformers' own modules, if it can be.
    """
    architecture = architecture_read(folder)
    family = FAMILIES.get(architecture)
    if family is None:
        # Imported here: transformers takes seconds to import, and our own decoders need none of it.
        from kindling_engine.models.transformers_backend import transformers_load

        return transformers_load(
            folder, architecture=architecture, device=device, dtype=dtype, progress=progress
        )
    config = config_load(folder, qkv_bias=family.qkv_bias, qk_norm=family.qk_norm)
    config = replace(config, task=task_read(folder, architecture))
    with (
        torch.inference_mode(),
        Checkpoint(folder, dtype=dtype, device=device, progress=progress) as checkpoint,
    ):
        return Decoder(config, checkpoint, device)
