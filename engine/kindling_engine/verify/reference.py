"""What transformers makes of the same tokens: the logits of every position."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kindling_engine.models.errors import ModelError
from kindling_engine.models.folder import json_object_read
from kindling_engine.models.quantization import Mxfp4Weights, quantization_read
from kindling_engine.verify.ours import Answered


@torch.inference_mode()
def reference_logits(
    folder: Path,
    answered: list[Answered],
    *,
    architecture: str,
    dtype: torch.dtype,
    device: torch.device,
    say: Callable[[str], None],
) -> list[Tensor]:
    """Logits ``[prompt + answer, vocab]`` in fp32 of each prompt followed by our answer. Raises ModelError."""
    import transformers

    owner: Any = getattr(transformers, architecture, None)
    if owner is None:
        raise ModelError(
            "unsupported_model", f"The installed transformers has no {architecture} to compare with."
        )
    say("transformers: loading")
    quantization = quantization_read(json_object_read(folder / "config.json"))
    widened = {}
    if isinstance(quantization, Mxfp4Weights):
        # transformers would fetch kernels for them, which answer in bf16.
        widened = {"quantization_config": transformers.Mxfp4Config(dequantize=True)}
    model = owner.from_pretrained(
        folder,
        dtype=dtype,
        attn_implementation="eager",
        use_safetensors=True,
        local_files_only=True,
        trust_remote_code=False,
        **widened,
    )
    model = model.to(device).eval()
    found = []
    for index, one in enumerate(answered):
        say(f"transformers: prompt {index + 1} of {len(answered)}")
        tokens = torch.tensor([one.prompt + one.answer], device=device)
        found.append(model(input_ids=tokens, use_cache=False).logits[0].float().cpu())
    return found
