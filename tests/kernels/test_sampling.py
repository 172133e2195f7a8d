"""The sampler's kernels against torch's sampler: the noise, the sets kept, the tokens drawn, and ties."""

import itertools
from dataclasses import fields, replace

import pytest
import torch
import triton
import triton.language as tl

from kindling_engine.kernels import noise, sampling
from kindling_engine.kernels.sampling import SampleChanges, SampleRows, sample, sample_reference
from kindling_engine.kernels.tuning import Config
from kindling_engine.sampling.noise import gumbel, row_keys

# A pool of few chunks, so that small vocabularies need both it and the search of the whole row.
SMALL = Config({"POOL": 8, "PIVOTS": 64, "BLOCK": 512})
SLICE = Config({"SLICE": 256})
VOCAB = 700


def _logits(device, rows, vocab=VOCAB, seed=0, spread=3.0):
    return (spread * torch.randn((rows, vocab), generator=torch.Generator().manual_seed(seed))).to(device)


def _rows(device, asked, seed=0):
    """``asked`` are temperature, top-k, top-p and min-p of each row."""
    temperature, top_k, top_p, min_p = zip(*asked, strict=True)
    seeds = torch.randint(-(2**63), 2**63 - 1, (len(asked),), generator=torch.Generator().manual_seed(seed))
    rows = SampleRows(
        seeds,
        torch.arange(len(asked)),
        torch.tensor(temperature, dtype=torch.float32),
        torch.tensor(top_k),
        torch.tensor(top_p, dtype=torch.float32),
        torch.tensor(min_p, dtype=torch.float32),
    )
    return _on(rows, device)


def _on(columns, device):
    given = {f.name: getattr(columns, f.name) for f in fields(columns)}
    return replace(columns, **{name: value.to(device) for name, value in given.items() if value is not None})


def _kept(logits, rows, sampled):
    """What the edges and min-p leave of filtered rows."""
    scaled = logits.float() / rows.temperature[:, None]
    edge, room = sampled.edges[:, :1], sampled.edges[:, 1:]
    ties = scaled == edge
    relative = (scaled - scaled.amax(dim=1, keepdim=True)).exp()
    return ((scaled > edge) | (ties & (ties.cumsum(1) <= room))) & (relative >= rows.min_p[:, None])


def _check(logits, rows, config=SMALL, survey=SLICE):
    expected, kept = sample_reference(logits, rows)
    ours = sample(logits, rows, config=config, survey=survey)
    filtered = ~ours.edges[:, 0].isnan()
    assert torch.equal(_kept(logits, rows, ours)[filtered], kept[filtered])
    assert torch.equal(ours.tokens, expected.tokens)
    assert torch.allclose(ours.logprobs, expected.logprobs, atol=2e-6, rtol=1e-6)


@triton.jit
def _noise_kernel(seeds, made, keys, uniforms, TOKENS: tl.constexpr):
    row = tl.program_id(0)
    first, second = noise.row_keys(tl.load(seeds + row), tl.load(made + row))
    tl.store(keys + row * 2, first.to(tl.int32, bitcast=True))
    tl.store(keys + row * 2 + 1, second.to(tl.int32, bitcast=True))
    tokens = tl.arange(0, TOKENS)
    tl.store(uniforms + row * TOKENS + tokens, noise.uniform(first, second, tokens))


def test_noise_has_the_bits_of_the_torch_sampler():
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    seeds = torch.tensor([0, 1, -1, 2**63 - 1, -(2**63), 123456789123456789], device=device)
    made = torch.tensor([0, 1, 2, 77, 100_000, 2**40], device=device)
    keys = torch.empty((6, 2), dtype=torch.int32, device=device)
    uniforms = torch.empty((6, 4096), device=device)
    _noise_kernel[(6,)](seeds, made, keys, uniforms, TOKENS=4096)
    expected = row_keys(seeds, made)
    assert torch.equal(keys, torch.cat(expected, dim=1))
    tokens = torch.arange(4096, dtype=torch.int32, device=device)[None]
    assert torch.equal(uniforms.log_().neg_().log_().neg_(), gumbel(expected, tokens))


@pytest.mark.parametrize("seed", range(4))
def test_sets_and_draws(device, seed):
    asked = [
        (0.0, 0, 1.0, 0.0),
        (1.0, 0, 1.0, 0.0),
        (0.8, 5, 1.0, 0.0),
        (1.0, 0, 0.5, 0.0),
        (1.0, 0, 1.0, 0.05),
        (1.3, 7, 0.8, 0.1),
    ]
    _check(_logits(device, len(asked), seed=seed), _rows(device, asked, seed))


def test_edges_that_the_pool_cannot_settle(device):
    asked = [(1.0, 60, 1.0, 0.0), (5.0, 0, 0.95, 0.0), (5.0, 300, 0.9, 0.001), (1.0, VOCAB, 0.99, 0.0)]
    _check(_logits(device, len(asked), seed=9), _rows(device, asked, 9))


def test_extremes_of_the_filters(device):
    asked = [(1.0, 1, 1.0, 0.0), (1.0, 0, 0.0, 0.0), (1.0, 0, 1.0, 1.0), (1e-4, 10**9, 0.9, 0.0)]
    logits = _logits(device, len(asked), seed=3)
    _check(logits, _rows(device, asked, 3))
    assert torch.equal(sample(logits, _rows(device, asked), config=SMALL).tokens, logits.argmax(dim=1))


@pytest.mark.parametrize(
    ("config", "survey"),
    list(
        itertools.zip_longest(sampling.CONFIGS, sampling.SURVEY_CONFIGS, fillvalue=sampling.SURVEY_CONFIGS[0])
    ),
    ids=str,
)
def test_every_configuration(device, config, survey):
    asked = [(0.0, 0, 1.0, 0.0), (1.0, 0, 1.0, 0.0), (1.0, 40, 0.9, 0.01)]
    _check(_logits(device, len(asked), vocab=9000), _rows(device, asked), config, survey)


def test_narrow_logits(device, dtype):
    asked = [(0.0, 0, 1.0, 0.0), (1.0, 0, 1.0, 0.0)]
    _check(_logits(device, len(asked)).to(dtype), _rows(device, asked))


def test_rows_do_not_depend_on_each_other(device):
    asked = [(1.0, 0, 0.9, 0.0), (1.0, 0, 1.0, 0.0), (0.7, 20, 1.0, 0.0)]
    logits, rows = _logits(device, 3), _rows(device, asked)
    together = sample(logits, rows, config=SMALL, survey=SLICE)
    for row in range(3):
        alone = SampleRows(*(getattr(rows, f.name)[row : row + 1] for f in fields(rows)))
        assert (
            sample(logits[row : row + 1], alone, config=SMALL, survey=SLICE).tokens[0] == together.tokens[row]
        )


def test_of_equals_the_lower_token_comes_first(device):
    logits = torch.zeros((5, VOCAB), device=device)
    logits[:, ::7] = 2.0
    logits[:, 7 * 60] = 3.0
    greedy = logits.clone()
    greedy[0, 7 * 60] = 2.0
    asked = [
        (0.0, 0, 1.0, 0.0),
        (1.0, 4, 1.0, 0.0),
        (1.0, 4, 1.0, 0.0),
        (1.0, 0, 0.02, 0.0),
        (1.0, 4, 0.9, 0.0),
    ]
    drawn = {row: set() for row in range(5)}
    for seed in range(2):
        sampled = sample(greedy, _rows(device, asked, seed), config=SMALL, survey=SLICE)
        for row, token in enumerate(sampled.tokens.tolist()):
            drawn[row].add(token)
    assert drawn[0] == {0}
    best_four = {0, 7, 14, 7 * 60}
    assert drawn[1] | drawn[2] <= best_four and drawn[4] <= best_four and len(drawn[1] | drawn[2]) > 1
    assert sampled.edges[1].tolist() == [2.0, 3.0]
    # e³ of e³ + 99·e² + 600 is 1.5 %: the best, and one more to hold 2 %.
    assert sampled.edges[3].tolist() == [2.0, 1.0] and drawn[3] <= {0, 7 * 60}


def test_few_tokens_left_by_a_mask(device):
    logits = _logits(device, 4)
    masks = torch.zeros((4, (VOCAB + 31) // 32), dtype=torch.int32, device=device)
    masks[:, 3], masks[:, 9] = 0b1011, -(2**31)  # tokens 96, 97, 99; 319
    masked = torch.tensor([True, True, True, False], device=device)
    changes = replace(_changes(device, 4), masks=masks, masked=masked)
    rows = _rows(device, [(0.0, 0, 1.0, 0.0), (2.0, 0, 1.0, 0.0), (2.0, 50, 0.99, 0.0), (2.0, 50, 0.99, 0.0)])
    expected, _ = sample_reference(logits, rows, changes)
    ours = sample(logits, rows, changes, config=SMALL, survey=SLICE)
    assert torch.equal(ours.tokens, expected.tokens)
    assert set(ours.tokens[:3].tolist()) <= {96, 97, 99, 319}


def _changes(device, rows):
    """None of any kind."""
    changes = SampleChanges(
        rows=torch.arange(rows).flip(0),
        repetition=torch.ones(rows),
        frequency=torch.zeros(rows),
        presence=torch.zeros(rows),
        counts=torch.zeros((rows, VOCAB), dtype=torch.int32),
        in_prompt=torch.zeros((rows, VOCAB), dtype=torch.bool),
        bias_tokens=torch.full((rows, 3), -1, dtype=torch.int32),
        bias=torch.zeros((rows, 3)),
        held_tokens=torch.full((rows, 2), -1, dtype=torch.int32),
        held_until=torch.zeros(rows, dtype=torch.int64),
    )
    return _on(changes, device)


def test_penalties_biases_and_held_tokens(device):
    asked = [
        (0.0, 0, 1.0, 0.0),
        (0.0, 0, 1.0, 0.0),
        (0.0, 0, 1.0, 0.0),
        (1.0, 0, 1.0, 0.0),
        (1.0, 9, 0.9, 0.0),
    ]
    logits, rows = _logits(device, 5), _rows(device, asked)
    best = logits.topk(3, dim=1).indices.int()
    changes = _changes(device, 5)
    changes.repetition.copy_(torch.tensor([5.0, 1.0, 1.0, 1.0, 1.2]))
    changes.frequency.copy_(torch.tensor([0.0, 0.0, 0.0, 0.5, 0.5]))
    changes.presence.copy_(torch.tensor([0.0, 0.0, 0.0, 0.0, 1.5]))
    changes.in_prompt[changes.rows[0], best[0, 0].long()] = True
    changes.counts[changes.rows[3:], best[3:, 0].long()] = 2
    changes.bias_tokens[1:, 1] = 600
    changes.bias[1, 1] = 100.0
    changes.held_tokens[2] = best[2, :2]
    changes.held_until[2] = 3  # two are made
    counts = changes.counts.clone()
    expected, _ = sample_reference(logits, rows, replace(changes, counts=counts))
    ours = sample(logits, rows, changes, config=SMALL, survey=SLICE)
    assert torch.equal(ours.tokens, expected.tokens)
    assert ours.tokens[0] == best[0, 1] and ours.tokens[1] == 600 and ours.tokens[2] == best[2, 2]
    assert torch.equal(changes.counts, counts) and int(counts.sum()) == 4 + 3
    assert torch.allclose(ours.logprobs, expected.logprobs, atol=2e-6, rtol=1e-6)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_rows_that_are_not_finite_say_so_and_harm_no_others(device):
    asked = [
        (0.0, 0, 1.0, 0.0),
        (1.0, 0, 1.0, 0.0),
        (1.0, 5, 0.9, 0.0),
        (1.0, 5, 0.9, 0.0),
        (1.0, 5, 0.9, 0.0),
    ]
    logits, rows = _logits(device, 5), _rows(device, asked)
    expected, _ = sample_reference(logits, rows)
    logits[0, 300], logits[1, 3], logits[2, 699] = torch.nan, torch.inf, torch.nan
    logits[3] = -torch.inf
    ours = sample(logits, rows, config=SMALL, survey=SLICE)
    assert ours.logprobs[:4].isnan().all() and ours.tokens[:4].tolist() == [0] * 4
    assert ours.tokens[4] == expected.tokens[4] and ours.logprobs[4].isfinite()
