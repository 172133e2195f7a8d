"""Our logits and tokens beside transformers', under the one tolerance that counts."""

import time
from pathlib import Path
from typing import Any

import torch

from kindling_engine.core.options import CoreOptions
from kindling_engine.core.startup import Parts, parts_build
from kindling_engine.lora.cache import AdapterCache, Settled
from kindling_engine.protocol.speculation_modes import OFF
from kindling_engine.scheduler.request import Request
from kindling_tiny_models import VOCAB, reference_logits

TOLERANCE = 1e-4


def prompt_make(length: int, seed: int) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(3, VOCAB, (length,), generator=generator).tolist()


def engine_parts(model: Path, blobs: Path, **options: Any) -> Parts:
    """The engine's parts around a checkpoint, without a step loop; no step depends on how fast others were."""
    options = {"device": "cpu", "threads": 1, "max_batch": 8, "speculation": OFF, **options}
    return parts_build(CoreOptions(blobs / "unused", model, "tiny", blobs, **options), wake=lambda: None)


def adapters_settled(cache: AdapterCache, count: int = 1) -> list[Settled]:
    """What became of so many adapters that were asked for; waits aside, for their thread to read them."""
    settled: list[Settled] = []
    stop_s = time.monotonic() + 60
    while len(settled) < count:
        assert time.monotonic() < stop_s, "the adapters did not load"
        time.sleep(0.002)
        settled += cache.poll(0.0)
    return settled


def forced_logits(
    parts: Parts, prompts: dict[str, list[int]], adapters: dict[str, str] | None = None
) -> dict[str, torch.Tensor]:
    """Logits of every token of every prompt, as the scheduler cuts and mixes them."""
    for name, tokens in prompts.items():
        adapter = (adapters or {}).get(name, "")
        request = Request(name, list(tokens), max_tokens=1, grant=1, adapter=adapter)
        assert parts.scheduler.add(request, 0.0) is None
    seen: dict[str, list[torch.Tensor]] = {name: [] for name in prompts}
    while parts.scheduler.has_work:
        plan = parts.scheduler.plan(0.0)
        logits = parts.runner.logits_all(plan)
        for row, part in zip(plan.rows, logits.split([row.count for row in plan.rows]), strict=True):
            seen[row.request.id].append(part)
        parts.scheduler.commit(plan, [5 for row in plan.rows if row.samples], 0.0)
    return {name: torch.cat(rows) for name, rows in seen.items()}


def assert_logits(ours: torch.Tensor, reference: torch.Tensor, what: str = "") -> None:
    """|Δlogit| is at most 1e-4 of the largest logit."""
    error = ((ours - reference).abs().max() / reference.abs().max()).item()
    assert error <= TOLERANCE, f"{what}: {error:.2e} of the largest logit"


def assert_greedy(model: Any, prompt: list[int], made: list[int]) -> None:
    """The reference's tokens wherever its best is clear of the second; elsewhere one that is as good."""
    logits = reference_logits(model, prompt + made, len(made))[len(prompt) - 1 : -1]
    tolerance = TOLERANCE * logits.abs().max()
    best = logits.topk(2)
    clear = best.values[:, 0] - best.values[:, 1] > 2 * tolerance
    chosen = torch.tensor(made)
    assert (best.indices[:, 0] == chosen)[clear].all()
    assert (best.values[:, 0] - logits.gather(1, chosen[:, None])[:, 0] <= 2 * tolerance).all()
    assert clear.float().mean() > 0.9, "the random model gives hardly any clear choice"
