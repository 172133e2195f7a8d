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
    "position_bias": "a position bias on its attention scores",
    "indices": "sparse attention",
    "block_indices": "sparse attention",
}


class Observation:
    """Notes each call and answers it with plain causal attention, so that the pass can go on."""

    def __init__(self) -> None:
        self.specs: list[AttentionSpec] = []
        self.kv_heads: list[int] = []
        self.width = 0
        self.context_limit: int | None = None
        # By where a marker lies in memory: a model may cut it to the rows that it wants.
        self.windows: dict[int, int | None] = {}
        self._markers: list[Tensor] = []

    def attend(
        self, module: nn.Module, query: Tensor, key: Tensor, value: Tensor, options: dict[str, Any]
    ) -> Tensor:
        self.kv_heads.append(key.shape[1])
        self.width = max(self.width, key.shape[-1], value.shape[-1])
        self._options_check(module, options)
        scale = options.get("scaling")
        spec = AttentionSpec(
            scale=float(query.shape[-1] ** -0.5 if scale is None else scale),
            window=self._window(options),
            softcap=None if options.get("softcap") is None else float(options["softcap"]),
            sinks=_sinks(options, query.shape[1]),
        )
        if spec.sinks is not None and spec.softcap is not None:
            raise _refused("attention sinks beside a soft cap")
        self.specs.append(spec)
        attended = F.scaled_dot_product_attention(
            query, key, value, is_causal=True, scale=spec.scale, enable_gqa=query.shape[1] != key.shape[1]
        )
        return attended.transpose(1, 2)

    def mask(self, **options: Any) -> Tensor:
        """Stands in for transformers' mask builder: a marker that leads back to the window it was asked for."""
        window = options.get("local_size")
        # Some ask for the mask of a window of no tokens, and give it to no layer.
        if window and _is_causal_chunk(options["mask_function"], int(window)):
            # Within its first chunk it sees all that is before it, and there the context ends.
            self.context_limit = min(self.context_limit or int(window), int(window))
            window = None
        elif not _is_causal_window(options["mask_function"], window):
            raise _refused("an attention mask that is neither causal nor a sliding window")
        marker = torch.zeros((1, 1, int(options["q_length"]), int(options["kv_length"])))
        self._markers.append(marker)
        self.windows[marker.untyped_storage().data_ptr()] = None if window is None else int(window)
        return marker

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
        marker = mask.untyped_storage().data_ptr() if isinstance(mask, Tensor) else None
        if marker not in self.windows:
            raise _refused("an attention mask of its own making")
        window = self.windows[marker]
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


def _sinks(options: dict[str, Any], heads: int) -> Tensor | None:
    """The scores that a layer passes on, one for each of its query heads."""
    sinks = options.get("s_aux") if options.get("sinks") is None else options["sinks"]
    if sinks is None:
        return None
    if not isinstance(sinks, Tensor) or sinks.shape != (heads,):
        raise _refused("attention sinks of another form than one for each head")
    return sinks.detach().float()


def _is_causal_chunk(allowed: Callable[..., Any], size: int) -> bool:
    """Whether ``allowed(batch, head, query, key)`` is causal within chunks of a size, tried around their borders."""
    zero = torch.tensor(0)
    near = sorted({max(0, size * chunk + step) for chunk in range(3) for step in (-1, 0, 1)})
    return all(
        bool(allowed(zero, zero, torch.tensor(query), torch.tensor(key)))
        == (key <= query and key // size == query // size)
        for query in near
        for key in near
    )


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
