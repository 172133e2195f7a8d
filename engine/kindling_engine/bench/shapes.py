"""Model shapes that benches use, and random checkpoints of them."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

INIT_STD = 0.02


@dataclass(frozen=True, slots=True)
class LlamaShape:
    """Sizes of a Llama decoder, named as in ``config.json``."""

    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    intermediate_size: int
    vocab_size: int
    tie_word_embeddings: bool
    rope_theta: float = 10000.0
    max_position_embeddings: int = 2048

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_attention_heads

    @property
    def kv_elements_per_token(self) -> int:
        return 2 * self.num_hidden_layers * self.num_key_value_heads * self.head_dim

    @property
    def parameters(self) -> int:
        return sum(rows * columns for _, (rows, columns) in self._matrices()) + self._norm_elements

    @property
    def read_per_step(self) -> int:
        """Weights that a decode step reads once, whatever its batch; of an untied embedding just a few rows."""
        embedding = 0 if self.tie_word_embeddings else self.vocab_size * self.hidden_size
        return self.parameters - embedding

    def cut(self, layers: int) -> "LlamaShape":
        return replace(self, num_hidden_layers=layers)

    def with_vocabulary(self, size: int) -> "LlamaShape":
        return replace(self, vocab_size=size)

    def config(self) -> dict[str, Any]:
        """The shape as a checkpoint's ``config.json``."""
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_act": "silu",
            "rms_norm_eps": 1e-5,
            "dtype": "float32",
            "bos_token_id": 1,
            "eos_token_id": 2,
            **asdict(self),
        }

    def tensors(self, *, seed: int, dtype: torch.dtype, device: torch.device) -> Iterator[tuple[str, Tensor]]:
        """Names and values of a random checkpoint: N(0, 0.02), norms at one."""
        generator = torch.Generator(device=device).manual_seed(seed)
        for name, size in self._matrices():
            yield (
                name,
                torch.empty(size, dtype=dtype, device=device).normal_(0, INIT_STD, generator=generator),
            )
        for name in self._norms():
            yield name, torch.ones(self.hidden_size, dtype=dtype, device=device)

    def _matrices(self) -> Iterator[tuple[str, tuple[int, int]]]:
        hidden, inner = self.hidden_size, self.intermediate_size
        kv_size = self.num_key_value_heads * self.head_dim
        yield "model.embed_tokens.weight", (self.vocab_size, hidden)
        for index in range(self.num_hidden_layers):
            prefix = f"model.layers.{index}."
            yield f"{prefix}self_attn.q_proj.weight", (hidden, hidden)
            yield f"{prefix}self_attn.k_proj.weight", (kv_size, hidden)
            yield f"{prefix}self_attn.v_proj.weight", (kv_size, hidden)
            yield f"{prefix}self_attn.o_proj.weight", (hidden, hidden)
            yield f"{prefix}mlp.gate_proj.weight", (inner, hidden)
            yield f"{prefix}mlp.up_proj.weight", (inner, hidden)
            yield f"{prefix}mlp.down_proj.weight", (hidden, inner)
        if not self.tie_word_embeddings:
            yield "lm_head.weight", (self.vocab_size, hidden)

    def _norms(self) -> Iterator[str]:
        for index in range(self.num_hidden_layers):
            yield f"model.layers.{index}.input_layernorm.weight"
            yield f"model.layers.{index}.post_attention_layernorm.weight"
        yield "model.norm.weight"

    @property
    def _norm_elements(self) -> int:
        return (2 * self.num_hidden_layers + 1) * self.hidden_size


SMALL = LlamaShape(576, 30, 9, 3, 1536, 49152, tie_word_embeddings=True)
LLAMA_8B = LlamaShape(4096, 32, 32, 8, 14336, 128256, tie_word_embeddings=False, rope_theta=500000.0)


def checkpoint_write(shape: LlamaShape, folder: Path, *, seed: int = 0) -> None:
    """Write a random fp32 checkpoint that any engine can load."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(shape.config(), indent=1))
    tensors = dict(shape.tensors(seed=seed, dtype=torch.float32, device=torch.device("cpu")))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
