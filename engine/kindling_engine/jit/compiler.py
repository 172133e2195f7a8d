"""Compiles one kernel in a process of its own, which takes along what LLVM would keep: a hundred megabytes and more."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from llvmlite import binding

_SOURCES = Path(__file__).parents[2]
_LONGEST_S = 300
_TOLD = 400
"""Letters of what a compiler said at last."""


def machine_for(name: str, features: str) -> Any:
    """What code is made for, in this process."""
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    target = binding.Target.from_triple(binding.get_process_triple())
    return target.create_target_machine(cpu=name, features=features, opt=3, jit=True)


def compile_apart(kernel: str, name: str, features: str, sizes: tuple[int, ...]) -> bytes:
    """The object code of what ``<kernel>_module(*sizes)`` in ``<kernel>_code`` writes, for such a processor.

    Raises RuntimeError where there is none to be had, OSError where no process can be started.
    """
    path = os.pathsep.join(filter(None, [str(_SOURCES), os.environ.get("PYTHONPATH")]))
    wanted = json.dumps([kernel, name, features, sizes])
    try:
        done = subprocess.run(
            [sys.executable, "-m", __name__, wanted],
            env=os.environ | {"PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=_LONGEST_S,
        )
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"{kernel} is not compiled after {_LONGEST_S} s") from error
    if done.returncode or not done.stdout:
        said = done.stderr.decode(errors="replace").strip()[-_TOLD:]
        raise RuntimeError(f"the compiler of {kernel} ended with {done.returncode}: {said}")
    return done.stdout


def main(wanted: str) -> None:
    """Write what is wanted to standard output."""
    kernel, name, features, sizes = json.loads(wanted)
    code = importlib.import_module(f"kindling_engine.jit.{kernel}_code")
    sys.stdout.buffer.write(_compile(getattr(code, f"{kernel}_module")(*sizes), machine_for(name, features)))


def _compile(module: Any, machine: Any) -> bytes:
    module.triple = machine.triple
    parsed = binding.parse_assembly(str(module))
    parsed.verify()
    passes = binding.create_pass_builder(machine, binding.create_pipeline_tuning_options(speed_level=3))
    passes.getModulePassManager().run(parsed, passes)
    return bytes(machine.emit_object(parsed))


if __name__ == "__main__":
    main(sys.argv[1])
