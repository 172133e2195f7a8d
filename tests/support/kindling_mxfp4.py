"""Makes MXFP4 of a tiny GPT-OSS's experts, as published checkpoints have them."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

PROJECTIONS = ("mlp.experts.gate_up_proj", "mlp.experts.down_proj")
_VALUES = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0])


def mxfp4_pack(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Blocks ``[experts, out, in / 32, 16]`` and scales ``[experts, out, in / 32]`` of ``[experts, in, out]``."""
    grouped = weight.transpose(1, 2).unflatten(-1, (-1, 32))
    exponents = grouped.abs().amax(dim=-1).log2().floor().long() - 2
    scaled = grouped / 2.0 ** exponents[..., None]
    codes = (scaled.abs()[..., None] - _VALUES).abs().argmin(dim=-1) + 8 * (scaled < 0)
    return (codes[..., 0::2] + 16 * codes[..., 1::2]).to(torch.uint8), (exponents + 127).to(torch.uint8)


def mxfp4_folder(folder: Path) -> Path:
    """Rewrite a checkpoint with its experts in MXFP4; all else stays."""
    path, config_path = folder / "model.safetensors", folder / "config.json"
    stored = {}
    for name, tensor in load_file(path).items():
        if name.endswith(PROJECTIONS):
            stored[f"{name}_blocks"], stored[f"{name}_scales"] = mxfp4_pack(tensor)
        else:
            stored[name] = tensor
    save_file(stored, path, metadata={"format": "pt"})
    config = json.loads(config_path.read_text())
    kept = ["model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"]
    config["quantization_config"] = {"quant_method": "mxfp4", "modules_to_not_convert": kept}
    config_path.write_text(json.dumps(config))
    return folder
