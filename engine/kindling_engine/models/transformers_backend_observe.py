"""Watches one short forward pass of a transformers model to learn what its attention is like, layer by layer.

Nothing is taken from names in a configuration: the widths, scales, windows and soft caps are those that the
modules pass on. What paged attention cannot do is refused here, with the cause.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kindling_engine.layers.attention import AttentionSpec
from kindling_engine.models.errors import ModelError
from kindling_engine.models.transformers_backend_attention import NAME

_REFUSED_OPTIONS = {
    "s_aux": "attention sinks",
    "sinks": "attention sinks",
    "position_bias": "a position bias on its attention scores",
    "indices": "sparse attention",
    "block_indices": "sparse attention",
}


class Observation:
    """Notes each call and answers it with plain causal attention, so that the pass can go on."""

    def __init__(self) -> None:
        self.specs: list[AttentionSpec] = []
        self.kv_heads = 0
        self.head_dim = 0
        self.windows: dict[int, int | None] = {}
        self._markers: list[Tensor] = []

    def attend(
        self, module: nn.Module, query: Tensor, key: Tensor, value: Tensor, options: dict[str, Any]
    ) -> Tensor:
        self._shape_note(key, value)
        self._options_check(module, options)
        scale = options.get("scaling")
        spec = AttentionSpec(
            scale=float(query.shape[-1] ** -0.5 if scale is None else scale),
            window=self._window(options),
            softcap=None if options.get("softcap") is None else float(options["softcap"]),
        )
        self.specs.append(spec)
        attended = F.scaled_dot_product_attention(
            query, key, value, is_causal=True, scale=spec.scale, enable_gqa=query.shape[1] != key.shape[1]
        )
        return attended.transpose(1, 2)

    def mask(self, **options: Any) -> Tensor:
        """Stands in for transformers' mask builder: a marker that leads back to the window it was asked for."""
        window = options.get("local_size")
        if not _is_causal_window(options["mask_function"], window):
            raise _refused("an attention mask that is neither causal nor a sliding window")
        marker = torch.zeros((1, 1, int(options["q_length"]), int(options["kv_length"])))
        self._markers.append(marker)
        self.windows[id(marker)] = None if window is None else int(window)
        return marker

    def _shape_note(self, key: Tensor, value: Tensor) -> None:
        if key.shape[-1] != value.shape[-1]:
            raise _refused(
                f"keys of width {key.shape[-1]} and values of width {value.shape[-1]} (latent attention, MLA)"
            )
        shape = (key.shape[1], key.shape[3])
        if self.specs and shape != (self.kv_heads, self.head_dim):
            raise _refused("another number or width of KV heads from layer to layer")
        self.kv_heads, self.head_dim = shape

    def _options_check(self, module: nn.Module, options: dict[str, Any]) -> None:
        for name, what in _REFUSED_OPTIONS.items():
            if options.get(name) is not None:
                raise _refused(what)
        causal = options.get("is_causal")
        if causal is False or (causal is None and getattr(module, "is_causal", True) is False):
            raise _refused("attention that is not causal")

    def _window(self, options: dict[str, Any]) -> int | None:
        mask = options.get("attention_mask")
        passed = options.get("sliding_window")
        if mask is None:
            return None if passed is None else int(passed)
        if id(mask) not in self.windows:
            raise _refused("an attention mask of its own making")
        window = self.windows[id(mask)]
        if window is not None and passed is not None and int(passed) != window:
            raise _refused("two sliding windows in one layer")
        return window


@contextmanager
def observing(observation: Observation) -> Iterator[None]:
    """Have transformers ask the observation for masks, which it otherwise would not build."""
    from transformers import AttentionMaskInterface

    known: dict[str, Callable[..., Any]] = AttentionMaskInterface._global_mapping
    AttentionMaskInterface.register(NAME, observation.mask)
    try:
        yield
    finally:
        known.pop(NAME, None)


def _is_causal_window(allowed: Callable[..., Any], window: int | None) -> bool:
    """Whether ``allowed(batch, head, query, key)`` is causal with a window, tried at the places that tell."""
    span = 1_000_003 if window is None else int(window)
    zero = torch.tensor(0)
    for query in (0, 1, span // 2, span - 1, span, span + 5, 2 * span + 3):
        for key in {0, query - span - 1, query - span, query - span + 1, query - 1, query, query + 1}:
            if key < 0:
                continue
            expected = key <= query and (window is None or key > query - span)
            if bool(allowed(zero, zero, torch.tensor(query), torch.tensor(key))) != expected:
                return False
    return True


def _refused(what: str) -> ModelError:
    return ModelError("unsupported_model", f"The model has {what}, which is not served.")
