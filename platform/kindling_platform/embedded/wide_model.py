"""A random model wide enough for adapters of tens of megabytes, with the starter model's vocabulary."""

import json
import shutil
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from kindling_engine.starter import SPARK_PATH

HIDDEN, FFN, HEADS, KV_HEADS, HEAD_DIM = 576, 1536, 9, 3, 64
LAYERS = 8
_STD = 0.02


def wide_model_write(folder: Path, *, layers: int = LAYERS) -> None:
    """Eight layers of a 0.135 B shape in fp32, 118 MB."""
    config = json.loads((SPARK_PATH / "config.json").read_text())
    config |= {
        "hidden_size": HIDDEN,
        "intermediate_size": FFN,
        "num_hidden_layers": layers,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "head_dim": HEAD_DIM,
    }
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"):
        shutil.copyfile(SPARK_PATH / name, folder / name)
    (folder / "config.json").write_text(json.dumps(config))
    dice = np.random.default_rng(0)

    def random(rows: int, columns: int) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
        return dice.standard_normal((rows, columns), dtype=np.float32) * np.float32(_STD)

    ones = np.ones(HIDDEN, dtype=np.float32)
    tensors = {"model.embed_tokens.weight": random(config["vocab_size"], HIDDEN), "model.norm.weight": ones}
    for layer in range(layers):
        prefix = f"model.layers.{layer}."
        tensors |= {
            f"{prefix}self_attn.q_proj.weight": random(HEADS * HEAD_DIM, HIDDEN),
            f"{prefix}self_attn.k_proj.weight": random(KV_HEADS * HEAD_DIM, HIDDEN),
            f"{prefix}self_attn.v_proj.weight": random(KV_HEADS * HEAD_DIM, HIDDEN),
            f"{prefix}self_attn.o_proj.weight": random(HIDDEN, HEADS * HEAD_DIM),
            f"{prefix}mlp.gate_proj.weight": random(FFN, HIDDEN),
            f"{prefix}mlp.up_proj.weight": random(FFN, HIDDEN),
            f"{prefix}mlp.down_proj.weight": random(HIDDEN, FFN),
            f"{prefix}input_layernorm.weight": ones,
            f"{prefix}post_attention_layernorm.weight": ones,
        }
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
