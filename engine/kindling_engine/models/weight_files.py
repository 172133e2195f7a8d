"""Which file of a model folder holds which tensor, with everything refused that is not whole safetensors."""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from kindling_engine.models.errors import ModelError

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
_OTHER_FORMATS = {
    ".bin": "a pickle, and loading one can run any code",
    ".pt": "a pickle, and loading one can run any code",
    ".pth": "a pickle, and loading one can run any code",
    ".ckpt": "a pickle, and loading one can run any code",
    ".gguf": "in GGUF, which is not served",
    ".h5": "in TensorFlow's format",
    ".msgpack": "in Flax's format",
    ".onnx": "in ONNX",
}


def file_index(folder: Path) -> dict[str, str]:
    """The file's name of each tensor. Raises ModelError, naming the file that is absent, unreadable or refused."""
    if (folder / INDEX).is_file():
        return _index_read(folder)
    if not (folder / SINGLE).is_file():
        raise ModelError("weights_missing", _absence(folder))
    with weights_open(folder / SINGLE) as handle:
        return dict.fromkeys(handle.keys(), SINGLE)


def weights_open(path: Path) -> Any:
    """A memory-mapped safetensors file; its header must cover the file exactly, so a truncated one is refused."""
    try:
        return safe_open(str(path), framework="pt", device="cpu")
    except (SafetensorError, OSError) as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise ModelError(
            "weights_unreadable",
            f"{path.name} cannot be read ({reason}). It may be truncated: fetch it again.",
        ) from error


def _index_read(folder: Path) -> dict[str, str]:
    try:
        weight_map = json.loads((folder / INDEX).read_bytes())["weight_map"]
        # Names only: a path in an index must not lead out of the folder.
        found = {str(name): Path(str(file_name)).name for name, file_name in weight_map.items()}
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise ModelError("weights_index", f"{INDEX} is malformed.") from error
    files = sorted(set(found.values()))
    for file_name in files:
        if not file_name.endswith(".safetensors"):
            raise ModelError("weights_unreadable", f"{INDEX} names {file_name}; only safetensors are read.")
        if not (folder / file_name).is_file():
            raise ModelError(
                "weights_missing", f"{INDEX} names {file_name}, which the folder does not hold; fetch it too."
            )
    return found


def _absence(folder: Path) -> str:
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        other = _OTHER_FORMATS.get(path.suffix.lower())
        if other is not None:
            return (
                f"The model folder holds no {SINGLE}; {path.name} is {other}. "
                "Use a version of the model in safetensors."
            )
    return f"The model folder holds neither {SINGLE} nor {INDEX}; only safetensors are read."
