"""Bits of requests alone and in company, for the tests of the batch-invariant mode."""

import time
from pathlib import Path
from typing import Any

import torch

from kindling_core_rig import Rig, rig_make
from kindling_engine.core.startup import Parts
from kindling_engine.layers.row_tiles import bits_equal
from kindling_engine.protocol.ipc import StepItem
from kindling_engine.protocol.sampling import Sampling
from kindling_parity import engine_parts, forced_logits, prompt_make

# Shorter and longer than a page, a window, a tile of rows and a chunk of keys, and just as long.
LENGTHS = (1, 2, 17, 33, 100, 128, 150, 270)
SAMPLED = {
    "plain": Sampling(temperature=1.0, seed=5, ignore_eos=True),
    "filtered": Sampling(temperature=1.0, seed=6, top_p=0.9, top_k=30, ignore_eos=True),
    "typical": Sampling(temperature=1.0, seed=7, typical_p=0.8, ignore_eos=True),
    "penalised": Sampling(
        temperature=1.0, seed=8, frequency_penalty=0.7, repetition_penalty=1.2, ignore_eos=True
    ),
}


def invariant_parts(folder: Path, tmp_path: Path, **options: Any) -> Parts:
    return engine_parts(folder, tmp_path, **{"batch_invariant": True, "kv_tokens": 2048, **options})


def prompts_make(lengths: tuple[int, ...] = LENGTHS) -> dict[str, list[int]]:
    return {f"p{length}": prompt_make(length, length) for length in lengths}


def alone_logits(
    parts: Parts, prompts: dict[str, list[int]], adapters: dict[str, str] | None = None
) -> dict[str, torch.Tensor]:
    """Logits of every token of each prompt, the prompts one after another."""
    return {name: forced_logits(parts, {name: tokens}, adapters)[name] for name, tokens in prompts.items()}


def differing(ours: dict[str, torch.Tensor], alone: dict[str, torch.Tensor]) -> list[str]:
    """Prompts of which any bit differs."""
    return [name for name, logits in ours.items() if not bits_equal(logits, alone[name])]


def invariant_rig(folder: Path, tmp_path: Path, **options: Any) -> Rig:
    return rig_make(folder, tmp_path, **{"batch_invariant": True, "kv_tokens": 2048, **options})


def told(rig: Rig, request_id: str) -> list[tuple[int, Any]]:
    """What a request was told: its tokens, and the log-probabilities as they are, to the last bit."""
    items: list[StepItem] = [item for item in rig.items() if item.id == request_id and item.token_ids]
    assert items and all(item.logprobs is not None for item in items)
    return [pair for item in items for pair in zip(item.token_ids, item.logprobs or [], strict=True)]


def adapter_pin(parts: Parts, name: str, folder: Path) -> None:
    """Load an adapter and keep it."""
    assert not parts.adapters.acquire(name, folder, "ticket", 0.0)
    stop_s = time.monotonic() + 60
    while True:
        settled = parts.adapters.poll(0.0)
        if settled:
            assert settled[0].error is None
            return
        assert time.monotonic() < stop_s
        time.sleep(0.002)
