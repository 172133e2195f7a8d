"""Loads kernels for this processor, compiled once: machine code is kept in the user's cache folder."""

import ctypes
import hashlib
import logging
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from llvmlite import __version__ as llvmlite_version
from llvmlite import binding

from kindling_engine.jit.compiler import compile_kernel, is_object, machine_for
from kindling_engine.jit.compiler_pages import compiler_pages_release

_log = logging.getLogger(__name__)
_WANTED = ("avx2", "fma", "f16c")
_WANTED_FOR_TILES = ("avx512f", "avx512bw", "amx-tile", "amx-bf16")
# Of Linux on x86-64: a process asks once for the state that tiles take, and its threads and forks have it, too. It is
# refused while a thread's stack for signals is too small to hold that state, as are such stacks afterwards.
_ARCH_PRCTL, _ASK_FOR_STATE, _TILES = 158, 0x1023, 18
_RUNTIMES = ("libgomp", "libiomp5")
_FROM_RUNTIME = ("GOMP_parallel", "omp_get_thread_num", "omp_get_num_threads")
_DIGEST_BYTES = 32
_BESIDE_CODE = ("compiler", "operations", "writing")


@dataclass(frozen=True, slots=True)
class Processor:
    """What code is compiled for. ``widths``: floats in its vectors, the widest first; ``tiles``: whether it multiplies
    tiles of bf16.
    """

    name: str
    features: str
    widths: tuple[int, ...]
    tiles: bool

    def width_of(self, size: int) -> int | None:
        """Floats in the widest vectors that ``size`` divides into; None where it divides into none."""
        return next((width for width in self.widths if size % width == 0), None)


def processor_find() -> Processor | None:
    """This machine's, or None where it is no x86 with AVX2, FMA and F16C."""
    features = binding.get_host_cpu_features()
    if not binding.get_process_triple().startswith("x86_64") or not all(map(features.get, _WANTED)):
        return None
    tiles = all(map(features.get, _WANTED_FOR_TILES))
    if tiles and not tiles_permitted():
        tiles = False
        _log.info("this process may not use the processor's tiles")
    widths = (16, 8) if features.get("avx512f") else (8,)
    return Processor(binding.get_host_cpu_name(), features.flatten(), widths, tiles)


def tiles_permitted() -> bool:
    """Whether the kernel lets this process use tiles, from now on."""
    numbers = (ctypes.c_long(one) for one in (_ARCH_PRCTL, _ASK_FOR_STATE, _TILES))
    return bool(ctypes.CDLL(None).syscall(*numbers) == 0)


def processor_here() -> Processor:
    """As ``processor_find``. Raises RuntimeError where it finds none."""
    processor = processor_find()
    if processor is None:
        raise RuntimeError("this is no x86 processor with AVX2")
    return processor


class Code:
    """Machine code in this process; addresses are good as long as it lives."""

    def __init__(self, content: bytes, processor: Processor) -> None:
        """Raises OSError where torch's OpenMP runtime is not found."""
        runtime = ctypes.CDLL(_runtime_path())
        for name in _FROM_RUNTIME:
            binding.add_symbol(name, ctypes.cast(getattr(runtime, name), ctypes.c_void_p).value)
        binding.add_symbol("syscall", ctypes.cast(ctypes.CDLL(None).syscall, ctypes.c_void_p).value)
        machine = machine_for(processor.name, processor.features)
        self._engine = binding.create_mcjit_compiler(binding.parse_assembly(""), machine)
        self._engine.add_object_file(binding.ObjectFileRef.from_data(content))
        self._engine.finalize_object()
        compiler_pages_release()

    def address(self, name: str) -> int:
        return int(self._engine.get_function_address(name))


def code_load(kernel: str, processor: Processor, *sizes: int) -> Code:
    """The code of ``kernel``, which ``<kernel>_module(*sizes)`` in ``<kernel>_code`` writes.

    Raises RuntimeError and OSError where none can be made.
    """
    here = Path(__file__).parent
    # All of them, as one that calls another's code knows how that lays out what it takes.
    sources = [*sorted(here.glob("*_code.py")), *(here / f"{name}.py" for name in _BESIDE_CODE)]
    key = [path.read_bytes() for path in sources]
    key.append(repr((llvmlite_version, processor, kernel, sizes)).encode())
    name = hashlib.sha256(b"\0".join(key)).hexdigest()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kindling" / "code" / name
    content = _read(cache)
    if content is None:
        content = compile_kernel(kernel, processor.name, processor.features, sizes)
        _keep(cache, content)
    return Code(content, processor)


def _read(cache: Path) -> bytes | None:
    """What was kept there, whole; None for anything else."""
    try:
        stored = cache.read_bytes()
    except OSError:
        return None
    digest, content = stored[:_DIGEST_BYTES], stored[_DIGEST_BYTES:]
    return content if hashlib.sha256(content).digest() == digest and is_object(content) else None


def _keep(cache: Path, content: bytes) -> None:
    try:
        cache.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.NamedTemporaryFile(dir=cache.parent, delete=False) as file:
            file.write(hashlib.sha256(content).digest() + content)
        Path(file.name).replace(cache)
    except OSError as error:
        # Compiled anew at the next start.
        _log.info("compiled code is not kept: %s", error)


def _runtime_path() -> str:
    """The OpenMP runtime that is loaded already: a second one would fight the first for the cores."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        path = line.rpartition(" ")[2]
        if Path(path).name.startswith(_RUNTIMES):
            return path
    raise OSError("no OpenMP runtime is loaded")
