"""Compiles kernels for a Hopper GPU on a machine that has none, and tells what they would take there.

Run in a process of its own: the stand-in for a driver stays active, and nothing can be launched afterwards.
"""

import re
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import MockTensor

from kindling_engine.kernels.machine_code import MainLoop, main_loops
from kindling_engine.kernels.tuning import Config

SHARED_LIMIT = 232448
"""Bytes of shared memory that a thread block may have on sm_90; more is no error of the compiler's."""
_SHARED = 228 * 1024
_SHARED_RESERVED = 1024
_REGISTERS = 65536
_WARPS = 64
_BLOCKS = 32
"""What a multiprocessor has of each; the driver takes some shared memory for every block."""


@dataclass(frozen=True, slots=True)
class Case:
    """A kernel as it is launched: arguments in its order, a dtype standing for a pointer; ``constants`` by name."""

    name: str
    kernel: Any
    arguments: tuple[Any, ...]
    constants: dict[str, Any]
    config: Config

    def __str__(self) -> str:
        return f"{self.name} {self.config}"


@dataclass(frozen=True, slots=True)
class Compiled:
    """What a compiled kernel takes of a multiprocessor, and its machine code."""

    warps: int
    shared_bytes: int
    registers: int
    spilled_bytes: int
    cubin: bytes

    @property
    def side_by_side(self) -> int:
        """Thread blocks that a multiprocessor holds at once."""
        registers = -(-self.registers // 8) * 8 * 32 * self.warps
        return min(
            _REGISTERS // registers,
            _SHARED // (self.shared_bytes + _SHARED_RESERVED),
            _WARPS // self.warps,
            _BLOCKS,
        )

    def main_loops(self) -> list[MainLoop]:
        """What the disassembler tells, which takes it half a second."""
        return main_loops(_told(self.cubin, "nvdisasm", "--print-code", "--no-dataflow"))


class _Hopper:
    """As much of a driver as compiling asks for. What is compiled is kept by ``device``."""

    device = 0

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", 90, 32)

    def get_current_device(self) -> int:
        return self.device

    def get_current_stream(self, device: int | None = None) -> int:
        return 0


_HOPPER = _Hopper()


def compile_ahead(case: Case) -> Compiled:
    """Compile for sm_90. Raises what the compiler raises."""
    driver.set_active(_HOPPER)
    arguments = [MockTensor(one) if isinstance(one, torch.dtype) else one for one in case.arguments]
    kernel = case.kernel.warmup(*arguments, **case.constants, **case.config.arguments(), grid=(1,))
    registers, spilled = _resources(kernel.asm["cubin"])
    return Compiled(case.config.num_warps, kernel.metadata.shared, registers, spilled, kernel.asm["cubin"])


def variants(launch: Callable[[], object]) -> set[str]:
    """What ``launch`` would have compiled, by kernel and what it is compiled for, on tensors of any device.

    Nothing is compiled, and nothing runs: outputs stay as they were.
    """
    driver.set_active(_HOPPER)
    # One for which nothing has been compiled yet: what has would be launched, and not be told.
    _HOPPER.device += 1
    found: set[str] = set()

    def note(*, key: object, fn: Any, **_: object) -> bool:
        found.add(f"{fn.name} {key}")
        return True

    before, triton.knobs.runtime.jit_cache_hook = triton.knobs.runtime.jit_cache_hook, note
    try:
        launch()
    finally:
        triton.knobs.runtime.jit_cache_hook = before
        _HOPPER.device = 0
    return found


def _resources(cubin: bytes) -> tuple[int, int]:
    """Registers of a thread, and bytes of its stack and local memory, where spilled registers go."""
    told = _told(cubin, "cuobjdump", "--dump-resource-usage")
    found = {name: int(value) for name, value in re.findall(r"\b(REG|STACK|LOCAL):(\d+)", told)}
    return found["REG"], found["STACK"] + found["LOCAL"]


def _told(cubin: bytes, tool: str, *arguments: str) -> str:
    """What one of the tools that Triton brings says about machine code."""
    path = Path(triton.__file__).parent / "backends/nvidia/bin" / tool
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        return subprocess.run(
            [path, *arguments, file.name], capture_output=True, text=True, check=True
        ).stdout
