"""Where adapters attach in a model: each linear layer that PEFT may adapt, and its share of a site."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from kindling_engine.protocol.adapter_base import ExpertShape

QKV, OUTPUT, GATE_UP, DOWN = range(4)
ROUTER = GATE_UP  # a layer has either an MLP or a mixture of experts
SITES_PER_LAYER = 4


@dataclass(frozen=True, slots=True)
class Target:
    """A linear layer of the checkpoint: columns ``start`` to ``stop`` of what its site puts out."""

    site: int
    in_features: int
    start: int
    stop: int

    @property
    def out_features(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True, slots=True)
class Mixture:
    """The experts of one layer, by its number."""

    layer: int
    shape: ExpertShape


class BaseWeights(Protocol):
    """Weights of the base as they were stored, by the paths that PEFT knows them by."""

    def rows(self, path: str) -> Iterator[Tensor]:
        """``[n, in]`` in fp32, some rows at a time, of a linear layer ``[out, in]`` or a table ``[rows, width]``."""

    def bias(self, path: str) -> Tensor | None:
        """``[out]`` in fp32 of a linear layer that has one."""


@dataclass(frozen=True, slots=True)
class LoraLayout:
    """Every target by the path PEFT knows it by, such as ``model.layers.0.self_attn.q_proj``.

    A site is a place where ``LoraBatch.add`` is called; targets that share an input may share a site. Sites
    are numbered from 0 to ``num_sites`` − 1. Table, head and mixtures, where they take adapters, are no sites:
    ``table`` and ``head`` are the path with its (rows, width) or (input width, output width). ``base`` opens the
    base's weights, to be read on a device; what needs them is refused without it. ``unseen`` are paths of modules that
    text does not pass through, whose matrices are left aside.
    """

    targets: Mapping[str, Target]
    num_sites: int
    table: tuple[str, tuple[int, int]] | None = None
    head: tuple[str, tuple[int, int]] | None = None
    mixtures: Mapping[str, Mixture] = field(default_factory=dict)
    base: Callable[[torch.device], AbstractContextManager[BaseWeights]] | None = None
    unseen: frozenset[str] = frozenset()

    def linears(self) -> dict[str, tuple[int, int]]:
        """(input width, output width) of each linear layer that takes adapters, but for single experts."""
        widths = {path: (target.in_features, target.out_features) for path, target in self.targets.items()}
        return widths if self.head is None else widths | {self.head[0]: self.head[1]}


NO_LORA = LoraLayout({}, 0)


def site_index(layer: int, site: int) -> int:
    """Number of a decoder layer's site; ``site`` is QKV, OUTPUT, GATE_UP or DOWN."""
    return layer * SITES_PER_LAYER + site


def decoder_layout(
    *, num_layers: int, hidden_size: int, intermediate_size: int, q_size: int, kv_size: int
) -> LoraLayout:
    """Four sites a layer, as the decoder fuses its projections.

    ``intermediate_size`` 0 leaves the MLP out, as in a mixture of experts.
    """
    hidden, inner = hidden_size, intermediate_size
    rows = [
        ("self_attn.q_proj", QKV, hidden, 0, q_size),
        ("self_attn.k_proj", QKV, hidden, q_size, q_size + kv_size),
        ("self_attn.v_proj", QKV, hidden, q_size + kv_size, q_size + 2 * kv_size),
        ("self_attn.o_proj", OUTPUT, q_size, 0, hidden),
    ]
    if inner:
        rows += [
            ("mlp.gate_proj", GATE_UP, hidden, 0, inner),
            ("mlp.up_proj", GATE_UP, hidden, inner, 2 * inner),
            ("mlp.down_proj", DOWN, inner, 0, hidden),
        ]
    targets = {
        f"model.layers.{layer}.{module}": Target(site_index(layer, site), width, start, stop)
        for layer in range(num_layers)
        for module, site, width, start, stop in rows
    }
    return LoraLayout(targets, num_layers * SITES_PER_LAYER)
