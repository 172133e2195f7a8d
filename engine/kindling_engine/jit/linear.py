"""Products of fp32 rows with packed matrices, by code compiled for this processor.

A matrix that loses nothing in bf16, as those of most checkpoints, lies as bf16 and is widened in registers: half the
memory and up to twice the speed for few rows, and the same bits. Whoever asks for fp16 or int8 gets them the same way.
"""

import ctypes
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from kindling_engine.jit.operations import BF16, FP16, FP32, INT8

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
_CHECK_ERROR = 3e-5
"""Of the largest weight; a product that is wrong is off by a whole one."""
_STORED = {torch.float32: FP32, torch.bfloat16: BF16, torch.float16: FP16, torch.int8: INT8}


@dataclass(frozen=True, slots=True)
class Product:
    """Code for matrices whose weights are ``dtype``, in panels of ``width``: a call with a team of its own, and the
    address of a team's part.
    """

    call: Callable[..., None]
    share: int
    width: int
    dtype: torch.dtype


class _Matrix(ctypes.Structure):
    _fields_ = [
        ("weights", ctypes.c_void_p),
        ("scales", ctypes.c_void_p),
        ("bias", ctypes.c_void_p),
        ("inputs", ctypes.c_int64),
        ("outputs", ctypes.c_int64),
        ("block_rows", ctypes.c_int64),
        ("group_panels", ctypes.c_int64),
    ]


class PackedLinear:
    """``y = x·Wᵀ + b`` for fp32 ``x [n, in]``, giving ``[n, out]``; of int8, ``y = s ⊙ (x·Wᵀ) + b``.

    A row has the same bits whatever rows stand beside it, on any number of threads.
    """

    __slots__ = (
        "_bias",
        "_call",
        "_matrix",
        "_panels",
        "_scales",
        "_width",
        "address",
        "inputs",
        "outputs",
        "share",
    )

    def __init__(
        self, product: Product, weight: Tensor, bias: Tensor | None, scales: Tensor | None = None
    ) -> None:
        """Packs ``weight [out, in]`` as the product has it; ``out`` divides by its width, and ``in`` is even.

        ``scales [out]`` are there if and only if that is int8.
        """
        self._call, self.share = product.call, product.share
        self._width = width = product.width
        self.outputs, self.inputs = weight.shape
        self._panels = torch.empty((self.outputs // width, self.inputs, width), dtype=product.dtype)
        self._panels.copy_(weight.reshape(-1, width, self.inputs).transpose(1, 2))
        self._bias = torch.zeros(self.outputs) if bias is None else bias.contiguous()
        self._scales = None if scales is None else scales.contiguous()
        fitting = (
            _CACHE_BYTES // (product.dtype.itemsize * width * self.inputs) // _TILE_PANELS * _TILE_PANELS
        )
        self._matrix = _Matrix(
            self._panels.data_ptr(),
            None if self._scales is None else self._scales.data_ptr(),
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
        rows = self._panels[indices // self._width, :, indices % self._width].float()
        return rows if self._scales is None else rows.mul_(self._scales[indices, None])

    @property
    def weight_bytes(self) -> int:
        return self._panels.nbytes


class LinearKernel:
    """Packs matrices for the code that it holds; that for weights smaller than fp32 is made when the first such matrix
    comes.
    """

    def __init__(self) -> None:
        """Raises ImportError without llvmlite, RuntimeError and OSError where no right code can be made here."""
        from kindling_engine.jit.compiling import Code, processor_here

        self._processor = processor_here()
        self._codes: list[Code] = []
        self.width = self._processor.width
        self._wide = self._product_make(torch.float32)
        self._products: dict[torch.dtype, Product | None] = {}

    def fits(self, weight: Tensor) -> bool:
        """Whether ``weight [out, in]`` has sizes that can be packed."""
        outputs, inputs = weight.shape
        return outputs % self.width == 0 and inputs % 2 == 0 and weight.numel() > 0

    def pack(self, weight: Tensor, bias: Tensor | None = None) -> PackedLinear:
        """As bf16 where nothing is lost, else as fp32."""
        narrow = self.pack_as(torch.bfloat16, weight, bias) if _narrow(weight) else None
        return narrow or PackedLinear(self._wide, weight, bias)

    def pack_as(
        self, dtype: torch.dtype, weight: Tensor, bias: Tensor | None = None, scales: Tensor | None = None
    ) -> PackedLinear | None:
        """As ``dtype``: int8 with ``scales [out]``, or a float without. None where no right code for it can be made."""
        if dtype not in self._products:
            try:
                self._products[dtype] = self._product_make(dtype)
            except (OSError, RuntimeError) as error:
                _log.warning("there is no code for weights as %s: %s", dtype, error)
                self._products[dtype] = None
        product = self._products[dtype]
        return None if product is None else PackedLinear(product, weight, bias, scales)

    def _product_make(self, dtype: torch.dtype) -> Product:
        from kindling_engine.jit.compiling import code_load

        code = code_load("linear", self._processor, self.width, _STORED[dtype])
        self._codes.append(code)
        integer, pointer = ctypes.c_int64, ctypes.c_void_p
        kind = ctypes.CFUNCTYPE(None, pointer, pointer, integer, pointer, integer, ctypes.c_int32)
        call, share = kind(code.address("linear")), code.address("linear_share")
        product = Product(call, share, self.width, dtype)
        if not _right(product):
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


def _right(product: Product) -> bool:
    random = torch.Generator().manual_seed(0)
    weight = torch.randn((_CHECK_PANELS * product.width, _CHECK_INPUTS), generator=random)
    bias, scales = (torch.randn(weight.shape[0], generator=random) for _ in range(2))
    if product.dtype == torch.int8:
        stored = (40 * weight).to(torch.int8)
        exact = stored.double() * scales.double()[:, None]
        packed = PackedLinear(product, stored, bias, scales)
    else:
        exact = weight.to(product.dtype).double()
        packed = PackedLinear(product, weight, bias)
    scale = float(exact.abs().max())
    for count in _CHECK_ROWS:
        x = torch.randn((count, _CHECK_INPUTS), generator=random)
        wanted = torch.addmm(bias.double(), x.double(), exact.t())
        if not torch.allclose(packed(x).double(), wanted, rtol=1e-5, atol=_CHECK_ERROR * scale):
            return False
    return True
