"""The choices of configurations that a model's steps depend on, those first that cost its steps most."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from kindling_engine.kernels.paged_inputs import Shape
from kindling_engine.kernels.trials_attention import decode_trial, prefill_trial
from kindling_engine.kernels.trials_experts import experts_trial
from kindling_engine.kernels.trials_lora import EXPAND_LOADS, SHRINK_LOADS, expand_trial, shrink_trial
from kindling_engine.kernels.trials_rows import gate_trial, norm_trial, quantise_trial, rope_trial
from kindling_engine.kernels.tune import Trial
from kindling_engine.kernels.tuning import size_class
from kindling_engine.layers.attention_paged import splits_for
from kindling_engine.layers.attention_spec import AttentionSpec
from kindling_engine.layers.mlp import activation_find, activation_name
from kindling_engine.layers.moe import GroupedExperts
from kindling_engine.layers.row_kernels_cuda import LARGEST_ROW
from kindling_engine.lora.slabs import DeviceSlabs
from kindling_engine.models.decoder import Decoder
from kindling_engine.protocol.weight_forms import FP8

_BATCHES = (32, 1, 256)
"""Of each class of decodes the one that is measured: what several users make, one of them, and all there is."""
_ROWS = (*_BATCHES, 2048)
"""Likewise of steps, which may have prompts in them."""


@dataclass(frozen=True, slots=True)
class _Place:
    model: Decoder
    page_dtype: torch.dtype
    batches: tuple[int, ...]
    max_length: int


def decoder_trials(
    model: Decoder,
    *,
    page_dtype: torch.dtype,
    max_batch: int,
    max_length: int,
    slabs: DeviceSlabs | None,
    budget_bytes: int,
) -> Iterator[Trial]:
    """For batches up to ``max_batch`` of requests up to ``max_length``, on at most ``budget_bytes`` of K and V."""
    by_class = {size_class(min(batch, max_batch)): min(batch, max_batch) for batch in _BATCHES}
    place = _Place(model, page_dtype, tuple(by_class.values()), max_length)
    if model.paged is not None:
        yield from _decodes(place, budget_bytes)
    yield from _mixtures(place)
    if model.paged is not None:
        yield from _prefills(place)
    yield from _rows(place)
    if slabs is not None:
        yield from _adapters(slabs, model.dtype)


def _decodes(place: _Place, budget_bytes: int) -> Iterator[Trial]:
    for requests in place.batches:
        for spec in _specs(place.model):
            yield decode_trial(
                _shape(place.model),
                spec,
                requests=requests,
                max_splits=splits_for(place.max_length),
                max_length=place.max_length,
                dtype=place.model.dtype,
                page_dtype=place.page_dtype,
                device=place.model.device,
                budget_bytes=budget_bytes,
            )


def _mixtures(place: _Place) -> Iterator[Trial]:
    mixture = place.model.mixture
    if mixture is None or not isinstance(mixture.experts, GroupedExperts):
        return
    experts = mixture.experts
    kind = activation_name(experts.activation)
    if kind is None:
        return
    for rows in _ROWS:
        yield experts_trial(
            rows,
            experts.gate_up,
            experts.down,
            kind=kind,
            top_k=mixture.top_k,
            normalised=mixture.normalised,
            biases=experts.biases,
        )


def _prefills(place: _Place) -> Iterator[Trial]:
    for spec in _specs(place.model):
        yield prefill_trial(
            _shape(place.model),
            spec,
            max_length=place.max_length,
            dtype=place.model.dtype,
            page_dtype=place.page_dtype,
            device=place.model.device,
        )


def _rows(place: _Place) -> Iterator[Trial]:
    model, config = place.model, place.model.config
    dtype, device = model.dtype, model.device
    weight_dtype = torch.float32 if config.centered_norms else dtype
    kind = activation_name(activation_find(config.activation))
    inners = {config.intermediate_size} if any(not layer.sparse for layer in config.layers) else set()
    if config.experts is not None:
        inners.add(config.experts.intermediate_size)
    for rows in _ROWS:
        if config.hidden_size <= LARGEST_ROW:
            for adds in (True, False):
                yield norm_trial(
                    rows, config.hidden_size, adds=adds, dtype=dtype, weight_dtype=weight_dtype, device=device
                )
        for inner in sorted(inners):
            if kind is not None and inner <= LARGEST_ROW:
                yield gate_trial(rows, inner, kind, dtype=dtype, device=device)
        if model.paged is not None:
            yield from _rotations(place, rows)
        if model.weight_form == FP8:
            for width in sorted(
                {config.hidden_size, config.num_heads * config.head_dim, config.intermediate_size}
            ):
                yield quantise_trial(rows, width, dtype=dtype, device=device)


def _rotations(place: _Place, rows: int) -> Iterator[Trial]:
    config = place.model.config
    used = [layer.rotary for layer in config.layers]
    by_size = {config.rotaries[index].dim: config.rotaries[index] for index in used if index is not None}
    for rotary in (*by_size.values(), *((None,) if None in used else ())):
        yield rope_trial(
            rows,
            heads=config.num_heads,
            kv_heads=config.num_kv_heads,
            head_dim=config.head_dim,
            rotary=rotary,
            normed=config.qk_norm,
            dtype=place.model.dtype,
            page_dtype=place.page_dtype,
            device=place.model.device,
        )


def _adapters(slabs: DeviceSlabs, dtype: torch.dtype) -> Iterator[Trial]:
    shapes = list(dict.fromkeys(shape for shape in slabs.shapes if shape.widths))
    # A's choice comes before B's, which reads as many parts as it leaves.
    for loads in SHRINK_LOADS:
        for shape in {shape.in_features: shape for shape in shapes}.values():
            yield shrink_trial(shape, loads, dtype=dtype, device=slabs.device)
    for loads in EXPAND_LOADS:
        for shape in shapes:
            yield expand_trial(shape, loads, dtype=dtype, device=slabs.device)


def _shape(model: Decoder) -> Shape:
    config = model.config
    return Shape(config.num_heads, config.num_kv_heads, config.head_dim)


def _specs(model: Decoder) -> list[AttentionSpec]:
    """One for each kind of layer."""
    config = model.config
    windows = dict.fromkeys(layer.window for layer in config.layers)
    return [AttentionSpec(config.attention_scale, window, config.attention_softcap) for window in windows]
