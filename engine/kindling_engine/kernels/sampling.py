"""From logits to tokens on the device, in two launches, without a sort and without the host.

Same result as ``sampling.sampler``: penalties, biases, held-back stop tokens, masks, temperature, top-k, top-p, min-p,
and a draw by Gumbel-max with the very noise of ``sampling.noise``. Of exact equals the lower token comes first, be it
for the best token, for the last place of a top-k, or for the last of a nucleus. A top-p of 1 cuts nothing, where
torch's running sum of probabilities may reach 1 before the last token. Locally typical sampling is not here.

Passes over a row of V logits: one read for greedy and plain rows. Filtered ones write them once as fp32 and read the
maxima, 1/32 of them, up to log₅ 2³² = 14 times; the rest happens among at most 8,192 logits in L1. Where those do not
settle the edge (a top-k beyond 192, or a nucleus of more tokens than the pool has) the row is read up to 14 times each
for top-k and top-p, once for the mass, and once to draw.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import triton
from torch import Tensor

from kindling_engine.kernels.ahead import Case
from kindling_engine.kernels.sampling_choose import choose_kernel
from kindling_engine.kernels.sampling_survey import CHUNK, survey_kernel
from kindling_engine.kernels.tuning import Config
from kindling_engine.sampling.filters import Filters, candidates_select
from kindling_engine.sampling.noise import gumbel, row_keys

CONFIGS = tuple(
    Config({"POOL": pool, "PIVOTS": pivots, "BLOCK": block}, num_warps=16, num_stages=1)
    for pool, pivots, block in ((256, 4, 4096), (128, 4, 4096), (256, 8, 2048))
)
"""Of the second kernel: chunks in the pool, pivots of a pass, logits held at a time."""

SURVEY_CONFIGS = tuple(
    Config({"SLICE": size}, num_warps=warps, num_stages=1)
    for size, warps in ((4096, 8), (2048, 4), (8192, 8))
)
"""Of the first: logits of a row that one program looks at."""

_HELD_BACK = -1e30  # what holds a token back, as in the sampler


@dataclass(frozen=True, slots=True)
class SampleRows:
    """What ``m`` rows ask for, each ``[m]`` on the device.

    ``seeds`` and ``made``, the number of tokens made before this one, int64; ``temperature`` fp32, below 1e-5 greedy;
    ``top_k`` int64, 0 for none; ``top_p`` 1 and ``min_p`` 0, fp32, for none.
    """

    seeds: Tensor
    made: Tensor
    temperature: Tensor
    top_k: Tensor
    top_p: Tensor
    min_p: Tensor


@dataclass(frozen=True, slots=True)
class SampleChanges:
    """What changes logits before the draw, for ``m`` rows of a graph of fixed size.

    ``rows`` int64 ``[m]`` are the places of the rows in ``counts`` int32 and ``in_prompt`` bool, both
    ``[num_rows, vocab]``; the counts of penalised rows grow by the token that is drawn. ``repetition``, ``frequency``
    and ``presence`` fp32 ``[m]``: 1, 0 and 0 for none. ``bias_tokens`` int32 ``[m, b]``, each token at most once, −1
    for none, get ``bias`` fp32 added. ``held_tokens`` int32 ``[m, h]``, −1 for none, come last while
    ``made < held_until`` int64 ``[m]``. ``masks`` int32 ``[m, ⌈vocab / 32⌉]``, a bit for each token that is allowed,
    count where ``masked`` bool ``[m]``.
    """

    rows: Tensor
    repetition: Tensor
    frequency: Tensor
    presence: Tensor
    counts: Tensor
    in_prompt: Tensor
    bias_tokens: Tensor
    bias: Tensor
    held_tokens: Tensor
    held_until: Tensor
    masks: Tensor | None = None
    masked: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Sampled:
    """``tokens`` int64 ``[m]`` and their log-probabilities fp32 ``[m]`` under the raw logits.

    A log-probability of NaN says that the row's logits were not finite; its token is 0 then. ``edges`` fp32
    ``[m, 2]`` tell of filtered rows what top-k and top-p kept: logits over temperature above the first number, and
    as many of those equal to it as the second says; NaN for other rows.
    """

    tokens: Tensor
    logprobs: Tensor
    edges: Tensor


def sample_reference(
    logits: Tensor, rows: SampleRows, changes: SampleChanges | None = None
) -> tuple[Sampled, Tensor]:
    """As ``sample`` in torch, with the tokens that may be drawn as a mask ``[m, vocab]``; its edges are NaN."""
    raw = logits.float()
    value = raw if changes is None else _changed(raw, rows, changes)
    greedy = rows.temperature < 1e-5
    scaled = value / torch.where(greedy, 1.0, rows.temperature)[:, None]
    filters = Filters(rows.top_k[:, None], rows.top_p[:, None], rows.min_p[:, None], None)
    found = candidates_select(scaled, filters, width=scaled.shape[1])
    kept = torch.zeros_like(scaled, dtype=torch.bool).scatter_(1, found.ids, found.logits > float("-inf"))
    off = (rows.top_k == 0) & (rows.top_p >= 1.0) & (rows.min_p <= 0.0)
    kept |= (off | greedy)[:, None]
    ids = torch.arange(scaled.shape[1], dtype=torch.int32, device=logits.device)[None]
    noise = gumbel(row_keys(rows.seeds, rows.made), ids).masked_fill(greedy[:, None], 0.0)
    tokens = (scaled + noise).masked_fill(~kept, float("-inf")).argmax(dim=-1)
    logprobs = raw.log_softmax(dim=-1).gather(1, tokens[:, None])[:, 0]
    if changes is not None:
        penalised = (changes.repetition != 1) | (changes.frequency != 0) | (changes.presence != 0)
        changes.counts[changes.rows[penalised], tokens[penalised]] += 1
    return Sampled(tokens, logprobs, torch.full((len(tokens), 2), torch.nan, device=logits.device)), kept


def _changed(raw: Tensor, rows: SampleRows, changes: SampleChanges) -> Tensor:
    counts = changes.counts[changes.rows]
    seen = changes.in_prompt[changes.rows] | (counts > 0)
    repetition = changes.repetition[:, None]
    value = torch.where(seen, torch.where(raw > 0, raw / repetition, raw * repetition), raw)
    value = value - changes.frequency[:, None] * counts - changes.presence[:, None] * (counts > 0)
    biased = changes.bias_tokens >= 0
    value.scatter_add_(1, changes.bias_tokens.clamp(min=0).long(), changes.bias.where(biased, 0.0))
    held = (changes.held_tokens >= 0) & (rows.made < changes.held_until)[:, None]
    row, column = held.nonzero(as_tuple=True)
    value[row, changes.held_tokens[row, column].long()] = _HELD_BACK
    if changes.masks is not None and changes.masked is not None:
        bits = (changes.masks[:, :, None] >> torch.arange(32, device=raw.device)) & 1
        allowed = bits.flatten(1)[:, : raw.shape[1]] != 0
        value = value.masked_fill(changes.masked[:, None] & ~allowed, float("-inf"))
    return value


def sample(
    logits: Tensor,
    rows: SampleRows,
    changes: SampleChanges | None = None,
    *,
    config: Config | None = None,
    survey: Config | None = None,
) -> Sampled:
    """A token for every row of ``logits [m, vocab]`` in fp32 or bf16, which stay as they are.

    Takes 4 · m · (vocab + 1/32 of it + 8,192) bytes of scratch memory. Rows that only fill up a graph are greedy.
    """
    count, vocab = logits.shape
    device = logits.device
    chosen, surveyed = config or CONFIGS[0], survey or SURVEY_CONFIGS[0]
    shape = _Shape(vocab, chosen.tiles["POOL"], surveyed.tiles["SLICE"])
    changed = torch.empty((count, shape.stride), dtype=torch.float32, device=device)
    stats = torch.empty((count, 4, shape.slices), dtype=torch.float32, device=device)
    best_ids = torch.empty((count, shape.slices), dtype=torch.int32, device=device)
    pool_chunks = torch.empty((count, shape.pool), dtype=torch.int32, device=device)
    result = Sampled(
        torch.empty(count, dtype=torch.int64, device=device),
        torch.empty(count, dtype=torch.float32, device=device),
        torch.empty((count, 2), dtype=torch.float32, device=device),
    )
    asked = (rows.seeds, rows.made, rows.temperature, rows.top_k, rows.top_p, rows.min_p)
    penalties = (changed,) * 5
    others: tuple[Tensor, ...] = (changed,) * 7
    if changes is not None:
        penalties = (changes.rows, changes.repetition, changes.frequency, changes.presence, changes.counts)
        others = (
            changes.in_prompt,
            *(changes.bias_tokens, changes.bias, changes.held_tokens, changes.held_until),
            changed if changes.masks is None else changes.masks,
            changed if changes.masked is None else changes.masked,
        )
    biases, held = (1, 1) if changes is None else (changes.bias.shape[1], changes.held_tokens.shape[1])
    survey_kernel[(count, shape.slices)](
        logits,
        *asked,
        *penalties,
        *others,
        *(changed, stats, best_ids),
        *(logits.stride(0), shape.stride, shape.chunks_at),
        **shape.survey(biases, held),
        CHANGES=changes is not None,
        MASKS=changes is not None and changes.masks is not None,
        **surveyed.arguments(),
    )
    choose_kernel[(count,)](
        logits,
        *asked,
        *penalties,
        *(changed, stats, best_ids, pool_chunks, result.tokens, result.logprobs, result.edges),
        *(logits.stride(0), shape.stride, shape.chunks_at, shape.pool_at),
        **shape.choose(),
        CHANGES=changes is not None,
        **chosen.arguments(),
    )
    return result


class _Shape:
    """Where things lie in a row of scratch memory: the logits, the chunks' maxima, the pool."""

    def __init__(self, vocab: int, pool: int, size: int) -> None:
        self.vocab = vocab
        self.pool = pool
        self.slices = triton.cdiv(vocab, size)
        self.chunks = triton.cdiv(vocab, CHUNK.value)
        self.chunks_at = _aligned(vocab)
        self.pool_at = self.chunks_at + _aligned(self.chunks)
        self.stride = self.pool_at + pool * CHUNK.value

    def survey(self, biases: int, held: int) -> dict[str, int]:
        return {
            "VOCAB": self.vocab,
            "SLICES": self.slices,
            "BIASES": biases,
            "HELD": held,
            "BLOCK_BIASES": triton.next_power_of_2(biases),
            "BLOCK_HELD": triton.next_power_of_2(held),
        }

    def choose(self) -> dict[str, int]:
        return {
            "VOCAB": self.vocab,
            "SLICES": self.slices,
            "BLOCK_SLICES": triton.next_power_of_2(self.slices),
            "BLOCK_CHUNKS": triton.next_power_of_2(self.chunks),
        }


def _aligned(size: int) -> int:
    return triton.cdiv(size, 32) * 32


def ahead_cases() -> Iterator[Case]:
    """What the compiler is to take: Qwen3's vocabulary, logits in both dtypes, with everything and as it is served."""
    for dtype, changes, survey in (
        *((torch.bfloat16, True, one) for one in SURVEY_CONFIGS),
        (torch.float32, False, SURVEY_CONFIGS[0]),
    ):
        shape = _Shape(151936, 256, survey.tiles["SLICE"])
        yield Case(
            f"sample survey {'changes' if changes else 'plain'}",
            survey_kernel,
            (
                *(dtype, *_ASKED),
                *((*_PENALTIES, *_OTHERS) if changes else (torch.float32,) * 12),
                *(torch.float32, torch.float32, torch.int32, 151936, shape.stride, shape.chunks_at),
            ),
            {**shape.survey(32, 8), "CHANGES": changes, "MASKS": changes},
            survey,
        )
    for dtype, changes, config in (
        *((torch.bfloat16, True, one) for one in CONFIGS),
        (torch.float32, False, CONFIGS[0]),
    ):
        shape = _Shape(151936, config.tiles["POOL"], SURVEY_CONFIGS[0].tiles["SLICE"])
        yield Case(
            f"sample choose {'changes' if changes else 'plain'}",
            choose_kernel,
            (
                *(dtype, *_ASKED, *(_PENALTIES if changes else (torch.float32,) * 5)),
                *(torch.float32, torch.float32, torch.int32, torch.int32),
                *(torch.int64, torch.float32, torch.float32),
                *(151936, shape.stride, shape.chunks_at, shape.pool_at),
            ),
            {**shape.choose(), "CHANGES": changes},
            config,
        )


_ASKED = (torch.int64, torch.int64, torch.float32, torch.int64, torch.float32, torch.float32)
_PENALTIES = (torch.int64, torch.float32, torch.float32, torch.float32, torch.int32)
_OTHERS = (torch.bool, torch.int32, torch.float32, torch.int32, torch.int64, torch.int32, torch.bool)
"""Of SampleRows and SampleChanges, in the kernels' order; without changes scratch memory stands in their place."""
