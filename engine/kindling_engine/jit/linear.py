"""Products of fp32 rows with packed matrices, by code compiled for this processor.

A matrix that loses nothing in bf16, as those of most checkpoints, lies as bf16 and is widened in registers: half the
memory and up to twice the speed for few rows, and the same bits.
"""

import ctypes
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
from torch import Tensor

_log = logging.getLogger(__name__)

_CACHE_BYTES = 256 << 10
"""A share of the second-level cache, for a block of rows and for a group of panels alike."""
_TILE_ROWS = 6
_LEAST_BLOCK_ROWS = 12
_GROUP_PANELS = 4
_TILE_PANELS = 2
_ALONE_BELOW = 1 << 17
"""Products; fewer are done before a second thread has woken."""
_ROWS_AT_ONCE = 1024
_CHECK_ROWS = (1, 2, 3, 4, 5, 6, 7, 8, 13, 30)
_CHECK_PANELS = 11
_CHECK_INPUTS = 38


@dataclass(frozen=True, slots=True)
class Product:
    """Code for matrices of one kind: a call with a team of its own, and the address of a team's part."""

    call: Callable[..., None]
    share: int


class _Matrix(ctypes.Structure):
    _fields_ = [
        ("weights", ctypes.c_void_p),
        ("bias", ctypes.c_void_p),
        ("inputs", ctypes.c_int64),
        ("outputs", ctypes.c_int64),
        ("block_rows", ctypes.c_int64),
        ("group_panels", ctypes.c_int64),
    ]


class PackedLinear:
    """``y = x·Wᵀ + b`` for fp32 ``x [n, in]``, giving ``[n, out]``.

    A row has the same bits whatever rows stand beside it, on any number of threads.
    """

    __slots__ = ("_bias", "_call", "_matrix", "_panels", "_width", "address", "inputs", "outputs", "share")

    def __init__(
        self, product: Product, width: int, weight: Tensor, bias: Tensor | None, dtype: torch.dtype
    ) -> None:
        """Packs ``weight [out, in]`` as ``dtype``; ``out`` divides by ``width``, and ``in`` is even."""
        self._call, self.share = product.call, product.share
        self._width = width
        self.outputs, self.inputs = weight.shape
        self._panels = torch.empty((self.outputs // width, self.inputs, width), dtype=dtype)
        self._panels.copy_(weight.reshape(-1, width, self.inputs).transpose(1, 2))
        self._bias = torch.zeros(self.outputs) if bias is None else bias.contiguous()
        fitting = _CACHE_BYTES // (dtype.itemsize * width * self.inputs) // _TILE_PANELS * _TILE_PANELS
        self._matrix = _Matrix(
            self._panels.data_ptr(),
            self._bias.data_ptr(),
            self.inputs,
            self.outputs,
            max(_LEAST_BLOCK_ROWS, _CACHE_BYTES // (4 * self.inputs) // _TILE_ROWS * _TILE_ROWS),
            max(_TILE_PANELS, min(_GROUP_PANELS, fitting)),
        )
        self.address = ctypes.addressof(self._matrix)

    def __call__(self, x: Tensor) -> Tensor:
        stride, step = x.stride()
        if step != 1:
            x = x.contiguous()
            stride = self.inputs
        rows = x.shape[0]
        y = torch.empty((rows, self.outputs))
        alone = rows * self.inputs * self.outputs < _ALONE_BELOW
        threads = 1 if alone else torch.get_num_threads()
        self._call(self.address, x.data_ptr(), stride, y.data_ptr(), rows, threads)
        return y

    def rows(self, indices: Tensor) -> Tensor:
        """Rows ``[n, in]`` of W, as fp32."""
        return self._panels[indices // self._width, :, indices % self._width].float()

    @property
    def weight_bytes(self) -> int:
        return self._panels.nbytes


class LinearKernel:
    """Packs matrices for the code that it holds; that for bf16 is made when the first such matrix comes."""

    def __init__(self) -> None:
        """Raises ImportError without llvmlite, RuntimeError and OSError where no right code can be made here."""
        from kindling_engine.jit.compiling import Code, processor_here

        self._processor = processor_here()
        self._codes: list[Code] = []
        self.width = self._processor.width
        self._wide_product = self._product_make(torch.float32)

    def fits(self, weight: Tensor) -> bool:
        """Whether ``weight [out, in]`` has sizes that can be packed."""
        outputs, inputs = weight.shape
        return outputs % self.width == 0 and inputs % 2 == 0 and weight.numel() > 0

    def pack(self, weight: Tensor, bias: Tensor | None = None) -> PackedLinear:
        product = self._narrow_product if _narrow(weight) else None
        if product is None:
            return PackedLinear(self._wide_product, self.width, weight, bias, torch.float32)
        return PackedLinear(product, self.width, weight, bias, torch.bfloat16)

    @cached_property
    def _narrow_product(self) -> Product | None:
        try:
            return self._product_make(torch.bfloat16)
        except (OSError, RuntimeError) as error:
            _log.warning("weights in bf16 are kept as fp32: %s", error)
            return None

    def _product_make(self, dtype: torch.dtype) -> Product:
        from kindling_engine.jit.compiling import code_load

        code = code_load("linear", self._processor, self.width, int(dtype == torch.bfloat16))
        self._codes.append(code)
        integer, pointer = ctypes.c_int64, ctypes.c_void_p
        kind = ctypes.CFUNCTYPE(None, pointer, pointer, integer, pointer, integer, ctypes.c_int32)
        product = Product(kind(code.address("linear")), code.address("linear_share"))
        if not _right(product, self.width, dtype):
            raise RuntimeError("the compiled product is wrong on this processor")
        return product


@lru_cache(maxsize=1)
def linear_kernel() -> LinearKernel | None:
    """The kernel of this process; None where there is no code for this processor, or wrong code."""
    try:
        return LinearKernel()
    except (ImportError, OSError, RuntimeError) as error:
        _log.info("products go through torch: %s", error)
        return None


def _narrow(weight: Tensor) -> bool:
    """Whether every weight is a bf16; nearly all matrices that are not show it in their first rows."""
    if weight.dtype == torch.bfloat16:
        return True
    return all(torch.equal(part.bfloat16().float(), part.float()) for part in weight.split(_ROWS_AT_ONCE))


def _right(code: Product, width: int, dtype: torch.dtype) -> bool:
    random = torch.Generator().manual_seed(0)
    weight = torch.randn((_CHECK_PANELS * width, _CHECK_INPUTS), generator=random).to(dtype)
    bias = torch.randn(weight.shape[0], generator=random)
    product = PackedLinear(code, width, weight, bias, dtype)
    for count in _CHECK_ROWS:
        x = torch.randn((count, _CHECK_INPUTS), generator=random)
        wanted = torch.addmm(bias.double(), x.double(), weight.double().t())
        if not torch.allclose(product(x).double(), wanted, rtol=1e-5, atol=1e-4):
            return False
    return True
