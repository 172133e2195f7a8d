"""The locked-down process: reads one pickle for its tensors alone, and writes them as safetensors.

``python -m kindling_engine.convert.reader <from> <to>`` answers with one JSON object: ``{"tensors": n}`` or ``{"error":
code, "message": …}``.
"""

import errno
import json
import os
import sys
from pathlib import Path
from typing import Any

from kindling_engine.convert.lockdown import lockdown

_PARTIAL = ".partial"


class Refused(Exception):
    """The file is not one to convert; the first argument is a code, the second says why."""


def main() -> int:
    source, target = Path(sys.argv[1]), Path(sys.argv[2])
    import safetensors.torch
    import torch

    del safetensors, torch
    try:
        lockdown(input_bytes=source.stat().st_size)
        answer: dict[str, Any] = {"tensors": convert(source, target)}
    except Refused as refused:
        answer = {"error": refused.args[0], "message": refused.args[1]}
    except OSError as error:
        code = "disk_full" if error.errno in {errno.ENOSPC, errno.EFBIG, errno.EDQUOT} else "unreadable"
        answer = {"error": code, "message": f"{error.strerror or error}."}
    except MemoryError:
        answer = {"error": "too_large", "message": "The file wants more memory than its size allows for."}
    print(json.dumps(answer))  # noqa: T201 - the answer to the process that asked
    return 1 if "error" in answer else 0


def convert(source: Path, target: Path) -> int:
    """Write the tensors of a pickle to ``target`` in one step; how many there were. Raises Refused, OSError."""
    from safetensors.torch import save_file

    tensors = tensors_read(source)
    partial = target.with_name(target.name + _PARTIAL)
    try:
        try:
            save_file(tensors, partial, metadata={"format": "pt"})
        except Exception as error:
            # The library tells a full disk in words alone.
            text = str(error)
            if "No space" in text or "File too large" in text:
                raise OSError(errno.ENOSPC, "No space is left for the converted file") from error
            raise Refused("unwritable", f"The tensors cannot be saved: {text[:200]}") from error
        partial.chmod(0o644)
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        # Not `replace`: a file that is there already stays.
        os.link(partial, target)
    finally:
        partial.unlink(missing_ok=True)
    return len(tensors)


def tensors_read(source: Path) -> dict[str, Any]:
    """Name to tensor; torch's unpickler knows no other objects when it is told so. Raises Refused."""
    import torch

    try:
        found = torch.load(source, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:
        # Whatever is not plain weights ends here, and so do broken files.
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise Refused(
            "not_weights", f"{source.name} is no file of plain weights, and nothing else is read: {reason}"
        ) from error
    plain = (torch.float32, torch.float16, torch.bfloat16)
    if not isinstance(found, dict) or not found:
        raise Refused("not_weights", f"{source.name} holds no table of tensors.")
    for name, value in found.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise Refused("not_weights", f"{source.name} holds something that is no named tensor.")
        if value.dtype not in plain or value.layout is not torch.strided:
            raise Refused(
                "dtype", f"Tensor {name[:100]} is {value.dtype}; fp32, bf16 and fp16 are converted."
            )
    # Copies: tensors of a pickle may share memory, which safetensors refuses.
    return {name: value.detach().clone().contiguous() for name, value in found.items()}


if __name__ == "__main__":
    sys.exit(main())
