"""Checkpoints in FP8 with scales beside their weights, as they are published."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

# They divide no width of the tiny models, so blocks at the edges are narrower.
BLOCK = (48, 40)
_NARROW = re.compile(r".*_proj(_with_mqa|_qkvz)?\.weight")
_BLOCKS = {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": list(BLOCK)}
_ROWS = {
    "quant_method": "compressed-tensors",
    "format": "float-quantized",
    "config_groups": {"group_0": {"weights": {"num_bits": 8, "type": "float"}}},
}
QUANTIZATION: dict[str, dict[str, Any]] = {"tensor": {"quant_method": "fp8"}, "row": _ROWS, "block": _BLOCKS}


def fp8_copy(source: Path, target: Path, kind: str) -> dict[str, Tensor]:
    """Write a model with projections in FP8, and give the numbers that its weights stand for.

    ``kind`` is what a scale is for: a ``tensor``, a ``row`` or a ``block``.
    """
    shutil.copytree(source, target)
    tensors = load_file(source / "model.safetensors")
    stored, meant = dict(tensors), dict(tensors)
    for name, tensor in tensors.items():
        if not _NARROW.fullmatch(name):
            continue
        rows, columns = tensor.shape
        height, width = BLOCK
        shape = {"tensor": (), "row": (rows, 1), "block": (-(-rows // height), -(-columns // width))}[kind]
        scale = torch.rand(shape) * 0.01 + 1e-3
        spread = scale
        if kind == "block":
            row, column = torch.arange(rows) // height, torch.arange(columns) // width
            spread = scale[row[:, None], column[None, :]]
        narrow = (tensor / spread).clamp(-448, 448).to(torch.float8_e4m3fn)
        stored[name] = narrow
        stored[name + ("_scale_inv" if kind == "block" else "_scale")] = scale
        meant[name] = narrow.float() * spread
    save_file(stored, target / "model.safetensors", {"format": "pt"})
    config = json.loads((target / "config.json").read_text())
    (target / "config.json").write_text(json.dumps(config | {"quantization_config": QUANTIZATION[kind]}))
    return meant
