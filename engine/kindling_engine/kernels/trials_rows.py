"""What configurations of the kernels between products are compared on: norms, gates, rotation, rows in e4m3."""

from functools import partial

import torch
from torch import Tensor

from kindling_engine.kernels import activation, fp8_linear, norms, rope_kv
from kindling_engine.kernels.clock import copies_for
from kindling_engine.kernels.rope_kv import KvTarget, QkNorm
from kindling_engine.kernels.tune import Bout, Trial
from kindling_engine.kernels.tuning import Config
from kindling_engine.layers.rotary import Rotary, RotaryTables
from kindling_engine.layers.rotary_scaling import RotaryConfig

_EPS = 1e-6
_TOLERANCE = {torch.float32: 1e-5}
_NARROW_TOLERANCE = 1.6e-2
_E4M3_TOLERANCE = 0.08
"""A number between two of e4m3 may fall to the other one, and its largest are a fourteenth apart."""
_SLOTS = 16


def norm_trial(
    rows: int, hidden: int, *, adds: bool, dtype: torch.dtype, weight_dtype: torch.dtype, device: torch.device
) -> Trial:
    """RMS norm, alone or of a sum that stays."""
    weight = torch.linspace(0.5, 1.5, hidden, device=device).to(weight_dtype)

    def run(pair: Tensor, config: Config) -> Tensor:
        if adds:
            return norms.add_rms_norm(pair[0], pair[1], weight, _EPS, config)[0]
        return norms.rms_norm(pair[0], weight, _EPS, config)

    def make() -> Bout:
        sets = _sets((2, rows, hidden), dtype, device)
        first = sets[0].clone()
        expected = (
            norms.add_rms_norm_reference(first[0], first[1], weight, _EPS)[0]
            if adds
            else norms.rms_norm_reference(first[0], weight, _EPS)
        )
        # A launch changes what it adds to.
        return Bout(
            lambda config: run(first.clone(), config), expected, (tuple(partial(run, one) for one in sets),)
        )

    key = norms.norm_key(torch.empty(rows, hidden, dtype=dtype, device="meta"), weight, adds=adds)
    return Trial(key, norms.CONFIGS, make, _TOLERANCE.get(dtype, _NARROW_TOLERANCE))


def gate_trial(
    rows: int, inner: int, kind: activation.Kind, *, dtype: torch.dtype, device: torch.device
) -> Trial:
    """``act(g) ⊙ u``."""

    def run(one: Tensor, config: Config) -> Tensor:
        return activation.gate(one, kind, config)

    def make() -> Bout:
        sets = _sets((rows, 2 * inner), dtype, device)
        return Bout(
            partial(run, sets[0]),
            activation.gate_reference(sets[0], kind),
            (tuple(partial(run, one) for one in sets),),
        )

    key = activation.gate_key(torch.empty(rows, 2 * inner, dtype=dtype, device="meta"), kind)
    return Trial(key, activation.CONFIGS, make, _TOLERANCE.get(dtype, _NARROW_TOLERANCE))


def quantise_trial(rows: int, width: int, *, dtype: torch.dtype, device: torch.device) -> Trial:
    """Rows of activations as e4m3 with a scale each."""

    def wide(quantised: Tensor, scale: Tensor) -> Tensor:
        return quantised.float() * scale

    def make() -> Bout:
        sets = _sets((rows, width), dtype, device)
        return Bout(
            lambda config: wide(*fp8_linear.quantise_rows(sets[0], config)),
            wide(*fp8_linear.quantise_rows_reference(sets[0])),
            (tuple(partial(fp8_linear.quantise_rows, one) for one in sets),),
        )

    key = fp8_linear.quantise_key(torch.empty(rows, width, dtype=dtype, device="meta"))
    return Trial(key, fp8_linear.CONFIGS, make, _E4M3_TOLERANCE)


def rope_trial(
    rows: int,
    *,
    heads: int,
    kv_heads: int,
    head_dim: int,
    rotary: RotaryConfig | None,
    normed: bool,
    dtype: torch.dtype,
    page_dtype: torch.dtype,
    device: torch.device,
) -> Trial:
    """From a projection to queries, with K and V on their way into pages."""
    ones = torch.ones(head_dim, dtype=dtype, device=device)
    norm = QkNorm(ones, ones, _EPS) if normed else None
    tables = _tables(rotary, rows, dtype, device)
    scale = torch.ones(kv_heads, device=device) if page_dtype.itemsize == 1 else None

    def target() -> KvTarget:
        pages = torch.zeros(
            2, kv_heads, -(-rows // _SLOTS) + 1, _SLOTS, head_dim, dtype=page_dtype, device=device
        )
        slots = torch.arange(rows, device=device) + _SLOTS
        return KvTarget(pages[0], pages[1], slots, scale, scale)

    def run(qkv: Tensor, target: KvTarget, config: Config) -> Tensor:
        return rope_kv.rope_kv(qkv, tables, norm, target, heads=heads, config=config)

    def make() -> Bout:
        sets = [(one, target()) for one in _sets((rows, (heads + 2 * kv_heads) * head_dim), dtype, device)]
        first, there = sets[0]
        kept = target()
        expected = rope_kv.rope_kv_reference(first, tables, norm, kept, heads=heads)

        def result(config: Config) -> Tensor:
            query = run(first, there, config)
            return _joined(query, there)

        return Bout(result, _joined(expected, kept), (tuple(partial(run, *one) for one in sets),))

    key = rope_kv.rope_key(
        torch.empty(rows, (heads + 2 * kv_heads) * head_dim, dtype=dtype, device="meta"),
        tables,
        norm,
        target(),
    )
    tolerance = _E4M3_TOLERANCE if page_dtype.itemsize == 1 else _TOLERANCE.get(dtype, _NARROW_TOLERANCE)
    return Trial(key, rope_kv.CONFIGS, make, tolerance)


def _tables(
    rotary: RotaryConfig | None, rows: int, dtype: torch.dtype, device: torch.device
) -> RotaryTables | None:
    if rotary is None:
        return None
    return Rotary(rotary, device).tables(torch.arange(rows, device=device), None, dtype)


def _joined(query: Tensor, target: KvTarget) -> Tensor:
    """All that a launch wrote."""
    return torch.cat(
        [query.float().flatten(), target.key_pages.float().flatten(), target.value_pages.float().flatten()]
    )


def _sets(size: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> list[Tensor]:
    """As many random inputs as the cache does not hold at once."""
    generator = torch.Generator(device=device).manual_seed(0)
    bytes_each = torch.Size(size).numel() * dtype.itemsize
    return [
        torch.randn(size, device=device, generator=generator).to(dtype)
        for _ in range(copies_for(2 * bytes_each))
    ]
