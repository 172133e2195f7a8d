"""Attention on a CPU, from one projection to the other, by code compiled for this processor.

Each row reads its keys for itself, as a decode does; so may those of prompts.
"""

import ctypes
import logging
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from kindling_engine.jit.operations import TURNED_AT_ONCE
from kindling_engine.kvcache.manager import PAGE_SIZE
from kindling_engine.layers.attention_rows import AttentionInputs, DecodeRows
from kindling_engine.layers.attention_spec import AttentionSpec, LayerCache
from kindling_engine.layers.norm import RmsNorm
from kindling_engine.layers.rotary import RotaryTables

_log = logging.getLogger(__name__)
_ALONE_BELOW = 1 << 16
"""Products of queries and keys; fewer are done before a second thread has woken."""
_SHARED_BYTES, _PROMPT_BYTES = 1 << 20, 1 << 19
"""Keys and values of one head that requests may share, and a prompt may have: up to here each row reads them faster
than one product of all does.
"""
_CODE_PAGE = 16
_TOGETHER = 4
"""Query heads that the code takes at once."""
_LARGEST_HEAD = 256

_pointer, _integer = ctypes.c_void_p, ctypes.c_int64


class _Layer(ctypes.Structure):
    _fields_ = [
        ("keys", _pointer),
        ("values", _pointer),
        ("head_stride", _integer),
        ("heads", _integer),
        ("kv_heads", _integer),
        ("q_norm", _pointer),
        ("k_norm", _pointer),
        ("epsilon", ctypes.c_float),
        ("scale", ctypes.c_float),
        ("key_scales", _pointer),
        ("value_scales", _pointer),
    ]


class _Step(ctypes.Structure):
    _fields_ = [
        ("cosines", _pointer),
        ("sines", _pointer),
        ("turned", _integer),
        ("slots", _pointer),
        ("blocks", _pointer),
        ("blocks_width", _integer),
        ("lengths", _pointer),
        ("rows", _integer),
        ("scratch", _pointer),
        ("scratch_size", _integer),
    ]


class DecodeStep:
    """A step's rows as the code reads them, and what keeps the memory that it reads."""

    __slots__ = ("_kept", "address", "products", "struct")

    def __init__(self, rows: DecodeRows, slots: Tensor, tables: RotaryTables | None, threads: int) -> None:
        blocks, lengths = np.ascontiguousarray(rows.blocks), np.ascontiguousarray(rows.lengths)
        longest = -(-int(lengths.max()) // PAGE_SIZE) * PAGE_SIZE
        scratch = torch.empty((threads, _TOGETHER * longest))
        cosines, sines = (None, None) if tables is None else (one.contiguous() for one in tables)
        self.struct = _Step(
            None if cosines is None else cosines.data_ptr(),
            None if sines is None else sines.data_ptr(),
            0 if cosines is None else cosines.shape[-1],
            slots.data_ptr(),
            blocks.__array_interface__["data"][0],
            blocks.shape[1],
            lengths.__array_interface__["data"][0],
            len(lengths),
            scratch.data_ptr(),
            scratch.shape[1],
        )
        self._kept = (blocks, lengths, scratch, cosines, sines, slots)
        self.address = ctypes.addressof(self.struct)
        self.products = int(lengths.sum())


class CompiledDecode:
    """One layer's attention for steps without a very long prompt whose requests share no very long prefix.

    A row's bits depend on its own keys alone; ``always``: for all steps, so that no row ever has others.
    """

    def __init__(
        self,
        kernel: "DecodeKernel",
        *,
        heads: int,
        kv_heads: int,
        spec: AttentionSpec,
        norms: tuple[RmsNorm, RmsNorm] | None,
        always: bool = False,
    ) -> None:
        self.kernel = self._plain_kernel = kernel
        self._can = True
        self._itemsize = 4
        self._always = always
        self._head_dim = kernel.head_dim
        self._heads, self._kv_heads = heads, kv_heads
        self._scale = spec.scale
        self._norms = norms
        self._layer: _Layer | None = None
        self._cache: LayerCache | None = None
        self._address = 0

    def takes(self, inputs: AttentionInputs, tables: RotaryTables | None) -> bool:
        """Whether a step is of that kind, and what is rotated divides into vectors."""
        missing = inputs.singly is None if inputs.prefills else inputs.decode is None
        if missing or not self._can or inputs.slots.device.type != "cpu":
            return False
        if tables is not None and tables[0].shape[-1] % (2 * TURNED_AT_ONCE):
            return False
        if self._always:
            return True
        key_bytes = 2 * self._itemsize * self._head_dim
        if any(one.position + one.count > _PROMPT_BYTES // key_bytes for one in inputs.prefills):
            return False
        decodes, longest = inputs.decode, _SHARED_BYTES // key_bytes
        if decodes is None or decodes.count == 1 or int(decodes.lengths.max()) <= longest:
            return True
        # What requests share, and no cache holds, is better read once for all of them. The rows of one request's draft
        # are few, and have one table: each reads it faster than torch gathers it.
        first = np.ones(decodes.count, dtype=np.bool_)
        first[1:] = (decodes.blocks[1:] != decodes.blocks[:-1]).any(axis=1)
        if first.sum() == 1:
            return True
        return all(
            one.pages.numel() * PAGE_SIZE <= longest
            or (first if one.rows is None else first[one.rows.numpy()]).sum() == 1
            for one in decodes.plan(None).shared
        )

    def __call__(
        self, qkv: Tensor, tables: RotaryTables | None, cache: LayerCache, inputs: AttentionInputs
    ) -> Tensor:
        """``qkv [n, (heads + 2 · kv_heads) · d]``, which it changes, to ``[n, heads · d]``; K and V are stored."""
        layer = self.bind(cache)
        rows = rows_of(inputs)
        if rows is None:
            raise RuntimeError("the step's rows are not there one by one")
        threads = torch.get_num_threads()
        step = step_of(rows, inputs.slots, tables, threads)
        alone = step.products * self._heads * self._head_dim < _ALONE_BELOW
        output = torch.empty((qkv.shape[0], self._heads * self._head_dim))
        self.kernel.call(layer, step.address, qkv.data_ptr(), output.data_ptr(), 1 if alone else threads)
        return output

    def meet(self, cache: LayerCache) -> bool:
        """Pages are these from now on; whether there is code that reads them, without which no step is taken."""
        narrow = cache.key_scale is not None
        found = decode_kernel(self._head_dim, narrow=True) if narrow else self._plain_kernel
        self.kernel, self._can = found or self._plain_kernel, found is not None
        self._itemsize = cache.key_pages.itemsize
        return self._can

    def bind(self, cache: LayerCache) -> int:
        """The address of what the code has to know of the layer, with its K and V in ``cache``."""
        if self._cache is cache and self._layer is not None:
            return self._address
        norms = self._norms
        self._cache = cache
        self._layer = _Layer(
            cache.key_pages.data_ptr(),
            cache.value_pages.data_ptr(),
            cache.key_pages.stride(0),
            self._heads,
            self._kv_heads,
            None if norms is None else norms[0].weight.data_ptr(),
            None if norms is None else norms[1].weight.data_ptr(),
            0.0 if norms is None else norms[0].eps,
            self._scale,
            *(None if one is None else one.data_ptr() for one in (cache.key_scale, cache.value_scale)),
        )
        self._address = ctypes.addressof(self._layer)
        return self._address


class DecodeKernel:
    """Code for heads of one size; ``narrow``: keys and values are e4m3."""

    def __init__(self, head_dim: int, *, narrow: bool = False) -> None:
        """Raises ImportError without llvmlite, RuntimeError and OSError where no code can be made here."""
        from kindling_engine.jit.compiling import code_load, processor_here

        processor = processor_here()
        width = processor.width_of(head_dim)
        if width is None:
            raise RuntimeError(f"heads of {head_dim} do not divide into vectors")
        self.head_dim = head_dim
        self._code = code_load("decode", processor, width, head_dim, int(narrow))
        arguments = [_pointer, _pointer, _pointer, _pointer, ctypes.c_int32]
        self.call = ctypes.CFUNCTYPE(None, *arguments)(self._code.address("decode"))
        self.place, self.share = self._code.address("decode_place"), self._code.address("decode_share")


def compiled_decode(
    *,
    heads: int,
    kv_heads: int,
    head_dim: int,
    spec: AttentionSpec,
    norms: tuple[RmsNorm, RmsNorm] | None,
    always: bool = False,
) -> CompiledDecode | None:
    """A layer's; None where there is no code for its shape or this processor."""
    if (
        spec.window is not None
        or spec.softcap is not None
        or spec.sinks is not None
        or head_dim > _LARGEST_HEAD
    ):
        return None
    kernel = decode_kernel(head_dim)
    if kernel is None:
        return None
    return CompiledDecode(kernel, heads=heads, kv_heads=kv_heads, spec=spec, norms=norms, always=always)


@lru_cache(maxsize=8)
def decode_kernel(head_dim: int, *, narrow: bool = False) -> DecodeKernel | None:
    """That of this process; None where there is none for this size."""
    if PAGE_SIZE != _CODE_PAGE:
        return None
    try:
        return DecodeKernel(head_dim, narrow=narrow)
    except (ImportError, OSError, RuntimeError) as error:
        _log.info("attention goes through torch: %s", error)
        return None


def rows_of(inputs: AttentionInputs) -> DecodeRows | None:
    """All rows of a step one by one; None where it has prompts and nobody makes them so."""
    if not inputs.prefills:
        return inputs.decode
    return None if inputs.singly is None else inputs.singly()


def step_of(rows: DecodeRows, slots: Tensor, tables: RotaryTables | None, threads: int) -> DecodeStep:
    """All layers with the same rotation share one."""
    key = 0 if tables is None else id(tables[0])
    found = rows.compiled.get(key)
    if not isinstance(found, DecodeStep):
        found = rows.compiled[key] = DecodeStep(rows, slots, tables, threads)
    return found
