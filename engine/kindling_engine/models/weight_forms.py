"""The forms that weights can take in memory, and what makes layers of them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from kindling_engine.layers.embedding import Embedding, Table
from kindling_engine.layers.invariant import TiledLinear
from kindling_engine.layers.linear import Linear, Projection
from kindling_engine.layers.linear_compact import LARGEST_HALF, CompactLinear, CompactRows, CompactTable
from kindling_engine.models.errors import ModelError
from kindling_engine.protocol.weight_forms import CHECKPOINT, FP8, HALF, INT8, WEIGHT_FORMS


@dataclass(frozen=True, slots=True)
class WeightForm:
    """``linear`` makes a projection of a weight ``[out, in]`` and a bias.

    ``table`` makes, of a weight in any dtype, one to look tokens up in as those of another.
    """

    name: str
    linear: Callable[[Tensor, Tensor | None], Projection]
    table: Callable[[Tensor, torch.dtype], Table]

    def revision(self, revision: str) -> str:
        """What names the weights of a checkpoint in this form: no cache may take one form's for another's."""
        return revision if self.name == CHECKPOINT else f"{revision}\0{self.name}"


PLAIN = WeightForm(CHECKPOINT, Linear, Embedding)
TILED = WeightForm(CHECKPOINT, TiledLinear, partial(Embedding, make_head=TiledLinear))
"""Of the batch-invariant mode."""


def weight_form(name: str, device: torch.device) -> WeightForm:
    """The form of a name. Raises ModelError ``unsupported_weights`` where it cannot be."""
    if name not in WEIGHT_FORMS:
        raise ModelError(
            "unsupported_weights",
            f"There is no form of weights {name!r}; there are {', '.join(WEIGHT_FORMS)}.",
        )
    if name == CHECKPOINT:
        return PLAIN
    if name == FP8:
        return _fp8_form(device)
    if device.type != "cpu":
        raise ModelError(
            "unsupported_weights",
            f"Weights as {name} are for a CPU, and this is {device.type}; start with --device cpu, or without "
            "--weights.",
        )
    rows = _int8_rows if name == INT8 else _half_rows
    return WeightForm(
        name,
        lambda weight, bias: CompactLinear(rows(weight), bias),
        lambda weight, _: CompactTable(rows(weight)),
    )


def _fp8_form(device: torch.device) -> WeightForm:
    """Projections in e4m3 but for those whose sizes the device has no product for; embedding and head stay as they are,
    as nothing behind the head could mend its rounding.
    """
    if device.type == "cuda":
        try:
            from kindling_engine.kernels.fp8_linear import Fp8Linear, fp8_supported
        except ModuleNotFoundError as error:
            if error.name != "triton":
                raise
        else:
            if fp8_supported(device):
                return WeightForm(
                    FP8,
                    lambda weight, bias: (
                        Fp8Linear(weight, bias)
                        if weight.shape[0] % 16 == 0 and weight.shape[1] % 16 == 0
                        else Linear(weight, bias)
                    ),
                    Embedding,
                )
    raise ModelError(
        "unsupported_weights",
        f"Weights as {FP8} need a GPU of compute capability 9.0 and triton, which this {device.type} device has not; "
        "start without --weights.",
    )


def form_check(form: WeightForm, architecture: str, *, decoder: bool, batch_invariant: bool) -> None:
    """Refuse a form for a model without a ``decoder`` of ours, and together with the batch-invariant mode.

    Raises ModelError ``unsupported_weights``.
    """
    if form.name == CHECKPOINT:
        return
    if not decoder:
        raise ModelError(
            "unsupported_weights",
            f"{architecture} is served through transformers' own modules, which keep their weights as the checkpoint "
            f"has them; start without --weights {form.name}.",
        )
    if batch_invariant:
        raise ModelError(
            "unsupported_weights",
            f"The batch-invariant mode is for weights as the checkpoint has them, not for {form.name}; start without "
            "one of the two.",
        )


def _half_rows(weight: Tensor) -> CompactRows:
    _finite_check(weight, HALF)
    largest = float(weight.abs().max()) if weight.numel() else 0.0
    if largest > LARGEST_HALF:
        raise ModelError(
            "unsupported_weights",
            f"The checkpoint has a weight of {largest:.3g}, and {HALF} ends at {LARGEST_HALF:,.0f}; start without "
            "--weights.",
        )
    return CompactRows.half(weight)


def _int8_rows(weight: Tensor) -> CompactRows:
    _finite_check(weight, INT8)
    return CompactRows.int8(weight.float())


def _finite_check(weight: Tensor, name: str) -> None:
    """One infinite weight would make its whole row of int8 zero."""
    if not weight.isfinite().all():
        raise ModelError(
            "unsupported_weights",
            f"The checkpoint has weights that are not finite, which cannot be kept as {name}.",
        )
