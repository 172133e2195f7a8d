"""Which architectures have a decoder of ours; a new one is a file in ``families`` and a line here."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from kindling_engine.models.base import Model
from kindling_engine.models.config import DecoderConfig, architecture_read
from kindling_engine.models.config_fields import ConfigFields
from kindling_engine.models.decoder import Decoder
from kindling_engine.models.families.gemma2 import gemma2
from kindling_engine.models.families.gemma3 import gemma3, gemma3_conditional
from kindling_engine.models.families.gpt_oss import gpt_oss
from kindling_engine.models.families.llama import llama
from kindling_engine.models.families.mistral import mistral
from kindling_engine.models.families.phi3 import phi3
from kindling_engine.models.families.qwen2 import qwen2
from kindling_engine.models.families.qwen3 import qwen3
from kindling_engine.models.families.qwen3_moe import qwen3_moe
from kindling_engine.models.families.smollm3 import smollm3
from kindling_engine.models.heap import blocks_apart
from kindling_engine.models.invariance import invariance_allow
from kindling_engine.models.task import task_read
from kindling_engine.models.weight_forms import PLAIN, WeightForm, form_check
from kindling_engine.models.weights import Checkpoint, LoadProgress

Family = Callable[[ConfigFields], DecoderConfig]

FAMILIES: dict[str, Family] = {
    "LlamaForCausalLM": llama,
    "SmolLM3ForCausalLM": smollm3,
    "MistralForCausalLM": mistral,
    "Qwen2ForCausalLM": qwen2,
    "Qwen3ForCausalLM": qwen3,
    "Qwen3MoeForCausalLM": qwen3_moe,
    "Gemma2ForCausalLM": gemma2,
    "Gemma3ForCausalLM": gemma3,
    "Gemma3ForConditionalGeneration": gemma3_conditional,
    "Phi3ForCausalLM": phi3,
    "GptOssForCausalLM": gpt_oss,
}


def model_load(
    folder: Path,
    *,
    device: torch.device,
    dtype: torch.dtype,
    form: WeightForm = PLAIN,
    batch_invariant: bool = False,
    progress: LoadProgress | None = None,
) -> Model:
    """Load a checkpoint folder; raises ModelError with a code and a remedy.

    An architecture without a decoder here is served through transformers' own modules, if it can be.
    ``form`` is how weights lie in memory; ``batch_invariant``: bits of a row do not depend on the batch.
    """
    architecture = architecture_read(folder)
    family = FAMILIES.get(architecture)
    if batch_invariant:
        invariance_allow(architecture, device, decoder=family is not None)
    form_check(form, architecture, decoder=family is not None, batch_invariant=batch_invariant)
    if family is None:
        # Imported here: transformers takes seconds to import, and our own decoders need none of it.
        from kindling_engine.models.transformers_backend import transformers_load

        with blocks_apart():
            return transformers_load(
                folder, architecture=architecture, device=device, dtype=dtype, progress=progress
            )
    config = decoder_config(folder, architecture, family)
    config = replace(config, revision=form.revision(config.revision))
    with (
        blocks_apart(),
        torch.inference_mode(),
        Checkpoint(folder, dtype=dtype, device=device, progress=progress) as checkpoint,
    ):
        return Decoder(config, checkpoint, device, form, batch_invariant=batch_invariant)


def decoder_config(folder: Path, architecture: str, family: Family) -> DecoderConfig:
    """A checkpoint's configuration, with everything refused that its family would leave undone."""
    fields = ConfigFields.of_folder(folder, architecture)
    config = family(fields)
    fields.refuse_unread()
    return replace(config, task=task_read(folder, architecture))
