"""``kindling adapters convert <folder>``: ``adapter_model.bin`` to ``adapter_model.safetensors``."""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PICKLE, WEIGHTS = "adapter_model.bin", "adapter_model.safetensors"
MAX_BYTES = 8 << 30
_WITHIN_S = 900.0


def convert_command(arguments: Sequence[str]) -> int:
    """Convert each folder; 0 when all are done, 1 when one was refused, with the reason on stderr."""
    parser = argparse.ArgumentParser(
        prog="kindling adapters convert",
        description=f"Make {WEIGHTS} of {PICKLE}, in a process of its own that reads weights and nothing else.",
    )
    parser.add_argument("folders", nargs="+", type=Path, metavar="folder")
    failed = False
    for folder in parser.parse_args(arguments).folders:
        answer = folder_convert(folder)
        failed |= "error" in answer
        if "error" in answer:
            sys.stderr.write(f"{folder}: {answer['message']} [{answer['error']}]\n")
        else:
            print(f"{folder / WEIGHTS}: {answer['tensors']} tensors")  # noqa: T201 - a command's answer
    return 1 if failed else 0


def folder_convert(folder: Path) -> dict[str, Any]:
    """Convert one folder: ``{"tensors": n}``, or ``error`` and ``message``; nothing half made is left behind."""
    source, target = folder / PICKLE, folder / WEIGHTS
    if target.exists():
        return _refusal("exists", f"{WEIGHTS} is there already.")
    if not source.is_file():
        return _refusal("files_missing", f"There is no {PICKLE}.")
    if source.stat().st_size > MAX_BYTES:
        return _refusal("too_large", f"{PICKLE} is larger than {MAX_BYTES >> 30} GiB.")
    command = [sys.executable, "-m", "kindling_engine.convert.reader", str(source), str(target)]
    try:
        ran = subprocess.run(
            command, capture_output=True, text=True, timeout=_WITHIN_S, check=False, stdin=subprocess.DEVNULL
        )
        answer: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        answer = _refusal("too_slow", f"{PICKLE} was not read within {_WITHIN_S:.0f} seconds.")
    except (IndexError, ValueError):
        answer = _refusal(
            "reader_died", f"The process that read {PICKLE} ended with status {ran.returncode}."
        )
    if "error" in answer:
        target.with_name(f"{target.name}.partial").unlink(missing_ok=True)
    return answer


def _refusal(code: str, message: str) -> dict[str, Any]:
    return {"error": code, "message": message}
