"""Where adapters attach: four fused projections per layer, and the PEFT target that lies in each."""

from dataclasses import dataclass

from kindling_engine.models.config import DecoderConfig

QKV, OUTPUT, GATE_UP, DOWN = range(4)
SITES_PER_LAYER = 4


@dataclass(frozen=True, slots=True)
class Target:
    """A linear layer of the checkpoint: its place in the module tree and its columns in a site's output."""

    module: str
    site: int
    in_features: int
    start: int
    stop: int


def site_index(layer: int, site: int) -> int:
    return layer * SITES_PER_LAYER + site


def targets(config: DecoderConfig) -> dict[str, Target]:
    """Every target by its short name (``q_proj`` and so on)."""
    hidden, inner = config.hidden_size, config.intermediate_size
    q_size, kv_size = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
    rows = (
        Target("self_attn.q_proj", QKV, hidden, 0, q_size),
        Target("self_attn.k_proj", QKV, hidden, q_size, q_size + kv_size),
        Target("self_attn.v_proj", QKV, hidden, q_size + kv_size, q_size + 2 * kv_size),
        Target("self_attn.o_proj", OUTPUT, q_size, 0, hidden),
        Target("mlp.gate_proj", GATE_UP, hidden, 0, inner),
        Target("mlp.up_proj", GATE_UP, hidden, inner, 2 * inner),
        Target("mlp.down_proj", DOWN, inner, 0, hidden),
    )
    return {row.module.rsplit(".", 1)[1]: row for row in rows}
