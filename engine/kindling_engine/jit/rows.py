"""What a decoder does to fp32 rows between its products, by code compiled for this processor."""

import ctypes
import logging
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from kindling_engine.layers.row_kernels import ActivationName

_log = logging.getLogger(__name__)
_CHECK_ROWS, _CHECK_SIZE, _CHECK_EPSILON = 3, 48, 1e-5


class RowKernels:
    """A row's result depends on that row alone."""

    activations: frozenset[ActivationName] = frozenset({"silu"})

    def __init__(self) -> None:
        """Raises ImportError without llvmlite, RuntimeError and OSError where no code can be made here."""
        from kindling_engine.jit.compiling import code_load, processor_here

        processor = processor_here()
        self.width = processor.width
        self._code = code_load("rows", processor, processor.width)
        integer, pointer = ctypes.c_int64, ctypes.c_void_p
        norm = [pointer, integer, pointer, pointer, integer, integer, ctypes.c_float]
        self._norm = ctypes.CFUNCTYPE(None, *norm)(self._code.address("norm"))
        added = [pointer, integer, pointer, *norm[2:]]
        self._norm_of_sum = ctypes.CFUNCTYPE(None, *added)(self._code.address("norm_of_sum"))
        gate = [pointer, integer, pointer, integer, integer]
        self._gate = ctypes.CFUNCTYPE(None, *gate)(self._code.address("gate"))

    def address(self, name: str) -> int:
        """Of the code of ``norm``, ``norm_of_sum`` or ``gate``."""
        return self._code.address(name)

    def fits(self, x: Tensor, size: int) -> bool:
        """Whether ``x [n, …]`` is rows of fp32 in this machine's memory that divide into ``size``, and vectors."""
        return (
            x.dim() == 2
            and x.dtype == torch.float32
            and x.device.type == "cpu"
            and x.stride(1) == 1
            and size % self.width == 0
        )

    def norm(self, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        """``x / rms(x) · w`` for ``x [n, size]``, ``w [size]``."""
        rows, size = x.shape
        y = torch.empty((rows, size))
        self._norm(x.data_ptr(), x.stride(0), weight.data_ptr(), y.data_ptr(), rows, size, epsilon)
        return y

    def norm_of_sum(self, residual: Tensor, added: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        """The norm of ``residual + added``, both ``[n, size]`` without gaps; the sum stays in ``residual``."""
        rows, size = residual.shape
        y = torch.empty((rows, size))
        self._norm_of_sum(
            residual.data_ptr(), size, added.data_ptr(), weight.data_ptr(), y.data_ptr(), rows, size, epsilon
        )
        return y

    def gate(self, gate_up: Tensor, activation: ActivationName) -> Tensor:
        """``silu(g) ⊙ u`` for ``[n, 2 · inner]`` that holds g, then u."""
        rows, both = gate_up.shape
        y = torch.empty((rows, both // 2))
        self._gate(gate_up.data_ptr(), gate_up.stride(0), y.data_ptr(), rows, both // 2)
        return y


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
    random = torch.Generator().manual_seed(0)
    x = 20 * torch.randn((_CHECK_ROWS, _CHECK_SIZE), generator=random)
    weight = torch.randn(_CHECK_SIZE, generator=random)
    normed = torch.rms_norm(x, (_CHECK_SIZE,), weight, _CHECK_EPSILON)
    half = x / 2
    normed_sum = kernels.norm_of_sum(half, x / 2, weight, _CHECK_EPSILON)
    left, right = x.chunk(2, dim=-1)
    gated = kernels.gate(x[:, : _CHECK_SIZE // 16 * 16], "silu")
    return (
        torch.equal(half, x)
        and all(
            torch.allclose(found, normed, rtol=1e-5)
            for found in (normed_sum, kernels.norm(x, weight, _CHECK_EPSILON))
        )
        and torch.allclose(gated, F.silu(left) * right, rtol=1e-4, atol=1e-6)
    )
