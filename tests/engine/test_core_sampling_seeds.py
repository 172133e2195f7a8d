"""A seed fixes a row's tokens whatever stands beside it, in whatever order, and however often the batch changes."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kindling_engine.sampling.batch import SampledRow
from kindling_engine.sampling.params import SamplingParams
from kindling_engine.sampling.sampler import Sampler

VOCAB = 600
STEPS = 6
KINDS = {
    "greedy": SamplingParams(temperature=0.0),
    "plain": SamplingParams(seed=3),
    "filtered": SamplingParams(seed=3, temperature=0.8, top_k=40, top_p=0.9),
    "wide": SamplingParams(seed=3, temperature=2.0, top_p=0.999),
    "very-wide": SamplingParams(seed=2**63 + 9, temperature=2.0, top_k=500),
    "typical": SamplingParams(seed=3, temperature=1.5, typical_p=0.9, min_p=0.001),
    "penalised": SamplingParams(
        seed=-4, frequency_penalty=0.7, presence_penalty=-0.2, repetition_penalty=1.3
    ),
    "biased": SamplingParams(seed=3, logit_bias={5: 4.0, 9: -100.0}, top_p=0.95),
    "held": SamplingParams(seed=3, min_tokens=3, temperature=1.4),
    "reported": SamplingParams(seed=3, logprobs=5, top_k=10),
}


def logits_at(name: str, step: int) -> torch.Tensor:
    seed = sum(map(ord, name)) * 100 + step
    return torch.randn(VOCAB, generator=torch.Generator().manual_seed(seed)) * 2


class Tale:
    """One request's tokens as they grow."""

    def __init__(self, kind: str, name: str) -> None:
        self.kind, self.name = kind, name
        self.tokens = [5, 9, 9]

    @property
    def made(self) -> int:
        return len(self.tokens) - 3

    def row(self, number: int) -> SampledRow:
        return SampledRow(number, self.name, KINDS[self.kind], self.tokens, 3, self.made, frozenset({7, 11}))


def step(sampler: Sampler, tales: list[tuple[int, Tale]]) -> None:
    logits = torch.stack([logits_at(tale.kind, tale.made) for _, tale in tales])
    for (_, tale), draw in zip(
        tales, sampler.draw(logits, [tale.row(row) for row, tale in tales]), strict=True
    ):
        assert draw.token is not None
        tale.tokens.append(draw.token)


def alone(kind: str) -> list[int]:
    sampler, tale = Sampler(num_rows=1, vocab_size=VOCAB, device=torch.device("cpu")), Tale(kind, kind)
    for _ in range(STEPS):
        step(sampler, [(0, tale)])
    return tale.tokens


ALONE = {kind: alone(kind) for kind in KINDS}


def test_the_kinds_differ():
    assert len({tuple(tokens) for tokens in ALONE.values()}) == len(KINDS)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_row_draws_the_same_in_any_company(data: st.DataObject):
    """Each step takes any of the requests, in any order; now and then one loses its seat and gets another."""
    rows = 8
    sampler = Sampler(num_rows=rows, vocab_size=VOCAB, device=torch.device("cpu"))
    kinds = data.draw(st.lists(st.sampled_from(sorted(KINDS)), min_size=1, max_size=5), label="kinds")
    tales = [Tale(kind, f"{kind}-{index}") for index, kind in enumerate(kinds)]
    seats = list(range(len(tales)))
    free = list(range(len(tales), rows))
    while open_tales := [index for index, tale in enumerate(tales) if tale.made < STEPS]:
        chosen = data.draw(st.lists(st.sampled_from(open_tales), min_size=1, unique=True), label="step")
        for index in chosen:
            if data.draw(st.integers(0, 9), label="preempt") == 0:
                sampler.release(seats[index])
                free.append(seats[index])
                seats[index] = free.pop(0)
        step(sampler, [(seats[index], tales[index]) for index in chosen])
    for kind, tale in zip(kinds, tales, strict=True):
        assert tale.tokens == ALONE[kind]


def test_a_row_without_finite_logits_ends_alone():
    for value in (float("nan"), float("inf")):
        for place in range(len(KINDS)):
            sampler = Sampler(num_rows=len(KINDS), vocab_size=VOCAB, device=torch.device("cpu"))
            tales = [Tale(kind, kind) for kind in KINDS]
            logits = torch.stack([logits_at(tale.kind, 0) for tale in tales])
            logits[place, 17] = value
            drawn = sampler.draw(logits, [tale.row(index) for index, tale in enumerate(tales)])
            assert [draw.token for draw in drawn] == [
                None if index == place else ALONE[kind][3] for index, kind in enumerate(KINDS)
            ]
