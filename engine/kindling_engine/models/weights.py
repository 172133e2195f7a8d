"""Tensors of a checkpoint folder, single-file or sharded, read through mmap."""

import json
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from kindling_engine.models.errors import ModelError

_SINGLE = "model.safetensors"
_INDEX = "model.safetensors.index.json"


class Checkpoint:
    """Context manager over a folder's safetensors; ``take`` reads one tensor at a time, so the peak stays
    low.
    """

    def __init__(self, folder: Path, *, dtype: torch.dtype, device: torch.device) -> None:
        self._folder = folder
        self._dtype = dtype
        self._device = device
        self._file_of = _file_index(folder)
        self._open: dict[str, Any] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._open.values():
            handle.__exit__(kind, error, trace)
        self._open.clear()

    def __contains__(self, name: str) -> bool:
        return name in self._file_of

    def take(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """One tensor in the serving dtype and on the serving device; raises ModelError if it is absent or
        misshapen.
        """
        if name not in self._file_of:
            raise ModelError("weights_missing", f"The checkpoint has no tensor {name}.")
        tensor: Tensor = self._handle(self._file_of[name]).get_tensor(name)
        if tuple(tensor.shape) != shape:
            raise ModelError(
                "weights_shape",
                f"Tensor {name} has shape {tuple(tensor.shape)}; config.json implies {shape}.",
            )
        return tensor.to(device=self._device, dtype=self._dtype)

    def _handle(self, file_name: str) -> Any:
        if file_name not in self._open:
            self._open[file_name] = _safe_open(self._folder / file_name)
        return self._open[file_name]


def _file_index(folder: Path) -> dict[str, str]:
    if (folder / _INDEX).exists():
        try:
            weight_map = json.loads((folder / _INDEX).read_bytes())["weight_map"]
            return {str(name): Path(str(file_name)).name for name, file_name in weight_map.items()}
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise ModelError("weights_index", f"{_INDEX} is malformed.") from error
    if not (folder / _SINGLE).exists():
        raise ModelError(
            "weights_missing",
            f"The model folder holds neither {_SINGLE} nor {_INDEX}; only safetensors are read.",
        )
    with _safe_open(folder / _SINGLE) as handle:
        return dict.fromkeys(handle.keys(), _SINGLE)


def _safe_open(path: Path) -> Any:
    try:
        return safe_open(str(path), framework="pt", device="cpu")
    except (SafetensorError, OSError) as error:
        raise ModelError("weights_unreadable", f"{path.name} cannot be read: {error}.") from error
