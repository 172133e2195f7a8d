"""The mixture of experts: both ways to run it, against the plain sum over experts."""

import pytest
import torch
import torch.nn.functional as F

from kindling_engine.layers.linear import Linear
from kindling_engine.layers.moe import GroupedExperts, SeparateExperts, SparseMlp

EXPERTS, HIDDEN, INNER = 7, 24, 16


@pytest.fixture
def weights() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return (
        torch.randn(EXPERTS, HIDDEN),
        torch.randn(EXPERTS, 2 * INNER, HIDDEN),
        torch.randn(EXPERTS, HIDDEN, INNER),
    )


def _plain(x: torch.Tensor, weights, top_k: int, *, normalised: bool) -> torch.Tensor:
    """Token by token and expert by expert."""
    router, gate_up, down = weights
    rows = []
    for token in x:
        scores = (router @ token).softmax(dim=-1)
        chosen = scores.topk(top_k)
        shares = chosen.values / chosen.values.sum() if normalised else chosen.values
        made = torch.zeros(HIDDEN)
        for share, expert in zip(shares, chosen.indices, strict=True):
            left, right = (gate_up[expert] @ token).chunk(2)
            made += share * (down[expert] @ (F.silu(left) * right))
        rows.append(made)
    return torch.stack(rows)


def _experts(kind: str, weights):
    _, gate_up, down = weights
    if kind == "grouped":
        return GroupedExperts(gate_up, down, F.silu)
    return SeparateExperts([Linear(w) for w in gate_up], [Linear(w) for w in down], F.silu)


@pytest.mark.parametrize("kind", ["separate", "grouped"])
@pytest.mark.parametrize(("top_k", "normalised"), [(1, False), (2, True), (3, False), (EXPERTS, True)])
@pytest.mark.parametrize("tokens", [1, 2, 33])
def test_every_token_gets_its_experts(weights, kind, top_k, normalised, tokens):
    x = torch.randn(tokens, HIDDEN)
    mlp = SparseMlp(weights[0], _experts(kind, weights), top_k=top_k, normalised=normalised)
    expected = _plain(x, weights, top_k, normalised=normalised)
    torch.testing.assert_close(mlp(x, None), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["separate", "grouped"])
def test_an_expert_without_tokens_is_left_out(weights, kind):
    """All tokens alike: every expert but the chosen two has none."""
    x = torch.randn(1, HIDDEN).expand(9, HIDDEN).contiguous()
    mlp = SparseMlp(weights[0], _experts(kind, weights), top_k=2, normalised=True)
    expected = _plain(x[:1], weights, 2, normalised=True).expand(9, HIDDEN)
    torch.testing.assert_close(mlp(x, None), expected, atol=1e-4, rtol=1e-4)


def test_an_expert_multiplies_all_of_its_tokens_at_once(weights):
    calls: list[int] = []

    class Counted(Linear):
        def __call__(self, x: torch.Tensor) -> torch.Tensor:
            calls.append(x.shape[0])
            return super().__call__(x)

    _, gate_up, down = weights
    experts = SeparateExperts([Counted(w) for w in gate_up], [Linear(w) for w in down], F.silu)
    SparseMlp(weights[0], experts, top_k=2, normalised=True)(torch.randn(200, HIDDEN), None)
    assert len(calls) <= EXPERTS and sum(calls) == 400
