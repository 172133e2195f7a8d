"""Reads the matrices of one adapted module at a time, with every scale folded in."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kindling_engine.lora.dora import dora_gain, dora_table_gain
from kindling_engine.lora.errors import AdapterError
from kindling_engine.lora.sites import BaseWeights
from kindling_engine.protocol.adapter_parts import TABLE, Part
from kindling_engine.protocol.adapter_rules import ModuleRules

# Between fp32, bf16 and fp16 a weight moves by half a unit in the last place of bf16.
_ROUNDING, _TINY = 2.0**-8, 1e-7


@dataclass(frozen=True, slots=True)
class Factors:
    """A ``[r, in]`` as stored and B ``[out, r]`` in fp32 with the scale, and with DoRA the gain, folded in.

    With DoRA ``gain [out]``, and ``offset [out]`` for a base with a bias.
    """

    a: Tensor
    b: Tensor
    gain: Tensor | None = None
    offset: Tensor | None = None


class FactorReader:
    """Over an open safetensors file whose names and shapes have been checked; counts the parts whose B is zero."""

    def __init__(
        self, handle: Any, rules: ModuleRules, base: BaseWeights | None, device: torch.device
    ) -> None:
        """``device`` is where the rows of ``base`` are."""
        self._device = device
        self._handle = handle
        self._rules = rules
        self._base = base
        self.zero = 0

    def read(self, part: Part) -> Factors:
        """Raises AdapterError for values that are not finite, and for a base that is not the one trained on."""
        a, b = self._finite(part.a, part), self._finite(part.b, part)
        self.zero += not bool(b.any())
        if part.base is not None:
            self._base_compare(part.base, part)
        b = b.float() * self._rules.scale(part.path, part.rank)
        if part.magnitude is None:
            return Factors(a, b)
        base = self._base_needed(part)
        make = dora_table_gain if part.kind == TABLE else dora_gain
        b = b.to(self._device)
        magnitude = self._finite(part.magnitude, part).to(self._device).float()
        gain = make(magnitude, base.rows(part.path), a.to(self._device).float(), b, part.path)
        bias = None if part.kind == TABLE else base.bias(part.path)
        return Factors(a, b * gain[:, None], gain, None if bias is None else (1 - gain) * bias)

    def _finite(self, name: str, part: Part) -> Tensor:
        tensor: Tensor = self._handle.get_tensor(name)
        if not bool(tensor.isfinite().all()):
            raise AdapterError(
                "values",
                f"The weights of {part.path} contain NaN or infinity.",
                "The training diverged: train again with a lower learning rate, or upload an earlier checkpoint.",
            )
        return tensor

    def _base_compare(self, name: str, part: Part) -> None:
        """PEFT saves a copy of the base's weight beside an adapted table or head; it has to be the base's."""
        stored, first = self._handle.get_slice(name), 0
        for rows in self._base_needed(part).rows(part.path):
            last = first + rows.shape[0]
            difference = (stored[first:last].to(rows.device).float() - rows).abs_()
            if not bool((difference <= rows.abs() * _ROUNDING + _TINY).all()):
                raise AdapterError(
                    "base_model",
                    f"The base's own weight beside the adapter of {part.path} is not that of this base: it was "
                    "trained along, or belongs to another base.",
                    "Choose the base model that the adapter was trained on, and train LoRA matrices only.",
                )
            first = last

    def _base_needed(self, part: Part) -> BaseWeights:
        if self._base is None:
            raise AdapterError(
                "base_model",
                f"The adapter of {part.path} wants weights of the base, which are not at hand here.",
                "Train without DoRA, and save with save_embedding_layers=False.",
            )
        return self._base
