"""What configurations of both halves of adapters are compared on: decode steps with few and many, and prompts."""

from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from kindling_engine.kernels import lora_expand, lora_shrink
from kindling_engine.kernels.lora_segment import Segments, block_for, segments_make
from kindling_engine.kernels.tune import Bout, Trial
from kindling_engine.kernels.tuning import Config
from kindling_engine.lora.slab_layout import FIELDS, SiteShape, aligned
from kindling_engine.lora.slabs import SlabTables

Load = tuple[int, int, int]
"""Tokens, adapters that they have, and the rank of each."""
SHRINK_LOADS: tuple[tuple[Load, ...], ...] = (
    ((32, 32, 16), (32, 4, 64)),
    ((256, 32, 16), (256, 8, 64)),
    ((2048, 4, 16), (2048, 4, 64)),
)
EXPAND_LOADS: tuple[tuple[Load, ...], ...] = (
    ((32, 32, 16), (256, 8, 64)),
    ((2048, 4, 16), (2048, 4, 64)),
)
"""One entry for each class of steps that has a choice of its own. Loops run to the true rank, whatever it is."""

_SETS = 4
_SHRINK_TOLERANCE = 1e-3
_TOLERANCE = {torch.float32: 1e-5}
_NARROW_TOLERANCE = 2e-2


@dataclass(frozen=True, slots=True)
class _Inputs:
    x: Tensor
    output: Tensor
    segments: Segments
    tables: SlabTables
    ranks: int
    """Of all targets, behind which nothing is written."""


def shrink_trial(
    shape: SiteShape, loads: tuple[Load, ...], *, dtype: torch.dtype, device: torch.device
) -> Trial:
    """A site's A under each of ``loads``, of one class."""
    tokens = loads[0][0]

    def run(one: _Inputs, config: Config) -> Tensor:
        return lora_shrink.lora_shrink(one.x, one.segments, one.tables, 0, shape, config=config)

    def make() -> Bout:
        made = _made(shape, loads, dtype, device)
        first = made[0][0]
        expected = lora_shrink.lora_shrink_reference(first.x, first.segments, first.tables, 0)
        return Bout(
            lambda config: run(first, config)[:, :, : first.ranks].sum(0),
            expected[:, : first.ranks],
            tuple(tuple(partial(run, one) for one in load) for load in made),
        )

    key = lora_shrink.shrink_key(tokens, shape, dtype)
    return Trial(key, lora_shrink.configs_for(tokens), make, _SHRINK_TOLERANCE)


def expand_trial(
    shape: SiteShape, loads: tuple[Load, ...], *, dtype: torch.dtype, device: torch.device
) -> Trial:
    """A site's Bs under each of ``loads``, behind the configuration of its A that runs by then."""
    tokens = loads[0][0]

    def run(one: _Inputs, shrunk: Tensor, output: Tensor, config: Config) -> Tensor:
        lora_expand.lora_expand(shrunk, one.segments, one.tables, 0, shape, output, config=config)
        return output

    def make() -> Bout:
        made = [
            [(one, lora_shrink.lora_shrink(one.x, one.segments, one.tables, 0, shape)) for one in load]
            for load in _made(shape, loads, dtype, device)
        ]
        first, shrunk = made[0][0]
        base = first.output.clone()
        whole = F.pad(shrunk[:, :, : first.ranks].sum(0), (0, first.tables.max_rank - first.ranks))
        expected = lora_expand.lora_expand_reference(whole, first.segments, first.tables, 0, shape, base)
        return Bout(
            lambda config: run(first, shrunk, base.clone(), config),
            expected,
            tuple(tuple(partial(run, one, left, one.output) for one, left in load) for load in made),
        )

    key = lora_expand.expand_key(tokens, shape, dtype)
    return Trial(key, lora_expand.configs_for(tokens), make, _TOLERANCE.get(dtype, _NARROW_TOLERANCE))


def _made(
    shape: SiteShape, loads: tuple[Load, ...], dtype: torch.dtype, device: torch.device
) -> list[list[_Inputs]]:
    return [[_inputs(shape, load, dtype, device, seed=seed) for seed in range(_SETS)] for load in loads]


def _inputs(
    shape: SiteShape,
    load: Load,
    dtype: torch.dtype,
    device: torch.device,
    *,
    seed: int,
) -> _Inputs:
    """As many tokens of each adapter, one adapter after another, every target with the same rank."""
    tokens, adapters, rank = load
    generator = torch.Generator(device=device).manual_seed(seed)

    def randn(*size: int, scale: float = 1.0) -> Tensor:
        return (scale * torch.randn(size, device=device, generator=generator)).to(dtype)

    slots = torch.arange(adapters, dtype=torch.int32, device=device).repeat_interleave(tokens // adapters)
    return _Inputs(
        randn(tokens, shape.in_features),
        randn(tokens, shape.start + sum(shape.widths)),
        segments_make(slots, block_for(tokens), num_slots=adapters),
        _tables(shape, adapters, rank, randn, device),
        len(shape.widths) * rank,
    )


def _tables(shape: SiteShape, adapters: int, rank: int, randn, device: torch.device) -> SlabTables:
    """One site's matrices as slabs hold them, each adapter's behind the last one's."""
    targets = len(shape.widths)
    pieces, offsets, position = [], torch.zeros(adapters, 1, FIELDS, dtype=torch.int64), 0
    firsts = torch.full((adapters, 1, FIELDS), targets * rank, dtype=torch.int32)
    firsts[:, :, :targets] = torch.arange(targets, dtype=torch.int32) * rank
    for adapter in range(adapters):
        a = randn(targets * rank, shape.in_features, scale=shape.in_features**-0.5)
        matrices = [a, *(randn(rank, width) for width in shape.widths)]
        for field, matrix in enumerate(matrices):
            offsets[adapter, 0, field] = position
            width = aligned(matrix.nbytes) // matrix.itemsize
            pieces.append(F.pad(matrix.flatten(), (0, width - matrix.numel())))
            position += width
    return SlabTables(
        torch.cat(pieces), offsets.to(device), firsts.to(device), max_rank=4 * -(-targets * rank // 4)
    )
