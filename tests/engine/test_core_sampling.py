"""The sampler on made-up logits, and seeds in real batches."""

import math

import pytest
import torch

from kindling_core_rig import rig_make
from kindling_engine.protocol.sampling import Sampling
from kindling_engine.sampling.batch import SampledRow
from kindling_engine.sampling.filters import Filters, candidates_select
from kindling_engine.sampling.noise import gumbel, row_keys
from kindling_engine.sampling.params import SamplingParams
from kindling_engine.sampling.sampler import Draw, Sampler
from kindling_tiny_models import EOS, VOCAB, adapter_make, model_make

WIDTH = 1000


def _row(
    index: int, params: SamplingParams, *, prompt=(1, 2, 3), output=(), stop_ids=frozenset()
) -> SampledRow:
    return SampledRow(
        row=index,
        request_id=f"r{index}",
        params=params,
        tokens=[*prompt, *output],
        prompt_len=len(prompt),
        made=len(output),
        stop_ids=frozenset(stop_ids),
    )


def _sampler(rows: int, vocab: int) -> Sampler:
    return Sampler(num_rows=rows, vocab_size=vocab, device=torch.device("cpu"))


def _draw(logits: torch.Tensor, *params: SamplingParams, **row) -> list[Draw]:
    sampler = Sampler(num_rows=len(params), vocab_size=logits.shape[-1], device=torch.device("cpu"))
    rows = [_row(index, item, **row) for index, item in enumerate(params)]
    return sampler.draw(logits.expand(len(params), -1).clone(), rows)


def _frequencies(logits: torch.Tensor, count: int = 4000, **params) -> torch.Tensor:
    draws = _draw(logits, *(SamplingParams(seed=seed, **params) for seed in range(count)))
    tokens = torch.tensor([draw.token for draw in draws])
    return torch.bincount(tokens, minlength=logits.shape[-1]) / count


def _spread(size: int = 12) -> torch.Tensor:
    return torch.linspace(0, 3, size)[torch.randperm(size, generator=torch.Generator().manual_seed(1))]


def test_greedy_takes_the_best():
    logits = torch.randn(5, WIDTH, generator=torch.Generator().manual_seed(0))
    sampler = Sampler(num_rows=5, vocab_size=WIDTH, device=torch.device("cpu"))
    rows = [_row(index, SamplingParams(temperature=0.0)) for index in range(5)]
    assert [draw.token for draw in sampler.draw(logits.clone(), rows)] == logits.argmax(-1).tolist()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_frequencies_follow_the_softmax(temperature):
    logits = _spread()
    expected = (logits / temperature).softmax(-1)
    assert (_frequencies(logits, temperature=temperature) - expected).abs().max() < 0.03


def test_the_noise_is_gumbel_and_independent_over_positions_seeds_and_tokens():
    seeds = torch.arange(64, dtype=torch.int64).repeat_interleave(8)
    positions = torch.arange(8, dtype=torch.int64).repeat(64)
    noise = gumbel(row_keys(seeds, positions), torch.arange(WIDTH, dtype=torch.int32).unsqueeze(0))
    assert noise.isfinite().all()
    assert abs(noise.mean().item() - 0.5772) < 0.01 and abs(noise.var().item() - math.pi**2 / 6) < 0.02
    uniform = (-(-noise).exp()).exp()
    counts = torch.histc(uniform, bins=64, min=0.0, max=1.0)
    expected = noise.numel() / 64
    assert ((counts - expected) ** 2 / expected).sum() < 120  # chi-square with 63 degrees; p = 1e-5 at 120
    rows = torch.corrcoef(uniform)
    assert (rows - torch.eye(len(rows))).abs().max() < 0.2
    assert (
        torch.corrcoef(torch.stack((uniform[:, :-1].flatten(), uniform[:, 1:].flatten())))[0, 1].abs() < 0.01
    )


def test_top_k_keeps_k():
    frequencies = _frequencies(_spread(), top_k=3)
    assert set(frequencies.nonzero().flatten().tolist()) == set(_spread().topk(3).indices.tolist())


def test_top_p_keeps_the_smallest_set_that_reaches_p():
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
    assert _frequencies(logits, top_p=0.79)[2:].sum() == 0
    assert _frequencies(logits, top_p=0.81)[2] > 0 and _frequencies(logits, top_p=0.81)[3] == 0
    assert _frequencies(logits, top_p=0.0)[0] == 1


def test_min_p_is_relative_to_the_best():
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
    frequencies = _frequencies(logits, min_p=0.2)
    assert frequencies[3] == 0 and (frequencies[:3] > 0).all()


def test_top_p_works_on_what_top_k_left():
    logits = torch.tensor([0.4, 0.3, 0.2, 0.1]).log()
    assert _frequencies(logits, top_k=2, top_p=0.6)[1] > 0
    assert _frequencies(logits, top_k=2, top_p=0.56)[1] == 0


def test_a_flat_distribution_needs_the_whole_vocabulary():
    """The few best tokens do not reach p, so the filter has to look at all of them."""
    scaled = torch.randn(2, 5000, generator=torch.Generator().manual_seed(0)) * 0.01
    one = torch.ones(2, 1)
    filters = Filters(torch.zeros(2, 1, dtype=torch.int64), 0.9 * one, 0 * one, None)
    assert candidates_select(scaled, filters).complete.tolist() == [False, False]
    found = candidates_select(scaled, filters, width=5000)
    kept, ids = found.logits, found.ids
    probabilities = scaled.softmax(-1).sort(dim=-1, descending=True).values
    expected = ((probabilities.cumsum(-1) - probabilities) < 0.9).sum(-1)
    assert ((kept > float("-inf")).sum(-1) - expected).abs().max() <= 1
    assert kept.shape == ids.shape == (2, 5000)


def test_penalties_follow_their_formulas():
    logits = torch.tensor([2.0, -1.0, 0.5, 0.4, 1.0])
    row = {"prompt": (0, 1), "output": (2, 2, 3)}

    def penalised(**params) -> list[float]:
        sampler = Sampler(num_rows=1, vocab_size=5, device=torch.device("cpu"))
        rows = [_row(0, SamplingParams(temperature=0.0, **params), **row)]
        batch = sampler._batch_for(rows)
        return sampler._changed(logits[None].clone(), batch)[0].tolist()

    assert penalised(repetition_penalty=2.0) == pytest.approx([1.0, -2.0, 0.25, 0.2, 1.0])
    assert penalised(frequency_penalty=0.5) == pytest.approx([2.0, -1.0, -0.5, -0.1, 1.0])
    assert penalised(presence_penalty=0.5) == pytest.approx([2.0, -1.0, 0.0, -0.1, 1.0])
    assert penalised(logit_bias={4: 3.0, 0: -100.0}) == pytest.approx([-98.0, -1.0, 0.5, 0.4, 4.0])


def test_counts_grow_with_what_is_drawn_and_restart_with_a_new_request():
    sampler = Sampler(num_rows=1, vocab_size=4, device=torch.device("cpu"))
    logits = torch.tensor([[3.0, 2.5, 2.2, 0.0]])
    params = SamplingParams(temperature=0.0, frequency_penalty=0.6)
    row = _row(0, params, prompt=(3,))
    drawn = []
    for _ in range(4):
        drawn.append(sampler.draw(logits.clone(), [row])[0].token)
        row.tokens.append(drawn[-1])
    assert drawn == [0, 1, 0, 2]
    sampler.release(0)
    assert sampler.draw(logits.clone(), [_row(0, params, prompt=(3,))])[0].token == 0


def test_stop_tokens_are_held_back_until_min_tokens():
    logits = torch.tensor([5.0, 1.0, 0.0])
    params = SamplingParams(temperature=0.0, min_tokens=3)
    drawn = [_draw(logits, params, output=(1,) * made, stop_ids={0})[0].token for made in range(5)]
    assert drawn == [1, 1, 1, 0, 0]
    sampler, row = _sampler(1, 3), _row(0, params, stop_ids={0})
    assert [sampler.draw(logits[None].clone(), [row])[0].token for _ in range(5)] == drawn


def test_logprobs_are_the_models_own():
    logits = _spread(30)
    params = SamplingParams(temperature=0.3, top_k=2, logit_bias={4: 50.0}, logprobs=3, seed=1)
    draw, other = _draw(logits, params, SamplingParams(temperature=0.0, logprobs=0))
    expected = logits.log_softmax(-1)
    assert draw.token == 4
    assert draw.logprobs.logprob == pytest.approx(expected[4].item(), abs=1e-5)
    assert list(draw.logprobs.top_ids) == expected.topk(3).indices.tolist()
    assert draw.logprobs.top_logprobs == pytest.approx(expected.topk(3).values.tolist(), abs=1e-5)
    assert other.logprobs.top_ids == ()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_row_without_finite_logits_gives_no_token_and_harms_no_other(value):
    sampler = Sampler(num_rows=2, vocab_size=8, device=torch.device("cpu"))
    logits = torch.stack((torch.arange(8.0), torch.full((8,), value)))
    for temperature in (0.0, 1.0):
        rows = [_row(index, SamplingParams(temperature=temperature, top_k=1)) for index in range(2)]
        assert [draw.token for draw in sampler.draw(logits.clone(), rows)] == [7, None]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return model_make("llama", tmp_path_factory.mktemp("m"))


def test_a_seed_gives_the_same_tokens_in_any_batch(model, tmp_path):
    adapter_make(model, tmp_path / "x", r=4, target_modules=["q_proj"])
    kinds = {
        "plain": Sampling(seed=11, ignore_eos=True),
        "filtered": Sampling(seed=11, temperature=0.8, top_p=0.9, top_k=40, ignore_eos=True),
        "penalised": Sampling(seed=2**63 + 5, frequency_penalty=0.5, repetition_penalty=1.1, ignore_eos=True),
    }
    alone: dict[str, list[int]] = {}
    for name, sampling in kinds.items():
        rig = rig_make(model, tmp_path)
        rig.submit(name, [5, 6, 7, 8], max_tokens=24, sampling=sampling)
        rig.run_until(name)
        alone[name] = rig.tokens(name)
    crowd = rig_make(model, tmp_path, kv_tokens=256, step_tokens=64)
    for index in range(6):
        sampling = Sampling(seed=index, temperature=0.5 * index, min_p=0.01 * index, ignore_eos=True)
        crowd.submit(f"n{index}", [9 + index] * (3 + 5 * index), max_tokens=30, sampling=sampling)
        crowd.turn()
    crowd.submit("x", [4, 4], adapter="x", max_tokens=30, sampling=Sampling(seed=1))
    for name, sampling in kinds.items():
        crowd.submit(name, [5, 6, 7, 8], max_tokens=24, sampling=sampling)
        crowd.turn()
    crowd.run_until(*kinds, "x")
    assert {name: crowd.tokens(name) for name in kinds} == alone
    assert alone["plain"] != alone["filtered"]


def test_without_a_seed_two_requests_differ(model, tmp_path):
    rig = rig_make(model, tmp_path)
    for name in "ab":
        rig.submit(name, [5, 6], max_tokens=20, sampling=Sampling(temperature=1.5, ignore_eos=True))
    rig.run_until("a", "b")
    assert rig.tokens("a") != rig.tokens("b")


def test_end_of_sequence_counts_and_ends_unless_ignored(model, tmp_path):
    rig = rig_make(model, tmp_path)
    push = {EOS: 500.0}
    rig.submit("stops", [5], max_tokens=6, sampling=Sampling(temperature=0.0, logit_bias=push))
    rig.submit("held", [5], max_tokens=6, sampling=Sampling(temperature=0.0, logit_bias=push, min_tokens=3))
    rig.submit(
        "goes", [5], max_tokens=6, sampling=Sampling(temperature=0.0, logit_bias=push, ignore_eos=True)
    )
    rig.run_until("stops", "held", "goes")
    assert (rig.end("stops").finish, rig.tokens("stops")) == ("stop", [EOS])
    assert rig.end("held").finish == "stop" and len(rig.tokens("held")) == 4
    assert (rig.end("goes").finish, rig.tokens("goes")) == ("length", [EOS] * 6)
    assert VOCAB > EOS
