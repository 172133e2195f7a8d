"""All layers of a decoder, and its head, as one call: separate calls are a tenth of a step of one row."""

import ctypes
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from kindling_engine.jit.adapters import (
    AdapterKernel,
    AdapterRows,
    Site,
    SiteStruct,
    adapter_kernel,
    site_struct,
)
from kindling_engine.jit.decode import CompiledDecode, rows_of, step_of
from kindling_engine.jit.linear import PackedLinear
from kindling_engine.jit.operations import (
    ADAPT,
    ATTEND,
    GATE,
    GATE_CODE,
    LINEAR,
    NORM,
    NORM_CODE,
    NORM_OF_SUM,
    NORM_OF_SUM_CODE,
    PLACE,
)
from kindling_engine.jit.patience import Patience
from kindling_engine.jit.rows import RowKernels, row_kernels
from kindling_engine.layers.attention_rows import AttentionInputs
from kindling_engine.layers.attention_spec import LayerCache
from kindling_engine.layers.norm import RmsNorm
from kindling_engine.layers.rotary import RotaryTables

_log = logging.getLogger(__name__)
_ALONE_BELOW = 1 << 17
"""Products of an operation, in the mean; fewer are done before a second thread has woken."""
_LEAST_ROWS = 8
_MOST_BYTES = 64 << 20
"""Of what operations leave for each other; larger steps go layer by layer, which leave it to nobody for long."""


class _Operation(ctypes.Structure):
    _fields_ = [
        ("kind", ctypes.c_int64),
        ("code", ctypes.c_void_p),
        ("thing", ctypes.c_void_p),
        ("x", ctypes.c_void_p),
        ("added", ctypes.c_void_p),
        ("y", ctypes.c_void_p),
        ("size", ctypes.c_int64),
        ("step", ctypes.c_int64),
        ("epsilon", ctypes.c_float),
    ]


class _Operations(ctypes.Structure):
    _fields_ = [("first", ctypes.c_void_p), ("count", ctypes.c_int64)]


class _Made:
    """Operations where the code finds them; ``kept`` is memory that they point at."""

    __slots__ = ("_kept", "_last", "address")

    def __init__(self, operations: list[_Operation], kept: object = None) -> None:
        array = (_Operation * len(operations))(*operations)
        program = _Operations(ctypes.addressof(array), len(operations))
        self.address = ctypes.addressof(program)
        self._last = array[-1]
        self._kept = (program, array, kept)

    def end_at(self, y: Tensor) -> None:
        """Have the last operation write there."""
        self._last.y = y.data_ptr()


@dataclass(frozen=True, slots=True)
class LayerParts:
    """A layer whose every part is code of this processor; ``rotary`` is an index into a step's tables, ``sites`` are
    where adapters add to the four products.
    """

    input_norm: RmsNorm
    qkv: PackedLinear
    attention: CompiledDecode
    rotary: int | None
    output: PackedLinear
    mlp_norm: RmsNorm
    gate_up: PackedLinear
    down: PackedLinear
    sites: tuple[int, int, int, int]

    @property
    def products(self) -> tuple[PackedLinear, ...]:
        return self.qkv, self.output, self.gate_up, self.down


@dataclass(frozen=True, slots=True)
class EndParts:
    """What makes logits of the states behind the layers."""

    norm: RmsNorm
    head: PackedLinear


class LayerProgram:
    """The same bits as from the layers one after another, and from the head behind them. Not for two steps at once."""

    def __init__(
        self,
        kernel: "ProgramKernel",
        rows: RowKernels,
        layers: Sequence[LayerParts],
        caches: Sequence[LayerCache],
        end: EndParts | None,
    ) -> None:
        """``layers`` have the same sizes, and K and V in ``caches``; without an ``end`` it gives no logits."""
        self._call = kernel.call
        self._rows = rows
        self._layers = layers
        self._caches = caches
        self._end = end
        products = [product for layer in layers for product in layer.products]
        heads = [] if end is None else [end.head]
        self._mean_products = {ends: _mean_products(products + heads * ends) for ends in (False, True)}
        # Layers with the same rotation read the same of a step.
        self._rotaries = tuple(dict.fromkeys(layer.rotary for layer in layers))
        self._attentions = {layer.rotary: layer.attention for layer in layers}
        self._most_rows = 0
        hidden, shared, gated = self._sizes()
        self._row_bytes = 4 * (3 * hidden + shared + gated)
        self._adapter_kernel = adapter_kernel()
        self._patience = Patience()

    @property
    def adapts(self) -> bool:
        """Whether there is code for adapters."""
        return self._adapter_kernel is not None

    @property
    def ends(self) -> bool:
        """Whether it gives logits."""
        return self._end is not None

    def takes(self, inputs: AttentionInputs, tables: Sequence[RotaryTables]) -> bool:
        """Whether a step is one that its attentions take, and small enough."""
        if inputs.slots.shape[0] * self._row_bytes > _MOST_BYTES:
            return False
        return all(
            attention.takes(inputs, None if rotary is None else tables[rotary])
            for rotary, attention in self._attentions.items()
        )

    def __call__(
        self,
        hidden: Tensor,
        inputs: AttentionInputs,
        tables: Sequence[RotaryTables],
        adapters: AdapterRows | None = None,
    ) -> tuple[Tensor, Tensor]:
        """``hidden [n, hidden]`` behind all layers but for what the last one adds, and that; both hold until the next
        call. ``adapters`` only if the program ``adapts``; a step without has no operation of theirs.
        """
        self._run(hidden, inputs, tables, adapters)
        rows = hidden.shape[0]
        return self._hidden[:rows], self._added[:rows]

    def logits(
        self,
        hidden: Tensor,
        inputs: AttentionInputs,
        tables: Sequence[RotaryTables],
        adapters: AdapterRows | None = None,
    ) -> Tensor:
        """Those of every row, ``[n, vocab]``, if the program ``ends``; else as above."""
        if self._end is None:
            raise RuntimeError("the program has no head")
        logits = torch.empty((hidden.shape[0], self._end.head.outputs))
        self._run(hidden, inputs, tables, adapters, logits)
        return logits

    def _run(
        self,
        hidden: Tensor,
        inputs: AttentionInputs,
        tables: Sequence[RotaryTables],
        adapters: AdapterRows | None,
        logits: Tensor | None = None,
    ) -> None:
        rows = hidden.shape[0]
        if rows > self._most_rows:
            self._make(max(_LEAST_ROWS, 1 << (rows - 1).bit_length()))
        single = rows_of(inputs)
        if single is None:
            raise RuntimeError("the step's rows are not there one by one")
        self._hidden[:rows].copy_(hidden)
        threads = torch.get_num_threads()
        steps = (ctypes.c_void_p * (len(self._rotaries) + 1))()
        for at, rotary in enumerate(self._rotaries):
            turned = None if rotary is None else tables[rotary]
            steps[at] = step_of(single, inputs.slots, turned, threads).address
        if adapters is not None:
            steps[len(self._rotaries)] = adapters.address
        made = self._made(None if adapters is None else adapters.sites, ends=logits is not None)
        if logits is not None:
            made.end_at(logits)
        alone = rows * self._mean_products[logits is not None] < _ALONE_BELOW
        if alone or threads == 1:
            self._call(made.address, ctypes.addressof(steps), rows, 0, 1)
        else:
            self._call(made.address, ctypes.addressof(steps), rows, self._patience.begin(), threads)
            self._patience.end()

    def _make(self, rows: int) -> None:
        """What operations leave for each other, for so many ``rows``."""
        hidden, shared, gated = self._sizes()
        self._hidden, self._added, self._normed = (torch.empty((rows, hidden)) for _ in range(3))
        self._shared, self._gated = torch.empty(rows * shared), torch.empty((rows, gated))
        self._most_rows = rows
        self._ready: dict[tuple[bool, bool], tuple[tuple[Site, ...] | None, _Made]] = {}

    def _sizes(self) -> tuple[int, int, int]:
        """Floats that a row has: of hidden states; of what attention goes from and to, whose memory the MLP's products
        have afterwards; of what these make.
        """
        first = self._layers[0]
        both = first.gate_up.outputs
        return first.qkv.inputs, max(first.qkv.outputs + first.output.inputs, both), both // 2

    def _made(self, sites: tuple[Site, ...] | None, *, ends: bool) -> "_Made":
        """The operations, with adapters' behind the products that they add to, and the end's or not."""
        key = sites is not None, ends
        found = self._ready.get(key)
        if found is None or found[0] is not sites:
            structs: list[SiteStruct] = []
            operations = self._layers_plain() if sites is None else self._layers_adapted(sites, structs)
            if ends:
                operations += self._ending()
            found = self._ready[key] = (sites, _Made(operations, structs))
        return found[1]

    def _layers_plain(self) -> list[_Operation]:
        return [one for index in range(len(self._layers)) for one in self._layer(index)]

    def _layers_adapted(self, sites: tuple[Site, ...], structs: list[SiteStruct]) -> list[_Operation]:
        kernel = self._adapter_kernel
        if kernel is None:
            raise RuntimeError("there is no code for adapters")
        operations: list[_Operation] = []
        for index, layer in enumerate(self._layers):
            products = iter(layer.sites)
            for operation in self._layer(index):
                operations.append(operation)
                if operation.kind == LINEAR:
                    site = next(products)
                    structs.append(site_struct(site, sites[site]))
                    if sites[site].widths:
                        operations.append(self._adapt(operation, structs[-1], kernel))
        return operations

    def _adapt(self, product: _Operation, site: SiteStruct, kernel: AdapterKernel) -> _Operation:
        step = len(self._rotaries)
        thing = ctypes.addressof(site)
        return _Operation(ADAPT, kernel.share, thing, product.x, None, product.y, product.size, step)

    def _layer(self, index: int) -> list[_Operation]:
        layer = self._layers[index]
        hidden, added, normed, qkv, gated = (
            one.data_ptr() for one in (self._hidden, self._added, self._normed, self._shared, self._gated)
        )
        attended, both = self._shared[self._most_rows * layer.qkv.outputs :].data_ptr(), qkv
        attention, kernel = layer.attention.bind(self._caches[index]), layer.attention.kernel
        step, inner = self._rotaries.index(layer.rotary), layer.down.inputs
        return [
            self._norm(layer.input_norm, hidden, added if index else None, normed),
            _linear(layer.qkv, normed, qkv),
            _Operation(PLACE, kernel.place, attention, qkv, None, None, 0, step),
            _Operation(ATTEND, kernel.share, attention, qkv, None, attended, 0, step),
            _linear(layer.output, attended, added),
            self._norm(layer.mlp_norm, hidden, added, normed),
            _linear(layer.gate_up, normed, both),
            _Operation(GATE, self._rows.address(GATE_CODE, inner), None, both, None, gated, inner),
            _linear(layer.down, gated, added),
        ]

    def _ending(self) -> list[_Operation]:
        """Where the logits go is said in each call."""
        if self._end is None:
            raise RuntimeError("the program has no head")
        hidden, added, normed = (one.data_ptr() for one in (self._hidden, self._added, self._normed))
        return [self._norm(self._end.norm, hidden, added, normed), _linear(self._end.head, normed, None)]

    def _norm(self, norm: RmsNorm, x: int, added: int | None, y: int) -> _Operation:
        kind, code = (NORM, NORM_CODE) if added is None else (NORM_OF_SUM, NORM_OF_SUM_CODE)
        size = norm.weight.shape[0]
        return _Operation(
            kind, self._rows.address(code, size), norm.weight.data_ptr(), x, added, y, size, 0, norm.eps
        )


class ProgramKernel:
    """What walks through the operations of a program."""

    def __init__(self) -> None:
        """Raises ImportError without llvmlite, RuntimeError and OSError where no code can be made here."""
        from kindling_engine.jit.compiling import code_load, processor_here

        self._code = code_load("program", processor_here())
        arguments = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int32]
        self.call = ctypes.CFUNCTYPE(None, *arguments)(self._code.address("program"))


def layer_program(
    layers: Sequence[LayerParts], caches: Sequence[LayerCache], end: EndParts | None = None
) -> LayerProgram | None:
    """Of a decoder's layers; None where there is no code for this processor."""
    kernel, rows = program_kernel(), row_kernels()
    if kernel is None or rows is None or not layers:
        return None
    return LayerProgram(kernel, rows, layers, caches, end)


@lru_cache(maxsize=1)
def program_kernel() -> ProgramKernel | None:
    """That of this process; None where there is none."""
    try:
        return ProgramKernel()
    except (ImportError, OSError, RuntimeError) as error:
        _log.info("layers are called one by one: %s", error)
        return None


def _mean_products(products: Sequence[PackedLinear]) -> int:
    """Of numbers, for one row."""
    return sum(one.inputs * one.outputs for one in products) // len(products)


def _linear(product: PackedLinear, x: int, y: int | None) -> _Operation:
    return _Operation(LINEAR, product.share, product.address, x, None, y, product.outputs)
