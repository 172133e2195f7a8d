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
    """Sizes of a decoder of the Llama family, named as in ``config.json``.

    ``head_size`` 0 is hidden size by heads. ``qk_norm`` is what makes a Qwen3 of it; ``llama3_factor`` stretches the
    rotation as Llama 3 does, 0 leaves it.
    """

    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    intermediate_size: int
    vocab_size: int
    tie_word_embeddings: bool
    rope_theta: float = 10000.0
    max_position_embeddings: int = 2048
    head_size: int = 0
    qk_norm: bool = False
    llama3_factor: float = 0.0

    @property
    def architecture(self) -> str:
        return "Qwen3ForCausalLM" if self.qk_norm else "LlamaForCausalLM"

    @property
    def head_dim(self) -> int:
        return self.head_size or self.hidden_size // self.num_attention_heads

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
        sizes = {name: value for name, value in asdict(self).items() if name not in _OURS}
        config = {
            "architectures": [self.architecture],
            "model_type": "qwen3" if self.qk_norm else "llama",
            "hidden_act": "silu",
            "rms_norm_eps": 1e-5,
            "dtype": "float32",
            "bos_token_id": 1,
            "eos_token_id": 2,
            "head_dim": self.head_dim,
            **sizes,
        }
        if self.llama3_factor:
            config["rope_scaling"] = {
                "rope_type": "llama3",
                "factor": self.llama3_factor,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 8192,
            }
        return config

    def tensors(self, *, seed: int, dtype: torch.dtype, device: torch.device) -> Iterator[tuple[str, Tensor]]:
        """Names and values of a random checkpoint: N(0, 0.02), norms at one."""
        generator = torch.Generator(device=device).manual_seed(seed)
        for name, size in self._matrices():
            yield (
                name,
                torch.empty(size, dtype=dtype, device=device).normal_(0, INIT_STD, generator=generator),
            )
        for name, width in self._norms():
            yield name, torch.ones(width, dtype=dtype, device=device)

    def _matrices(self) -> Iterator[tuple[str, tuple[int, int]]]:
        hidden, inner = self.hidden_size, self.intermediate_size
        q_size, kv_size = self.num_attention_heads * self.head_dim, self.num_key_value_heads * self.head_dim
        yield "model.embed_tokens.weight", (self.vocab_size, hidden)
        for index in range(self.num_hidden_layers):
            prefix = f"model.layers.{index}."
            yield f"{prefix}self_attn.q_proj.weight", (q_size, hidden)
            yield f"{prefix}self_attn.k_proj.weight", (kv_size, hidden)
            yield f"{prefix}self_attn.v_proj.weight", (kv_size, hidden)
            yield f"{prefix}self_attn.o_proj.weight", (hidden, q_size)
            yield f"{prefix}mlp.gate_proj.weight", (inner, hidden)
            yield f"{prefix}mlp.up_proj.weight", (inner, hidden)
            yield f"{prefix}mlp.down_proj.weight", (hidden, inner)
        if not self.tie_word_embeddings:
            yield "lm_head.weight", (self.vocab_size, hidden)

    def _norms(self) -> Iterator[tuple[str, int]]:
        for index in range(self.num_hidden_layers):
            yield f"model.layers.{index}.input_layernorm.weight", self.hidden_size
            yield f"model.layers.{index}.post_attention_layernorm.weight", self.hidden_size
            if self.qk_norm:
                yield f"model.layers.{index}.self_attn.q_norm.weight", self.head_dim
                yield f"model.layers.{index}.self_attn.k_norm.weight", self.head_dim
        yield "model.norm.weight", self.hidden_size

    @property
    def _norm_elements(self) -> int:
        return sum(size for _, size in self._norms())


_OURS = {"head_size", "qk_norm", "llama3_factor"}
"""What config.json says in other words."""

SMALL = LlamaShape(576, 30, 9, 3, 1536, 49152, tie_word_embeddings=True)
LLAMA_8B = LlamaShape(
    4096, 32, 32, 8, 14336, 128256, tie_word_embeddings=False, rope_theta=5e5, llama3_factor=8.0,
    max_position_embeddings=131072,
)  # fmt: skip
LLAMA_1B = LlamaShape(
    2048, 16, 32, 8, 8192, 128256, tie_word_embeddings=True, rope_theta=5e5, llama3_factor=32.0,
    max_position_embeddings=131072,
)  # fmt: skip
QWEN3_8B = LlamaShape(
    4096, 36, 32, 8, 12288, 151936, tie_word_embeddings=False, rope_theta=1e6, head_size=128, qk_norm=True,
    max_position_embeddings=40960,
)  # fmt: skip
QWEN3_06B = LlamaShape(
    1024, 28, 16, 8, 3072, 151936, tie_word_embeddings=True, rope_theta=1e6, head_size=128, qk_norm=True,
    max_position_embeddings=40960,
)  # fmt: skip
"""Sizes as their makers publish them in config.json: Llama 3.1 8B, Llama 3.2 1B, Qwen3 8B, Qwen3 0.6B."""


def checkpoint_write(
    shape: LlamaShape,
    folder: Path,
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    device: torch.device | None = None,
) -> None:
    """Write a random checkpoint that any engine can load; its numbers are made on ``device``, where that is quicker."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {**shape.config(), "dtype": str(dtype).removeprefix("torch.")}
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    made = shape.tensors(seed=seed, dtype=dtype, device=device or torch.device("cpu"))
    tensors = {name: tensor.cpu() for name, tensor in made}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
