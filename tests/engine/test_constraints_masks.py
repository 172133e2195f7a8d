"""The masks of a batch, and what the sampler makes of them."""

import numpy as np
import pytest
import torch

from kindling_engine.constraints.base import ConstraintError, mask_add, mask_make, mask_words
from kindling_engine.constraints.masks import MaskTable
from kindling_engine.sampling.batch import SampledRow
from kindling_engine.sampling.params import SamplingParams
from kindling_engine.sampling.sampler import Sampler

VOCAB = 77
CPU = torch.device("cpu")
DEVICES = [CPU, *([torch.device("cuda")] if torch.cuda.is_available() else [])]


class Only:
    """Allows the tokens it is told to; none at all is a dead end, and None leaves the row alone."""

    finished = False

    def __init__(self, tokens: set[int] | None) -> None:
        self._tokens = tokens

    def fill(self, mask: np.ndarray) -> bool:
        if self._tokens is None:
            return False
        if not self._tokens:
            raise ConstraintError("constraint_dead_end", "nothing is left")
        mask[:] = 0
        for token in self._tokens:
            mask_add(mask, token)
        return True

    def accept(self, token: int) -> None:
        assert self._tokens is None or token in self._tokens


@pytest.mark.parametrize("device", DEVICES, ids=str)
@pytest.mark.parametrize(
    "rows", [[{3}, {0, 31, 32, 63, 64, 76}], [None, {5}, "free", {76}], [{1}], ["free", "free", {2, 40}]]
)
def test_a_mask_leaves_exactly_what_is_allowed(device: torch.device, rows: list):
    constraints = [None if row is None else Only(None if row == "free" else row) for row in rows]
    logits = torch.randn(len(rows), VOCAB, device=device)
    before = logits.clone()
    mask = MaskTable(vocab_size=VOCAB, device=device).fill(constraints)
    assert mask is not None
    mask.apply(logits)
    for index, row in enumerate(rows):
        allowed = row if isinstance(row, set) else set(range(VOCAB))
        kept = {token for token in range(VOCAB) if logits[index, token] > float("-inf")}
        assert kept == allowed
        chosen = sorted(allowed)
        assert torch.equal(logits[index, chosen], before[index, chosen])


def test_a_batch_without_constraints_has_no_mask():
    assert MaskTable(vocab_size=VOCAB, device=CPU).fill([None, None]) is None


def test_a_dead_end_is_its_rows_alone():
    mask = MaskTable(vocab_size=VOCAB, device=CPU).fill([Only({1}), Only(set()), None])
    assert list(mask.errors) == [1]
    logits = torch.zeros(3, VOCAB)
    mask.apply(logits)
    assert logits[1:].eq(0).all()


@pytest.mark.parametrize("size", [1, 31, 32, 33, 64, 1000])
def test_a_full_row_has_a_bit_for_every_token_and_no_more(size: int):
    mask = mask_make(size, without=[0])
    bits = np.unpackbits(mask.view(np.uint8), bitorder="little")
    assert len(mask) == mask_words(size)
    assert set(np.flatnonzero(bits)) == set(range(1, size))


def row(index: int, tokens: set[int] | None, **params) -> SampledRow:
    return SampledRow(
        row=index,
        request_id=f"{index}",
        params=SamplingParams(**params),
        tokens=[1, 2],
        prompt_len=2,
        made=0,
        stop_ids=frozenset({9}),
        constraint=None if tokens is None else Only(tokens),
    )


@pytest.mark.parametrize(
    "params",
    [
        {"temperature": 0.0},
        {"temperature": 1.0, "seed": 3},
        {"temperature": 1e-5, "seed": 3},
        {"temperature": 100.0, "seed": 3},
        {"temperature": 1.0, "top_k": 1},
        {"temperature": 1.0, "top_p": 1e-6, "min_p": 1.0, "typical_p": 0.01},
        {"temperature": 1.0, "min_tokens": 10},
        {"temperature": 0.0, "min_tokens": 10, "logit_bias": {9: -1000.0}},
        {"temperature": 1.0, "logit_bias": {9: -1000.0, 10: 1000.0}, "frequency_penalty": 2.0},
        {"temperature": 1.0, "repetition_penalty": 1000.0},
    ],
)
def test_a_row_left_with_its_end_draws_it_whatever_else_is_asked(params: dict):
    sampler = Sampler(num_rows=4, vocab_size=VOCAB, device=CPU)
    for seed in range(5):
        torch.manual_seed(seed)
        draws = sampler.draw(
            5 * torch.randn(3, VOCAB), [row(0, {9}, **params), row(1, None, **params), row(2, {9}, **params)]
        )
        assert [draws[0].token, draws[2].token] == [9, 9]
        assert draws[1].error is None


def test_a_random_row_follows_the_models_odds_among_what_is_allowed():
    sampler = Sampler(num_rows=1, vocab_size=VOCAB, device=CPU)
    logits = torch.zeros(1, VOCAB)
    logits[0, 4] = 1.0
    drawn = []
    for seed in range(600):
        sampler.release(0)
        drawn.append(sampler.draw(logits.clone(), [row(0, {4, 5}, temperature=1.0, seed=seed)])[0].token)
    share = drawn.count(4) / len(drawn)
    assert set(drawn) == {4, 5}
    assert share == pytest.approx(np.e / (1 + np.e), abs=0.06)


def test_the_sampler_reports_a_dead_end_and_draws_the_rest():
    sampler = Sampler(num_rows=2, vocab_size=VOCAB, device=CPU)
    dead, alive = sampler.draw(
        torch.randn(2, VOCAB), [row(0, set(), temperature=0.0), row(1, {7}, temperature=0.0)]
    )
    assert dead.error is not None
    assert dead.error.code == "constraint_dead_end"
    assert (alive.error, alive.token) == (None, 7)


def test_logits_that_are_not_finite_are_found_behind_a_mask():
    sampler = Sampler(num_rows=1, vocab_size=VOCAB, device=CPU)
    logits = torch.randn(1, VOCAB)
    logits[0, 30] = float("nan")
    assert sampler.draw(logits, [row(0, {7}, temperature=0.0)])[0].token is None
