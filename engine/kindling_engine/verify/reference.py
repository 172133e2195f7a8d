"""What transformers makes of the same tokens: the logits of every position."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kindling_engine.models.errors import ModelError
from kindling_engine.models.folder import json_object_read
from kindling_engine.models.quantization import Fp8Weights, Mxfp4Weights, quantization_read
from kindling_engine.models.transformers_backend_config import transformers_config_read
from kindling_engine.models.transformers_backend_weights import causal_load
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
    model = _load(owner, folder, architecture, dtype, device)
    found = []
    for index, one in enumerate(answered):
        say(f"transformers: prompt {index + 1} of {len(answered)}")
        tokens = torch.tensor([one.prompt + one.answer], device=device)
        found.append(model(input_ids=tokens, use_cache=False).logits[0].float().cpu())
    return found


def _load(owner: Any, folder: Path, architecture: str, dtype: torch.dtype, device: torch.device) -> Any:
    import transformers

    quantization = quantization_read(json_object_read(folder / "config.json"))
    if isinstance(quantization, Fp8Weights):
        # transformers widens FP8 on a GPU, with further packages, and where blocks divide a matrix. So the numbers are
        # of our reading, and what is compared is what becomes of them.
        return causal_load(
            folder,
            transformers_config_read(folder, architecture),
            architecture=architecture,
            dtype=dtype,
            device=device,
            progress=None,
            attention="eager",
        )
    widened = {}
    if isinstance(quantization, Mxfp4Weights):
        # It would fetch kernels for them, which answer in bf16.
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
    return model.to(device).eval()
