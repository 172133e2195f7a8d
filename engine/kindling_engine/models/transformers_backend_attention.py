"""Our paged attention as one of transformers' attention functions.

transformers' modules call the function named in their configuration with queries, keys and values after rotation.
Which step that call belongs to is not among its arguments, so a model's forward pass announces it first.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch.nn.functional as F
from torch import Tensor, nn

from kindling_engine.layers.attention import AttentionFunction, AttentionInputs, AttentionSpec, LayerCache

NAME = "kindling"


class AttentionStep(Protocol):
    """What takes the attention calls of one forward pass, in the order of the layers."""

    def attend(
        self, module: nn.Module, query: Tensor, key: Tensor, value: Tensor, options: dict[str, Any]
    ) -> Tensor:
        """``query [1, heads, n, d]``, ``key`` and ``value [1, kv_heads, n, d]``; gives ``[1, n, heads, d]``."""


class PagedStep:
    """One step over paged KV: the call's number is its layer.

    Pages are as wide as the widest keys or values of any layer; narrower ones are filled up with zeros, which change
    no score and are cut off behind.
    """

    def __init__(
        self,
        inputs: AttentionInputs,
        caches: list[LayerCache],
        specs: list[AttentionSpec],
        attention: AttentionFunction,
    ) -> None:
        self._inputs = inputs
        self._caches = caches
        self._specs = specs
        self._attention = attention
        self._layer = 0

    def attend(
        self, module: nn.Module, query: Tensor, key: Tensor, value: Tensor, options: dict[str, Any]
    ) -> Tensor:
        layer, self._layer = self._layer, self._layer + 1
        cache = self._caches[layer]
        width = cache.key_pages.shape[-1]
        attended = self._attention(
            _rows(query, width),
            _rows(key, width),
            _rows(value, width),
            cache,
            self._inputs,
            self._specs[layer],
        )
        return attended.view(1, query.shape[2], query.shape[1], width)[..., : value.shape[-1]]


def _rows(states: Tensor, width: int) -> Tensor:
    """``[1, heads, n, d]`` as ``[n, heads, width]``."""
    rows = states[0].transpose(0, 1)
    return rows.contiguous() if rows.shape[-1] == width else F.pad(rows, (0, width - rows.shape[-1]))


def attention_register() -> None:
    """Make ``attn_implementation="kindling"`` known to transformers; safe to repeat.

    No mask function goes with it: transformers then builds none, as the step knows who sees whom.
    """
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, attention_forward)


def attention_use(causal: Any, *names: str) -> None:
    """Have a model call the first of these functions that it can; one whose attention is all its own has no choice."""
    if not getattr(causal, "_can_set_attn_implementation", lambda: True)():
        return
    for name in names:
        try:
            causal.set_attn_implementation(name)
        except (ValueError, ImportError):
            continue
        return


def attention_leave(causal: Any) -> None:
    """Have a model use transformers' attention alone, the faster where there are two."""
    attention_use(causal, "sdpa", "eager")
    for module in causal.modules():
        config: Any = getattr(module, "config", None)
        # Attention that is all its own, with masks that are made by this name: it must be one that they know.
        if getattr(config, "_attn_implementation", None) == NAME:
            config._attn_implementation = "eager"


@contextmanager
def step_announced(step: AttentionStep) -> Iterator[None]:
    """Give the attention calls of this thread to ``step``."""
    before = getattr(_current, "step", None)
    _current.step = step
    try:
        yield
    finally:
        _current.step = before


def attention_forward(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """The function that transformers calls, with its signature."""
    step: AttentionStep | None = getattr(_current, "step", None)
    if step is None:
        raise RuntimeError("kindling attention was called outside of a step")
    return step.attend(module, query, key, value, {**options, "attention_mask": attention_mask}), None


_current = threading.local()
