"""Every architecture in bf16, as a GPU runs it: no part trips over the dtype, and the answer stays near fp32's."""

import pytest
import torch
import torch.nn.functional as F

from kindling_engine.kvcache.manager import KvManager
from kindling_engine.kvcache.storage import KvStorage
from kindling_engine.layers.linear import Linear
from kindling_engine.layers.moe import GroupedExperts, SeparateExperts, SparseMlp
from kindling_engine.layers.norm import CenteredRmsNorm, RmsNorm
from kindling_engine.models.registry import model_load
from kindling_engine.runner.runner import ModelRunner
from kindling_engine.scheduler.request import Request
from kindling_engine.scheduler.scheduler import Scheduler
from kindling_parity import prompt_make
from kindling_tiny_models import MODELS, model_make, reference_load, reference_logits

CPU, HALF = torch.device("cpu"), torch.bfloat16


def _logits(folder, tokens: list[int]) -> torch.Tensor:
    model = model_load(folder, device=CPU, dtype=HALF)
    assert model.dtype == HALF
    config = model.config
    kv = KvManager(num_blocks=8, revision="r", kv_dtype="bf16", rotary_limit=config.rotary_limit)
    storage = KvStorage(
        num_layers=config.num_layers,
        num_kv_heads=config.num_kv_heads,
        head_dim=config.head_dim,
        num_blocks=8,
        dtype=HALF,
        device=CPU,
    )
    scheduler = Scheduler(kv=kv, context_length=config.context_length, max_batch=2, step_tokens=32)
    runner = ModelRunner(
        model, storage, max_batch=2, max_length=scheduler.max_length, adapter_lookup=lambda name: None
    )
    scheduler.add(Request("a", list(tokens), max_tokens=1, grant=1), 0.0)
    seen = []
    while scheduler.has_work:
        plan = scheduler.plan(0.0)
        seen.append(runner.logits_all(plan))
        scheduler.commit(plan, [5 for row in plan.rows if row.samples], 0.0)
    return torch.cat(seen)


@pytest.mark.parametrize("name", MODELS)
def test_logits_stay_near(tmp_path, name):
    folder = model_make(name, tmp_path)
    tokens = prompt_make(70, 1)
    ours = _logits(folder, tokens)
    exact = reference_logits(reference_load(folder), tokens)
    rounded = reference_logits(reference_load(folder).to(HALF), tokens).float()
    assert ours.dtype == torch.float32
    # As near as transformers comes in bf16 itself; rounding is luck, so with room.
    assert (ours - exact).norm() <= 2 * (rounded - exact).norm()


@pytest.mark.parametrize("kind", ["separate", "grouped"])
def test_experts_in_bf16(kind):
    torch.manual_seed(0)
    router, gate_up, down = torch.randn(5, 16), torch.randn(5, 48, 16), torch.randn(5, 16, 24)

    def mlp(dtype: torch.dtype) -> SparseMlp:
        experts = GroupedExperts(gate_up.to(dtype), down.to(dtype), F.silu)
        if kind == "separate":
            experts = SeparateExperts(
                [Linear(w) for w in gate_up.to(dtype)], [Linear(w) for w in down.to(dtype)], F.silu
            )
        return SparseMlp(router.to(dtype), experts, top_k=2, normalised=True)

    x = torch.randn(30, 16)
    rounded, exact = mlp(HALF)(x.to(HALF), None), mlp(torch.float32)(x, None)
    assert rounded.dtype == HALF
    assert (rounded.float() - exact).norm() < 0.05 * exact.norm()


def test_a_centred_norm_keeps_the_digits_of_its_weight():
    """A weight of 2⁻¹⁰ is lost when one is added to it in bf16."""
    x = torch.randn(4, 64, dtype=HALF)
    weight = torch.full((64,), 2.0**-10, dtype=HALF)
    seen = CenteredRmsNorm(weight, 1e-6)(x.float())
    plain = RmsNorm(torch.ones(64), 1e-6)(x.float())
    torch.testing.assert_close(seen, plain * (1 + 2.0**-10), rtol=1e-6, atol=1e-6)
    assert CenteredRmsNorm(weight, 1e-6)(x).dtype == HALF
