"""Reads a mixture of experts from a checkpoint, expert by expert, in either way that its tensors are stored.

Each expert's layers by themselves, with a router ``gate``; or, as GPT-OSS has it, ``joined``: one tensor
``[experts, in, out]`` for all, in bf16 or as blocks of MXFP4 ``[experts, out, in]``, with gate and up in turns,
biases, and a ``router``. What is read is the same: gate before up, ``[out, in]``.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from kindling_engine.models.config import ExpertsConfig
from kindling_engine.models.mxfp4 import mxfp4_check, mxfp4_shapes, mxfp4_widen
from kindling_engine.models.quantization import Mxfp4Weights
from kindling_engine.models.weights import Checkpoint


@dataclass(frozen=True, slots=True)
class ExpertWeights:
    """``router [experts, hidden]``; by expert, in order, ``gate_up [2 · inner, hidden]`` and ``down [hidden, inner]``.

    Biases, of the router and by expert, are None where there are none.
    """

    router: Tensor
    gate_up: Iterator[Tensor]
    down: Iterator[Tensor]
    router_bias: Tensor | None = None
    gate_up_bias: Tensor | None = None
    down_bias: Tensor | None = None


def expert_weights(checkpoint: Checkpoint, prefix: str, experts: ExpertsConfig, hidden: int) -> ExpertWeights:
    """Of the mixture whose tensors' names begin with ``prefix``; raises ModelError that names the one at fault."""
    return (_joined if experts.joined else _separate)(checkpoint, prefix, experts, hidden)


def stacked(parts: Iterator[Tensor], count: int) -> Tensor:
    """So many tensors as one; no two copies of them are in memory at once."""
    first = next(parts)
    whole = first.new_empty((count, *first.shape))
    whole[0] = first
    for index, part in enumerate(parts, 1):
        whole[index] = part
    return whole


def _separate(checkpoint: Checkpoint, prefix: str, experts: ExpertsConfig, hidden: int) -> ExpertWeights:
    inner = experts.intermediate_size
    names = [f"{prefix}experts.{expert}." for expert in range(experts.count)]
    halves = ("gate_proj", "up_proj")
    return ExpertWeights(
        router=checkpoint.take(f"{prefix}gate.weight", (experts.count, hidden)),
        gate_up=(
            torch.cat([checkpoint.take(f"{name}{half}.weight", (inner, hidden)) for half in halves])
            for name in names
        ),
        down=(checkpoint.take(f"{name}down_proj.weight", (hidden, inner)) for name in names),
    )


def _joined(checkpoint: Checkpoint, prefix: str, experts: ExpertsConfig, hidden: int) -> ExpertWeights:
    count, inner = experts.count, experts.intermediate_size
    gate_up, down = f"{prefix}experts.gate_up_proj", f"{prefix}experts.down_proj"
    return ExpertWeights(
        router=checkpoint.take(f"{prefix}router.weight", (count, hidden)),
        gate_up=_each(checkpoint, gate_up, (count, 2 * inner, hidden), _parted),
        down=_each(checkpoint, down, (count, hidden, inner), Tensor.contiguous),
        router_bias=checkpoint.take(f"{prefix}router.bias", (count,)),
        gate_up_bias=_parted(checkpoint.take(f"{gate_up}_bias", (count, 2 * inner)).t()).t().contiguous(),
        down_bias=checkpoint.take(f"{down}_bias", (count, hidden)),
    )


def _each(
    checkpoint: Checkpoint, name: str, shape: tuple[int, int, int], ordered: Callable[[Tensor], Tensor]
) -> Iterator[Tensor]:
    """Each expert's ``[out, in]`` of a ``shape (experts, out, in)``, its rows in the order that ``ordered`` makes.

    What transformers saves of blocks that it has widened keeps their name, and has no scales.
    """
    count, width_out, width_in = shape
    blocks = f"{name}_blocks"
    packed = f"{name}_scales" in checkpoint or isinstance(checkpoint.quantization, Mxfp4Weights)
    if name in checkpoint or not packed:
        plain = name if name in checkpoint or blocks not in checkpoint else blocks
        for part in checkpoint.parts(plain, (count, width_in, width_out)):
            yield ordered(part.t())
        return
    block_shape, scale_shape = mxfp4_shapes(name, shape)
    # The larger one last: it is what stays mapped until the next tensor is read.
    scales = checkpoint.packed(f"{name}_scales", scale_shape)
    mxfp4_check(name, scales)
    for block, scale in zip(checkpoint.packed(blocks, block_shape), scales, strict=True):
        pair = (ordered(one).to(checkpoint.device) for one in (block, scale))
        yield mxfp4_widen(*pair).to(checkpoint.dtype)


def _parted(rows: Tensor) -> Tensor:
    """Rows of gate and up in turns as those of gate, then those of up."""
    return torch.cat((rows[0::2], rows[1::2]))
