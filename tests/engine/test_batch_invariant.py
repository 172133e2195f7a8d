"""The batch-invariant mode: bits of a request alone, and the same bits in every other way to compute it.

Each test compares bits that ordinary steps do not keep: ``test_ordinary_steps_depend_on_the_batch`` says so for the
mode as a whole, and ``test_every_part_is_needed`` for each of its parts.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from kindling_engine.core.startup import Parts
from kindling_engine.kvcache.manager import PAGE_SIZE
from kindling_engine.layers import attention, invariant, row_tiles
from kindling_engine.lora.batch import LoraBatch
from kindling_engine.lora.loader import adapter_load
from kindling_parity import assert_logits, engine_parts, forced_logits, prompt_make
from kindling_tiny_models import adapter_make, model_make, reference_load, reference_logits

FAMILIES = ("llama", "qwen3-moe", "gemma2")
# Shorter and longer than a chunk of keys, a window, a tile of rows, and as long.
LENGTHS = (1, 2, 17, 33, 100, 128, 150, 270)


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request, tmp_path_factory) -> Path:
    return model_make(request.param, tmp_path_factory.mktemp(request.param))


def _parts(folder: Path, tmp_path: Path, **options: Any) -> Parts:
    return engine_parts(folder, tmp_path, **{"batch_invariant": True, "kv_tokens": 2048, **options})


def _alone(folder: Path, tmp_path: Path, **options: Any) -> dict[str, torch.Tensor]:
    """Logits of each prompt by itself and in one piece."""
    parts = _parts(folder, tmp_path, step_tokens=512, **options)
    return {name: forced_logits(parts, {name: tokens})[name] for name, tokens in _prompts().items()}


def _prompts() -> dict[str, list[int]]:
    return {f"p{length}": prompt_make(length, length) for length in LENGTHS}


def _differing(ours: dict[str, torch.Tensor], alone: dict[str, torch.Tensor]) -> list[str]:
    return [name for name, logits in ours.items() if not row_tiles.bits_equal(logits, alone[name])]


@pytest.mark.parametrize("step_tokens", [1, 7, 24, 61, 300])
def test_chunks_and_neighbours_change_no_bit(folder, tmp_path, step_tokens):
    alone = _alone(folder, tmp_path)
    together = forced_logits(_parts(folder, tmp_path, step_tokens=step_tokens), _prompts())
    assert _differing(together, alone) == []
