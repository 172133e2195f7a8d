"""Random adapters for the benches, as PEFT would save them: many names, some dozen contents."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file

from kindling_engine.bench.shapes import INIT_STD, LlamaShape

_DISTINCT = 64
_CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def adapters_write(shape: LlamaShape, folder: Path, count: int, *, ranks: Sequence[int] = (8,)) -> list[str]:
    """``count`` folders with an adapter on q and v each, and their names; ranks take turns.

    Beyond 64 the files are links to those before: to an engine they are other adapters all the same.
    """
    names = [f"adapter-{index}" for index in range(count)]
    for index, name in enumerate(names):
        target = folder / name
        target.mkdir(parents=True)
        if index < _DISTINCT:
            adapter_write(shape, target, rank=ranks[index % len(ranks)], seed=index)
            continue
        source = folder / names[index % _DISTINCT]
        for file in (_CONFIG, _WEIGHTS):
            os.link(source / file, target / file)
    return names


def adapter_write(shape: LlamaShape, folder: Path, *, rank: int, seed: int) -> None:
    """One adapter: A of N(0, 0.02) and B of a tenth of that, so that the base's logits stay what they are like."""
    generator = torch.Generator().manual_seed(seed)
    widths = {
        "q_proj": shape.num_attention_heads * shape.head_dim,
        "v_proj": shape.num_key_value_heads * shape.head_dim,
    }
    tensors = {}
    for layer in range(shape.num_hidden_layers):
        for target, width in widths.items():
            prefix = f"base_model.model.model.layers.{layer}.self_attn.{target}"
            for side, size, scale in (
                ("lora_A", (rank, shape.hidden_size), INIT_STD),
                ("lora_B", (width, rank), INIT_STD / 10),
            ):
                values = torch.empty(size).normal_(0, scale, generator=generator)
                tensors[f"{prefix}.{side}.weight"] = values
    save_file(tensors, folder / _WEIGHTS, metadata={"format": "pt"})
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": rank,
        "lora_alpha": 2 * rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": sorted(widths),
        "base_model_name_or_path": "bench/model",
    }
    (folder / _CONFIG).write_text(json.dumps(config))


def adapter_bytes(shape: LlamaShape, rank: int = 8) -> int:
    """What a step reads of one such adapter in fp32: every number once."""
    q_size, kv_size = (n * shape.head_dim for n in (shape.num_attention_heads, shape.num_key_value_heads))
    return 4 * rank * shape.num_hidden_layers * (2 * shape.hidden_size + q_size + kv_size)
