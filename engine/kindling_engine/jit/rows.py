"""What a decoder does to fp32 rows between its products, by code compiled for this processor."""

import ctypes
import logging
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from kindling_engine.jit.operations import GATE_CODE, NORM_CODE, NORM_OF_SUM_CODE
from kindling_engine.layers.row_kernels import ActivationName

if TYPE_CHECKING:
    from kindling_engine.jit.compiling import Processor

_log = logging.getLogger(__name__)
_CHECK_ROWS, _CHECK_SIZES, _CHECK_EPSILON = 3, (40, 48), 1e-5


class _Code:
    """For vectors of one width."""

    def __init__(self, processor: "Processor", width: int) -> None:
        from kindling_engine.jit.compiling import code_load

        self._code = code_load("rows", processor, width)
        self.address = self._code.address
        integer, pointer = ctypes.c_int64, ctypes.c_void_p
        norm = [pointer, integer, pointer, pointer, integer, integer, ctypes.c_float]
        self.norm = ctypes.CFUNCTYPE(None, *norm)(self.address(NORM_CODE))
        added = [pointer, integer, pointer, *norm[2:]]
        self.norm_of_sum = ctypes.CFUNCTYPE(None, *added)(self.address(NORM_OF_SUM_CODE))
        gate = [pointer, integer, pointer, integer, integer]
        self.gate = ctypes.CFUNCTYPE(None, *gate)(self.address(GATE_CODE))


class RowKernels:
    """A row's result depends on that row alone."""

    activations: frozenset[ActivationName] = frozenset({"silu"})

    def __init__(self) -> None:
        """Raises ImportError without llvmlite, RuntimeError and OSError where no code can be made here."""
        from kindling_engine.jit.compiling import processor_here

        self._processor = processor_here()
        self._codes = {width: _Code(self._processor, width) for width in self._processor.widths}

    def address(self, name: str, size: int) -> int:
        """Of the code of NORM_CODE, NORM_OF_SUM_CODE or GATE_CODE for what ``fits``."""
        return self._code(size).address(name)

    def fits(self, x: Tensor, size: int) -> bool:
        """Whether ``x [n, …]`` is rows of fp32 in this machine's memory that divide into ``size``, and vectors."""
        return (
            x.dim() == 2
            and x.dtype == torch.float32
            and x.device.type == "cpu"
            and x.stride(1) == 1
            and self._processor.width_of(size) is not None
        )

    def norm(self, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        """``x / rms(x) · w`` for ``x [n, size]``, ``w [size]``."""
        rows, size = x.shape
        y = torch.empty((rows, size))
        self._code(size).norm(x.data_ptr(), x.stride(0), weight.data_ptr(), y.data_ptr(), rows, size, epsilon)
        return y

    def norm_of_sum(self, residual: Tensor, added: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        """The norm of ``residual + added``, both ``[n, size]`` without gaps; the sum stays in ``residual``."""
        rows, size = residual.shape
        y = torch.empty((rows, size))
        self._code(size).norm_of_sum(
            residual.data_ptr(), size, added.data_ptr(), weight.data_ptr(), y.data_ptr(), rows, size, epsilon
        )
        return y

    def gate(self, gate_up: Tensor, activation: ActivationName) -> Tensor:
        """``silu(g) ⊙ u`` for ``[n, 2 · inner]`` that holds g, then u."""
        rows, both = gate_up.shape
        size = both // 2
        y = torch.empty((rows, size))
        self._code(size).gate(gate_up.data_ptr(), gate_up.stride(0), y.data_ptr(), rows, size)
        return y

    def _code(self, size: int) -> _Code:
        width = self._processor.width_of(size)
        if width is None:
            raise ValueError(f"rows of {size} do not divide into vectors")
        return self._codes[width]


@lru_cache(maxsize=1)
def row_kernels() -> RowKernels | None:
    """Those of this process; None where there is no code for this processor, or wrong code."""
    try:
        kernels = RowKernels()
    except (ImportError, OSError, RuntimeError) as error:
        _log.info("norms and gates go through torch: %s", error)
        return None
    if not _right(kernels):
        _log.warning("compiled norms or gates are wrong on this processor; they go through torch")
        return None
    return kernels


def _right(kernels: RowKernels) -> bool:
    return all(_right_for(kernels, size) for size in _CHECK_SIZES)


def _right_for(kernels: RowKernels, size: int) -> bool:
    random = torch.Generator().manual_seed(0)
    x = 20 * torch.randn((_CHECK_ROWS, size), generator=random)
    weight = torch.randn(size, generator=random)
    normed = torch.rms_norm(x, (size,), weight, _CHECK_EPSILON)
    half = x / 2
    normed_sum = kernels.norm_of_sum(half, x / 2, weight, _CHECK_EPSILON)
    both = torch.cat((x, x.flip(0)), dim=1)
    return (
        torch.equal(half, x)
        and all(
            torch.allclose(found, normed, rtol=1e-5)
            for found in (normed_sum, kernels.norm(x, weight, _CHECK_EPSILON))
        )
        and torch.allclose(kernels.gate(both, "silu"), F.silu(x) * x.flip(0), rtol=1e-4, atol=1e-6)
    )
