"""A GPU that computes nothing: tensors say that they are there and what they are like, and every launch is looked at.

Torch's fake tensors carry a device, a dtype and strides, and no numbers. So a decoder runs on one in bf16, at any size,
where no GPU is; a host's tensor among a device's, a product of two dtypes, a wait for a number and a copy that the host
would wait for are errors, which on a CPU all of them are not. What numbers come out, and whether streams are in order,
is not seen here: tokens that arrive are zeros.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import fields, is_dataclass, replace
from inspect import signature
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves
from triton.runtime.jit import JITFunction

from kindling_engine.bench.kernel import contest
from kindling_engine.core import adapter_memory, startup
from kindling_engine.kernels import clock, fp8_linear, paged_decode, tuning
from kindling_engine.kernels.registry import MODULES
from kindling_engine.lora import slabs
from kindling_engine.lora.slabs import DeviceSlabs
from kindling_engine.lora.stores import SlabStore
from kindling_engine.models.weights import Checkpoint
from kindling_engine.runner import graphs, transfer
from kindling_engine.runner.device_runner import DeviceRunner

CUDA = torch.device("cuda", 0)
_CPU = torch.device("cpu")
_MULTIPROCESSORS = 132
_FREE_BYTES, _ALL_BYTES = 120 << 30, 139 << 30
_WAITS = {torch.Tag.dynamic_output_shape, torch.Tag.data_dependent_output}
_PRODUCTS = ("mm", "addmm", "addmm_", "bmm", "baddbmm", "linear", "_grouped_mm")
# Arguments whose rows may lie apart: each has a stride among the kernel's arguments.
_APART = {
    *("x", "residual", "total", "qkv", "query", "key_pages", "value_pages", "block_tables", "out", "output"),
    *("gate_up", "logits", "scores"),
}
aten = torch.ops.aten
_OF_NUMBERS = {Tensor.tolist, Tensor.numpy, Tensor.isfinite, Tensor.all}
_DIRECT: dict[Any, Callable[..., Any]] = {
    Tensor.__invert__: aten.bitwise_not.default,
    Tensor.t: aten.t.default,
    Tensor.contiguous: lambda x: (
        x if x.is_contiguous() else aten.clone.default(x, memory_format=torch.contiguous_format)
    ),
}


class FakeGpu:
    """``launched``: kernels by name; ``captured``: how many steps were captured, ``replayed``: and replayed."""

    def __init__(self) -> None:
        self.launched: dict[str, int] = {}
        self.captured = self.replayed = 0
        # What was there while weights were converted is torch's until it is given back.
        self.free_bytes = 0
        self._launching = 0
        self._capturing = 0
        self._cases: dict[str, list[tuple[Any, ...]]] = {}
        for module in MODULES:
            for case in module.ahead_cases():
                self._cases.setdefault(case.kernel.fn.__name__, []).append(case.arguments)

    @contextmanager
    def launching(self, *, captured: bool = False) -> Iterator[None]:
        """From here on nothing may wait for the device or bring anything to it but by ``transfer``."""
        self._launching += 1
        self._capturing += captured
        try:
            yield
        finally:
            self._launching -= 1
            self._capturing -= captured

    def emptied(self) -> None:
        """For ``torch.cuda.empty_cache``."""
        self.free_bytes = _FREE_BYTES

    def looked_at(self, name: str, values: Sequence[Any], results: Sequence[Any], *, waits: bool) -> None:
        """An operation of torch's."""
        if not self._launching:
            return
        tensors = [one for one in (*values, *results) if isinstance(one, Tensor)]
        assert not waits, f"{name} waits for the device"
        assert all(one.device == CUDA for one in tensors), f"{name} on {[str(one.device) for one in tensors]}"
        if name.split(".")[1] in _PRODUCTS:
            dtypes = {one.dtype for one in values if isinstance(one, Tensor) and one.is_floating_point()}
            assert len(dtypes) == 1, f"{name} of {dtypes}"

    def brought(self, source: Tensor, target: Tensor, *, non_blocking: bool) -> None:
        """A copy between host and device."""
        assert not self._capturing, "a captured copy from the host has its numbers for good"
        assert non_blocking or not self._launching, f"a copy of {tuple(source.shape)} holds the host up"

    def sent(self, arrays: Sequence[Any], device: torch.device) -> list[Tensor]:
        """For ``transfer.upload``."""
        assert not self._capturing, "a captured copy from the host has its numbers for good"
        with _real():
            dtypes = [torch.from_numpy(one[:0]).dtype for one in arrays]
        return [
            torch.empty(one.shape, dtype=dtype, device=device)
            for one, dtype in zip(arrays, dtypes, strict=True)
        ]

    def sent_one(self, values: Sequence[Any], dtype: torch.dtype, device: torch.device) -> Tensor:
        """For ``transfer.upload_one``."""
        assert not self._capturing, "a captured copy from the host has its numbers for good"
        return torch.empty(len(values), dtype=dtype, device=device)

    def received(self, tensor: Tensor) -> Tensor:
        """For ``transfer.download``: real zeros."""
        assert tensor.device == CUDA and not self._capturing
        with _real():
            return torch.zeros(tuple(tensor.shape), dtype=tensor.dtype)

    def launch(self, kernel: JITFunction, *args: Any, grid: Any, warmup: bool, **options: Any) -> None:
        """A kernel of ours: its tensors are on the device, without gaps but where it takes strides, and each argument
        is of a type that the compiler was shown for Hopper.
        """
        name = kernel.fn.__name__
        bound = signature(kernel.fn).bind(
            *args, **{key: one for key, one in options.items() if not key.startswith("num_")}
        )
        assert list(bound.arguments) == kernel.arg_names, f"{name} lacks arguments"
        assert all(isinstance(size, int) and size > 0 for size in grid), f"{name} over {grid}"
        assert all(size < 1 << 16 for size in grid[1:]), f"{name} over {grid}"
        for place, (argument, value) in enumerate(zip(kernel.arg_names, args, strict=False)):
            shown = {_kind(case[place]) for case in self._cases[name]}
            assert _kind(value) in shown, f"{name}: {argument} is {_kind(value)}, compiled for {shown}"
            if isinstance(value, Tensor):
                assert value.device == CUDA, f"{name}: {argument} is on {value.device}"
                apart = argument in _APART and value.dim() and value.stride(-1) == 1
                assert value.is_contiguous() or apart, f"{name}: {argument} has strides {value.stride()}"
        self.launched[name] = self.launched.get(name, 0) + 1


@contextmanager
def _real() -> Iterator[None]:
    """Tensors are what they are."""
    with torch._C.DisableTorchFunction(), _disable_current_modes():
        yield


def _kind(value: Any) -> str:
    if isinstance(value, Tensor | torch.dtype):
        return str(value.dtype if isinstance(value, Tensor) else value)
    return type(value).__name__


class _Watch(TorchDispatchMode):
    def __init__(self, gpu: FakeGpu) -> None:
        super().__init__()
        self._gpu = gpu

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        results = func(*args, **(kwargs or {}))
        # Which tensors choose places is looked at where they are given.
        waits = func is not aten.index.Tensor and not _WAITS.isdisjoint(func.tags)
        self._gpu.looked_at(str(func), tree_leaves((args, kwargs)), tree_leaves(results), waits=waits)
        return results


class _Bindings(TorchFunctionMode):
    """What torch's Python does with a device before it asks anybody, without asking for the device."""

    def __init__(self, gpu: FakeGpu) -> None:
        super().__init__()
        self._gpu = gpu

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        options = dict(kwargs or {})
        options.pop("generator", None)
        first = args[0] if args and isinstance(args[0], Tensor) else None
        if first is not None and func is Tensor.to:
            return self._to(first, args[1:], options)
        if func in _OF_NUMBERS and not isinstance(first, FakeTensor):
            with _real():
                return func(*args, **options)
        if func is Tensor.cpu:
            return self._gpu.received(args[0])
        if first is None or first.device.type != "cuda":
            return func(*args, **options)
        if func in _DIRECT:
            return _DIRECT[func](*args, **options)
        if func is Tensor.__getitem__:
            view, chosen = _view(first, args[1])
            return aten.index.Tensor(view, chosen) if chosen else view
        if func is Tensor.__setitem__:
            return _put(*_view(first, args[1]), args[2])
        if func is Tensor.copy_:
            if args[1].device == first.device:
                return aten.copy_.default(*args)
            self._gpu.brought(args[1], first, non_blocking=options.get("non_blocking", False))
            args[1].expand(first.shape)
            return first
        return func(*args, **options)

    def _to(self, source: Tensor, args: Sequence[Any], options: dict[str, Any]) -> Tensor:
        device, dtype = options.get("device", source.device), options.get("dtype", source.dtype)
        for one in args:
            if isinstance(one, torch.dtype):
                dtype = one
            elif isinstance(one, str | torch.device):
                device = one
        target = torch.device(device)
        if target.type == source.device.type:
            return source if source.dtype == dtype else aten._to_copy.default(source, dtype=dtype)
        made = torch.empty(source.shape, dtype=dtype, device=target)
        self._gpu.brought(source, made, non_blocking=options.get("non_blocking", False))
        return made


def _view(x: Tensor, index: Any) -> tuple[Tensor, list[Tensor | None]]:
    """What slices and numbers of ``index`` leave, and the tensors in it by dimension."""
    parts = list(index) if isinstance(index, tuple) else [index]
    if Ellipsis in [one for one in parts if not isinstance(one, Tensor)]:
        place = next(i for i, one in enumerate(parts) if one is Ellipsis)
        missing = x.dim() - sum(one is not None and one is not Ellipsis for one in parts)
        parts[place : place + 1] = [slice(None)] * missing
    dim, chosen = 0, {}
    for one in parts:
        if one is None:
            x = x.unsqueeze(dim)
        elif isinstance(one, slice):
            x = aten.slice.Tensor(x, dim, one.start, one.stop, one.step or 1)
        elif isinstance(one, Tensor):
            assert one.dtype not in {torch.bool, torch.uint8}, "how many are chosen is waited for"
            chosen[dim] = one
        else:
            x = aten.select.int(x, dim, int(one))
            continue
        dim += 1
    return x, [chosen.get(place) for place in range(max(chosen, default=-1) + 1)]


def _put(view: Tensor, chosen: list[Tensor | None], value: Any) -> None:
    if not isinstance(value, Tensor):
        value = torch.full((), value, dtype=view.dtype, device=view.device)
    if chosen:
        aten.index_put_.default(view, chosen, value)
    else:
        aten.copy_.default(view, value)


class _Capture:
    """For ``kernels.capture``: what is captured runs twice, the second time without any way to the host."""

    def __init__(self, gpu: FakeGpu) -> None:
        self._gpu = gpu

    def graph(self, work: Callable[[], Any]) -> tuple[Any, Any]:
        with self._gpu.launching():
            work()
        with self._gpu.launching(captured=True):
            made = work()
        self._gpu.captured += 1
        return SimpleNamespace(replay=self._replay), made

    def _replay(self) -> None:
        self._gpu.replayed += 1


class _Stream:
    def wait_event(self, event: Any) -> None: ...
    def wait_stream(self, stream: Any) -> None: ...


class _Event:
    def __init__(self, *, enable_timing: bool = False) -> None: ...
    def record(self, stream: Any = None) -> None: ...
    def synchronize(self) -> None: ...
    def query(self) -> bool:
        return True

    def elapsed_time(self, other: Any) -> float:
        return 1.0


@contextmanager
def fake_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGpu]:
    """The device "cuda" is there until the end of the block, for this thread."""
    gpu, fake = FakeGpu(), FakeTensorMode(allow_non_fake_inputs=True)
    for name, pretended in {
        "Stream": lambda device=None: _Stream(),
        "Event": _Event,
        "current_stream": lambda device=None: _Stream(),
        "stream": lambda stream: nullcontext(),
        "empty_cache": gpu.emptied,
        "get_device_name": lambda device: "nothing",
        "get_device_capability": lambda device: (9, 0),
        "mem_get_info": lambda device: (gpu.free_bytes, _ALL_BYTES),
        "synchronize": lambda device=None: None,
    }.items():
        monkeypatch.setattr(torch.cuda, name, pretended)
    generator = torch.Generator
    monkeypatch.setattr(torch, "Generator", lambda device=None: generator())
    monkeypatch.setattr(
        JITFunction, "run", lambda kernel, *args, **options: gpu.launch(kernel, *args, **options)
    )
    monkeypatch.setattr(startup, "_device", lambda wish: CUDA)
    monkeypatch.setattr(paged_decode, "_multiprocessors", lambda device: _MULTIPROCESSORS)
    # Where no GPU is, no memory can be pinned for one.
    monkeypatch.setattr(DeviceSlabs, "pinned", property(lambda pool: False))
    # Numbers are what cannot be compared.
    for module in (tuning, contest):
        monkeypatch.setattr(module, "error_of", lambda result, reference: 0.0)
    for module in (graphs, clock):
        monkeypatch.setattr(module, "Capture", lambda device=None: _Capture(gpu))
    _everywhere(monkeypatch, transfer.upload, gpu.sent)
    _everywhere(monkeypatch, transfer.upload_one, gpu.sent_one)
    _everywhere(monkeypatch, transfer.download, gpu.received)
    _everywhere(monkeypatch, fp8_linear.fp8_supported, lambda device: True)
    launch = DeviceRunner.launch

    def launched(runner: DeviceRunner, plan: Any) -> Any:
        with gpu.launching():
            return launch(runner, plan)

    monkeypatch.setattr(DeviceRunner, "launch", launched)
    load, seat = adapter_memory.adapter_load, SlabStore.place
    monkeypatch.setattr(
        adapter_memory, "adapter_load", lambda *args, **said: load(*args, **{**said, "device": _CPU})
    )
    monkeypatch.setattr(
        SlabStore,
        "place",
        lambda store, loaded: _moved(loaded.weights) if loaded.packed is None else seat(store, loaded),
    )
    # What is read of files stays what it is until it is sent.
    for place, name in ((Checkpoint, "_stored"), (slabs, "slab_pieces")):
        monkeypatch.setattr(place, name, on_the_host(getattr(place, name)))
    with ExitStack() as modes:
        for mode in (fake, _Watch(gpu), _Bindings(gpu)):
            modes.enter_context(mode)
        yield gpu


def _moved(value: Any) -> Any:
    """What a thread without these modes has read, on the device."""
    if isinstance(value, Tensor):
        return torch.empty(value.shape, dtype=value.dtype, device=CUDA)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{one.name: _moved(getattr(value, one.name)) for one in fields(value)})
    if isinstance(value, tuple):
        return tuple(map(_moved, value))
    return {key: _moved(one) for key, one in value.items()} if isinstance(value, dict) else value


def on_the_host(work: Callable[..., Any]) -> Callable[..., Any]:
    """The same on tensors that are what they are."""

    def done(*args: Any, **options: Any) -> Any:
        with _real():
            return work(*args, **options)

    return done


def _everywhere(monkeypatch: pytest.MonkeyPatch, known: Any, pretended: Any) -> None:
    """In every module that has imported it."""
    for module in list(sys.modules.values()):
        if getattr(module, "__name__", "").startswith("kindling_engine"):
            for name, one in list(vars(module).items()):
                if one is known:
                    monkeypatch.setattr(module, name, pretended)
