"""Compiles one kernel in a process of its own, which takes along what LLVM would keep: a hundred megabytes and more."""

import importlib
import json
import logging
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llvmlite import binding

_log = logging.getLogger(__name__)
_SOURCES = Path(__file__).parents[2]
_LONGEST_S = 300
_MAGIC = b"\x7fELF"
_TOLD = 400
"""Letters of what a compiler said at last."""


def machine_for(name: str, features: str) -> Any:
    """What code is made for, in this process."""
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    target = binding.Target.from_triple(binding.get_process_triple())
    return target.create_target_machine(cpu=name, features=features, opt=3, jit=True)


def compile_kernel(kernel: str, name: str, features: str, sizes: tuple[int, ...]) -> bytes:
    """The object code of what ``<kernel>_module(*sizes)`` in ``<kernel>_code`` writes, for such a processor.

    Made in this process where none can be started that does it. Raises RuntimeError where there is none to be had.
    """
    try:
        return _compile_apart(json.dumps([kernel, name, features, sizes]))
    except (OSError, TypeError, _Failed) as error:
        _log.warning("%s is compiled here, which takes memory: %s", kernel, error)
        return _compile(kernel, name, features, sizes)


class _Failed(Exception):
    """The other process could not do it, and lived to say so."""


def _compile_apart(wanted: str) -> bytes:
    """Raises OSError and TypeError where no process can be started, RuntimeError where it died or did not end."""
    # All that this process imports from, as some of it may have been added while it ran.
    path = os.pathsep.join([str(_SOURCES), *filter(None, sys.path)])
    # Not its standard output, on which anything that Python loads at its start may write.
    with os.fdopen(os.memfd_create("kernel"), "w+b") as made:
        try:
            done = subprocess.run(
                [sys.executable, "-P", "-m", __name__, wanted, str(made.fileno())],
                env=os.environ | {"PYTHONPATH": path},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=[made.fileno()],
                check=False,
                timeout=_LONGEST_S,
            )
        except subprocess.TimeoutExpired as error:
            raise RuntimeError(f"it is not compiled after {_LONGEST_S} s") from error
        made.seek(0)
        content = made.read()
    if done.returncode < 0:
        raise RuntimeError(f"its compiler was ended by signal {-done.returncode}")
    if done.returncode or not is_object(content):
        said = done.stderr.decode(errors="replace").strip()[-_TOLD:]
        raise _Failed(f"the compiler ended with {done.returncode}: {said}")
    return content


def is_object(content: bytes) -> bool:
    """Whether it is object code, so far as its beginning tells; LLVM dies of what is not."""
    return content.startswith(_MAGIC)


def main(wanted: str, made: str) -> None:
    """Write what is wanted to an open file."""
    kernel, name, features, sizes = json.loads(wanted)
    with os.fdopen(int(made), "wb") as target:
        target.write(_compile(kernel, name, features, sizes))


def _compile(kernel: str, name: str, features: str, sizes: Sequence[int]) -> bytes:
    code = importlib.import_module(f"kindling_engine.jit.{kernel}_code")
    module, machine = getattr(code, f"{kernel}_module")(*sizes), machine_for(name, features)
    module.triple = machine.triple
    parsed = binding.parse_assembly(str(module))
    parsed.verify()
    passes = binding.create_pass_builder(machine, binding.create_pipeline_tuning_options(speed_level=3))
    passes.getModulePassManager().run(parsed, passes)
    return bytes(machine.emit_object(parsed))


if __name__ == "__main__":
    main(*sys.argv[1:])
