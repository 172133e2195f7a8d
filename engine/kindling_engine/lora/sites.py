"""Where adapters attach in a model: each linear layer that PEFT may adapt, and its share of a site."""

from collections.abc import Mapping
from dataclasses import dataclass

QKV, OUTPUT, GATE_UP, DOWN = range(4)
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
class LoraLayout:
    """Every target by the path PEFT knows it by, such as ``model.layers.0.self_attn.q_proj``.

    A site is a place where ``LoraBatch.add`` is called; targets that share an input may share a site. Sites
    are numbered from 0 to ``num_sites`` − 1.
    """

    targets: Mapping[str, Target]
    num_sites: int

    def linears(self) -> dict[str, tuple[int, int]]:
        """(input width, output width) of each target."""
        return {path: (target.in_features, target.out_features) for path, target in self.targets.items()}


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
