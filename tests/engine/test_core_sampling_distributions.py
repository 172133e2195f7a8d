"""What is drawn against the exact distribution: every filter, alone and in combination, against transformers' own."""

import itertools

import pytest
import torch
from torch import Tensor
from transformers.generation import logits_process as hf

from kindling_engine.sampling.batch import SampledRow
from kindling_engine.sampling.filters import NARROW, Filters, candidates_select
from kindling_engine.sampling.params import SamplingParams
from kindling_engine.sampling.sampler import Sampler

CPU = torch.device("cpu")
VOCAB = 400  # more than the best few, so that rows are looked at whole as well
SAMPLES = 6000

CASES = {
    "plain": {},
    "cool": {"temperature": 0.6},
    "hot": {"temperature": 1.8},
    "top-k": {"top_k": 7},
    "top-k-wide": {"top_k": 300, "temperature": 1.5},
    "top-p": {"top_p": 0.8},
    "top-p-wide": {"top_p": 0.97, "temperature": 1.9},
    "min-p": {"min_p": 0.08},
    "typical": {"typical_p": 0.7},
    "typical-wide": {"typical_p": 0.95, "temperature": 1.9},
    "top-k-p": {"top_k": 20, "top_p": 0.7},
    "all": {"temperature": 1.3, "top_k": 60, "top_p": 0.9, "min_p": 0.02, "typical_p": 0.8},
}


def logits_make(seed: int = 0, vocab: int = VOCAB) -> Tensor:
    return torch.randn(vocab, generator=torch.Generator().manual_seed(seed)) * 2.2


def reference(logits: Tensor, params: SamplingParams) -> Tensor:
    """Probabilities after transformers' warpers, in the order in which its `generate` applies them."""
    warpers = [hf.TemperatureLogitsWarper(params.temperature)]
    if params.top_k:
        warpers.append(hf.TopKLogitsWarper(params.top_k))
    if params.top_p < 1:
        warpers.append(hf.TopPLogitsWarper(params.top_p))
    if params.min_p:
        warpers.append(hf.MinPLogitsWarper(params.min_p))
    if params.typical_p < 1:
        warpers.append(hf.TypicalLogitsWarper(params.typical_p))
    scores = logits.unsqueeze(0)
    for warper in warpers:
        scores = warper(None, scores)
    return scores[0].softmax(-1)


def p_value(counts: Tensor, expected: Tensor) -> float:
    """Pearson's chi-square; cells of fewer than five expected draws are put together."""
    order = expected.argsort(descending=True)
    counts, expected = counts[order].double(), expected[order].double()
    large = int((expected >= 5).sum())
    counts = torch.cat((counts[:large], counts[large:].sum(0, keepdim=True)))
    expected = torch.cat((expected[:large], expected[large:].sum(0, keepdim=True)))
    kept = expected > 0
    chi2 = ((counts - expected)[kept] ** 2 / expected[kept]).sum()
    freedom = torch.tensor((int(kept.sum()) - 1) / 2, dtype=torch.float64)
    return float(torch.special.gammaincc(freedom, chi2 / 2)) if freedom > 0 else 1.0


def draws(logits: Tensor, params: list[SamplingParams]) -> Tensor:
    sampler = Sampler(num_rows=len(params), vocab_size=len(logits), device=CPU)
    rows = [SampledRow(i, f"r{i}", one, [1], 1, 0, frozenset()) for i, one in enumerate(params)]
    drawn = sampler.draw(logits.expand(len(params), -1).clone(), rows)
    return torch.tensor([draw.token for draw in drawn])


@pytest.mark.parametrize("name", CASES)
def test_draws_follow_the_exact_distribution(name: str):
    logits, params = logits_make(), SamplingParams(**CASES[name])
    expected = reference(logits, params)
    tokens = draws(logits, [SamplingParams(**CASES[name], seed=seed) for seed in range(SAMPLES)])
    counts = torch.bincount(tokens, minlength=VOCAB)
    assert counts[expected == 0].sum() == 0, "a filtered token was drawn"
    assert p_value(counts, expected * SAMPLES) > 1e-3


def test_the_test_itself_can_fail():
    logits = logits_make()
    tokens = draws(logits, [SamplingParams(temperature=1.05, seed=seed) for seed in range(SAMPLES)])
    wrong = reference(logits, SamplingParams()) * SAMPLES
    assert p_value(torch.bincount(tokens, minlength=VOCAB), wrong) < 1e-3


@pytest.mark.parametrize("seed", range(6))
def test_any_combination_keeps_what_transformers_keeps(seed: int):
    logits = logits_make(seed)
    grid = itertools.product((0.7, 1.6), (0, 5, 290), (0.5, 0.95, 1.0), (0.0, 0.01, 0.2), (0.3, 0.9, 1.0))
    params = [SamplingParams(temperature=t, top_k=k, top_p=p, min_p=m, typical_p=y) for t, k, p, m, y in grid]
    columns = {
        name: torch.tensor([[getattr(one, name)] for one in params])
        for name in ("top_p", "min_p", "typical_p")
    }
    top_k = torch.tensor([[one.top_k] for one in params])
    temperatures = torch.tensor([[one.temperature] for one in params])
    scaled = logits / temperatures
    found = candidates_select(scaled, Filters(top_k, **columns), width=VOCAB)
    narrow = candidates_select(scaled, Filters(top_k, **columns))
    assert found.complete.all()
    assert narrow.complete.any() and not narrow.complete.all()
    for index, one in enumerate(params):
        expected = reference(logits, one)
        kept = torch.full((VOCAB,), float("-inf")).scatter(0, found.ids[index], found.logits[index])
        assert torch.allclose(kept.softmax(-1), expected, atol=1e-5), one
        if narrow.complete[index]:
            few = torch.full((VOCAB,), float("-inf")).scatter(0, narrow.ids[index], narrow.logits[index])
            assert torch.equal(few, kept), one
    assert narrow.ids.shape[1] == NARROW


def test_draws_at_consecutive_positions_are_independent():
    """One seed, many positions: pairs of neighbours follow the product of the marginals."""
    logits = torch.tensor([0.4, 0.3, 0.2, 0.1]).log()
    sampler = Sampler(num_rows=1, vocab_size=4, device=CPU)
    row = SampledRow(0, "r", SamplingParams(seed=5), [1], 1, 0, frozenset())
    tokens = torch.tensor([sampler.draw(logits[None].clone(), [row])[0].token for _ in range(4000)])
    pairs = torch.bincount(tokens[:-1] * 4 + tokens[1:], minlength=16)
    marginal = torch.tensor([0.4, 0.3, 0.2, 0.1])
    assert p_value(pairs, torch.outer(marginal, marginal).flatten() * 3999) > 1e-3
