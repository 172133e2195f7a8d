"""Products of fp32 rows with packed matrices, by code compiled for this processor.

A matrix that loses nothing in bf16, as those of most checkpoints, lies as bf16: half the memory, and up to twice the
speed for few rows. It is widened in registers, as those are that somebody wants as fp16 or int8, but for processors
that multiply tiles of bf16: these take two to three times as many rows a second, and give the same digits. Weights in
int8 and fp16 are multiplied so from some rows on.
"""

import ctypes
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from kindling_engine.jit.operations import BF16, BF16_PAIRS, CHUNK, FP16, FP32, INT8, SPAN_INPUTS, TILE_WIDTH
from kindling_engine.jit.panels import lines_pack, lines_rows, pairs_pack, pairs_rows

if TYPE_CHECKING:
    from kindling_engine.jit.compiling import Code

_log = logging.getLogger(__name__)

_CACHE_BYTES = 256 << 10
"""A share of the second-level cache, for a span of a block's rows."""
_TILE_ROWS = 6
_ALONE_BELOW = 1 << 17
"""Products; fewer are done before a second thread has woken."""
_WEIGHTS_AT_ONCE = 1 << 18
_CHECK_ROWS = (1, 2, 3, 4, 5, 6, 7, 8, 13, 30, 100, 131)
_CHECK_PANELS = 11
_CHECK_INPUTS, _CHECK_INPUTS_OF_TILES = (38, SPAN_INPUTS + 38), (34 * CHUNK,)
_CHECK_ERROR = 3e-5
"""Of the largest weight; a product that is wrong is off by a whole one."""
_ROWS_OF_TILES = {FP16: 48, INT8: 12}
"""Of one product, from which on it costs less to make bf16 of weights than tiles save. For fp32 it costs as much."""
_STORED = {torch.float32: FP32, torch.bfloat16: BF16, torch.float16: FP16, torch.int8: INT8}


@dataclass(frozen=True, slots=True)
class Product:
    """``code`` for matrices whose weights are ``dtype``, in panels of ``width``: a call with a team of its own, and the
    address of a team's part. ``pairs``: whether panels are made for tiles.
    """

    code: "Code"
    call: Callable[..., None]
    share: int
    width: int
    dtype: torch.dtype
    pairs: bool


class _Matrix(ctypes.Structure):
    _fields_ = [
        ("weights", ctypes.c_void_p),
        ("scales", ctypes.c_void_p),
        ("bias", ctypes.c_void_p),
        ("inputs", ctypes.c_int64),
        ("outputs", ctypes.c_int64),
        ("block_rows", ctypes.c_int64),
        ("span_inputs", ctypes.c_int64),
    ]


class PackedLinear:
    """``y = x·Wᵀ + b`` for fp32 ``x [n, in]``, giving ``[n, out]``; of int8, ``y = s ⊙ (x·Wᵀ) + b``.

    A row has the same bits on any number of threads, and whatever rows stand beside it, but where int8 and fp16 have
    tiles for many rows.
    """

    __slots__ = (
        "_bias",
        "_call",
        "_matrix",
        "_panels",
        "_product",
        "_scales",
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
        self._product, self._call, self.share = product, product.call, product.share
        width = product.width
        self.outputs, self.inputs = weight.shape
        view = (pairs_pack if product.pairs else lines_pack)(weight, width)
        self._panels = torch.empty(view.shape, dtype=product.dtype).copy_(view)
        self._bias = torch.zeros(self.outputs) if bias is None else bias.contiguous()
        self._scales = None if scales is None else scales.contiguous()
        spans = -(-self.inputs // SPAN_INPUTS)
        span = -(-self.inputs // spans)
        span += span % 2
        self._matrix = _Matrix(
            self._panels.data_ptr(),
            None if self._scales is None else self._scales.data_ptr(),
            self._bias.data_ptr(),
            self.inputs,
            self.outputs,
            _CACHE_BYTES // (4 * span) // _TILE_ROWS * _TILE_ROWS,
            span,
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
        rows = (pairs_rows if self._product.pairs else lines_rows)(self._panels, indices).float()
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
        from kindling_engine.jit.compiling import processor_here

        self._processor = processor_here()
        widest = self._processor.widths[0]
        self._products: dict[tuple[int, int, bool], Product | None] = {
            (FP32, widest, False): self._product_make(torch.float32, FP32, widest, with_tiles=False)
        }

    def fits(self, weight: Tensor) -> bool:
        """Whether ``weight [out, in]`` has sizes that can be packed."""
        outputs, inputs = weight.shape
        if inputs % 2 or not weight.numel():
            return False
        return self._product_find(torch.float32, FP32, outputs, with_tiles=False) is not None

    def pack(self, weight: Tensor, bias: Tensor | None = None) -> PackedLinear:
        """As bf16 where nothing is lost, else as fp32."""
        narrow = self.pack_as(torch.bfloat16, weight, bias) if _narrow(weight) else None
        packed = narrow or self.pack_as(torch.float32, weight, bias)
        if packed is None:
            raise ValueError(f"a matrix of {tuple(weight.shape)} does not fit")
        return packed

    def pack_as(
        self, dtype: torch.dtype, weight: Tensor, bias: Tensor | None = None, scales: Tensor | None = None
    ) -> PackedLinear | None:
        """As ``dtype``: int8 with ``scales [out]``, or a float without. None where no right code for it can be made."""
        outputs, inputs = weight.shape
        product, stored = None, _STORED[dtype]
        if self._processor.tiles and inputs % CHUNK == 0 and outputs % TILE_WIDTH == 0:
            if dtype == torch.bfloat16:
                product = self._product_find(dtype, BF16_PAIRS, outputs, with_tiles=True)
            elif stored in _ROWS_OF_TILES:
                product = self._product_find(dtype, stored, outputs, with_tiles=True)
        product = product or self._product_find(dtype, stored, outputs, with_tiles=False)
        return None if product is None else PackedLinear(product, weight, bias, scales)

    def _product_find(
        self, dtype: torch.dtype, stored: int, outputs: int, *, with_tiles: bool
    ) -> Product | None:
        """That for as many outputs; None where they do not divide, or no right code can be made."""
        width = self._processor.width_of(outputs)
        if width is None:
            return None
        key = stored, width, with_tiles
        if key not in self._products:
            try:
                self._products[key] = self._product_make(dtype, stored, width, with_tiles=with_tiles)
            except (OSError, RuntimeError) as error:
                _log.warning("there is no code for weights as %s: %s", dtype, error)
                self._products[key] = None
        return self._products[key]

    def _product_make(self, dtype: torch.dtype, stored: int, width: int, *, with_tiles: bool) -> Product:
        from kindling_engine.jit.compiling import code_load

        pairs = stored == BF16_PAIRS
        both = with_tiles and not pairs
        code = code_load("linear", self._processor, width, stored, _ROWS_OF_TILES[stored] if both else 0)
        integer, pointer = ctypes.c_int64, ctypes.c_void_p
        kind = ctypes.CFUNCTYPE(None, pointer, pointer, integer, pointer, integer, ctypes.c_int32)
        call, share = kind(code.address("linear")), code.address("linear_share")
        product = Product(code, call, share, width, dtype, pairs)
        sizes = _CHECK_INPUTS_OF_TILES if with_tiles else _CHECK_INPUTS
        if not all(_right(product, inputs) for inputs in sizes):
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
    """Whether every weight is a bf16, whose lower half as a float is empty; nearly all matrices that are not show it in
    their first rows.
    """
    if weight.dtype == torch.bfloat16:
        return True
    parts = weight.reshape(-1).split(_WEIGHTS_AT_ONCE)
    lower = torch.empty(len(parts[0]) if parts else 0, dtype=torch.int32)
    for part in parts:
        bits = part.float().view(torch.int32)
        if torch.bitwise_and(bits, 0xFFFF, out=lower[: len(part)]).any():
            return False
    return True


def _right(product: Product, inputs: int) -> bool:
    random = torch.Generator().manual_seed(0)
    weight = torch.randn((_CHECK_PANELS * product.width, inputs), generator=random)
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
        x = torch.randn((count, inputs), generator=random)
        wanted = torch.addmm(bias.double(), x.double(), exact.t())
        if not torch.allclose(packed(x).double(), wanted, rtol=1e-5, atol=_CHECK_ERROR * scale):
            return False
    return True
