"""Tensors of a checkpoint folder, single-file or sharded, memory-mapped and read one at a time."""

from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from safetensors import SafetensorError
from torch import Tensor

from kindling_engine.models.errors import ModelError
from kindling_engine.models.folder import json_object_read
from kindling_engine.models.fp8 import SCALE_ENDINGS, fp8_widen
from kindling_engine.models.mapped_pages import MappedPages
from kindling_engine.models.quantization import Fp8Weights, Mxfp4Weights, quantization_read
from kindling_engine.models.weight_files import file_index, weights_open

LoadProgress = Callable[[int, int], None]
"""Hears bytes read and bytes in all."""

_ROWS_BYTES = 16 << 20
_PLAIN = (torch.float32, torch.bfloat16, torch.float16)


class Checkpoint:
    """Context manager over a folder's safetensors; ``take`` reads one tensor at a time, so the peak stays
    low.

    Raises ModelError for a format that is not served, before anything large is read. ``progress`` hears how far
    the reading is.
    """

    def __init__(
        self, folder: Path, *, dtype: torch.dtype, device: torch.device, progress: LoadProgress | None = None
    ) -> None:
        self._folder = folder
        self._dtype = dtype
        self._device = device
        self._quantization = quantization_read(json_object_read(folder / "config.json"))
        self._file_of = file_index(folder)
        self._taken: set[str] = set()
        self._open: dict[str, Any] = {}
        self._pages = MappedPages(folder)
        self._last: Tensor | None = None
        self._progress = progress
        self._read_bytes = 0
        self._all_bytes = sum((folder / name).stat().st_size for name in set(self._file_of.values()))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._last = None
        self._pages.release_all()
        for handle in self._open.values():
            handle.__exit__(kind, error, trace)
        self._open.clear()
        if error is None and self._progress is not None:
            self._progress(self._all_bytes, self._all_bytes)

    @property
    def dtype(self) -> torch.dtype:
        """Of the tensors that ``take`` gives."""
        return self._dtype

    @property
    def device(self) -> torch.device:
        """Likewise."""
        return self._device

    @property
    def quantization(self) -> Fp8Weights | Mxfp4Weights | None:
        """The format that ``config.json`` says of the weights; None for plain ones."""
        return self._quantization

    @property
    def folder(self) -> Path:
        return self._folder

    def __contains__(self, name: str) -> bool:
        return self._name(name) in self._file_of

    def names_left(self) -> list[str]:
        """Tensors in the files that nobody has taken yet."""
        return sorted(self._file_of.keys() - self._taken)

    def names_meant(self) -> list[str]:
        """All tensors in the files but the scales of others."""
        names = self._file_of.keys()
        if not isinstance(self._quantization, Fp8Weights):
            return sorted(names)
        return sorted(names - {name + ending for name in names for ending in SCALE_ENDINGS})

    def peek(self, name: str) -> Tensor:
        """A tensor as it is stored."""
        return self._stored(name)

    def plain(self, name: str) -> Tensor:
        """A tensor on the CPU as it is stored, but FP8 in fp32; raises ModelError as ``take`` does, other than for a
        shape.
        """
        tensor = self._stored(name)
        if tensor.dtype == torch.float8_e4m3fn:
            return self._widened(name, tensor)
        # Beside weights, modules keep numbers that count something, and flags.
        if tensor.itemsize == 1 and tensor.dtype != torch.bool:
            raise _dtype_refused(name, tensor)
        # What nobody converts or sends elsewhere would stay a view of the file, whose pages come and go.
        return tensor.clone() if self._device.type == "cpu" and tensor.dtype == self._dtype else tensor

    def take(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """One tensor in the serving dtype and on the serving device.

        Raises ModelError that names the tensor if it is absent, misshapen or of a dtype that is not served.
        """
        return self._served(name, self._shaped(name, shape))

    def parts(self, name: str, shape: tuple[int, ...]) -> Iterator[Tensor]:
        """As ``take``, but what lies along the first axis one by one."""
        for part in self._shaped(name, shape):
            yield self._served(name, part)

    def packed(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """Bytes as they are stored; raises ModelError as ``take`` does."""
        tensor = self._shaped(name, shape)
        if tensor.dtype != torch.uint8:
            shown = str(tensor.dtype).removeprefix("torch.")
            raise ModelError("weights_dtype", f"Tensor {name} is {shown}, where MXFP4 has bytes (uint8).")
        return tensor

    def table(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """As ``take``, but for a CPU as it is stored: whoever looks up rows can widen those, and needs no others."""
        tensor = self._shaped(name, shape)
        if self._device.type == "cpu" and tensor.dtype in _PLAIN:
            return tensor
        return self._served(name, tensor)

    def rows(self, name: str) -> Iterator[Tensor]:
        """A matrix in fp32 on the device, some megabytes of rows at a time; raises ModelError as ``take`` does."""
        tensor = self._stored(name)
        if tensor.dtype == torch.float8_e4m3fn:
            tensor = self._widened(name, tensor)
        for part in tensor.split(max(1, _ROWS_BYTES // (4 * tensor.shape[1]))):
            yield part.to(self._device).to(torch.float32)

    def _shaped(self, name: str, shape: tuple[int, ...]) -> Tensor:
        tensor = self._stored(name)
        if tuple(tensor.shape) != shape:
            raise ModelError(
                "weights_shape",
                f"Tensor {name} has shape {tuple(tensor.shape)}; config.json implies {shape}.",
            )
        return tensor

    def _served(self, name: str, tensor: Tensor) -> Tensor:
        if tensor.dtype == torch.float8_e4m3fn:
            tensor = self._widened(name, tensor)
        elif tensor.dtype not in _PLAIN:
            raise _dtype_refused(name, tensor)
        return tensor.to(device=self._device, dtype=self._dtype)

    def _widened(self, name: str, tensor: Tensor) -> Tensor:
        scale = next((name + ending for ending in SCALE_ENDINGS if name + ending in self), None)
        if scale is None:
            raise ModelError(
                "weights_missing", f"Tensor {name} is FP8, but the checkpoint has no scale for it."
            )
        quantization = self._quantization
        block = quantization.block if isinstance(quantization, Fp8Weights) else (128, 128)
        return fp8_widen(name, tensor, self._stored(scale), block)

    def _name(self, name: str) -> str:
        """The name in the files: a checkpoint of a model without its head lacks the prefix ``model.``."""
        bare = name.removeprefix("model.")
        return bare if name not in self._file_of and bare in self._file_of else name

    def _stored(self, name: str) -> Tensor:
        name = self._name(name)
        if name not in self._file_of:
            raise ModelError("weights_missing", f"The checkpoint has no tensor {name}.")
        self._taken.add(name)
        # Whoever asks for the next one has laid out the last one, or looks some rows of it up now and then.
        self._release_last()
        file_name = self._file_of[name]
        try:
            tensor: Tensor = self._handle(file_name).get_tensor(name)
        except SafetensorError as error:
            raise ModelError("weights_missing", f"{file_name} holds no tensor {name}.") from error
        if self._progress is not None:
            self._read_bytes += tensor.nbytes
            self._progress(min(self._read_bytes, self._all_bytes), self._all_bytes)
        self._last = tensor
        return tensor

    def _release_last(self) -> None:
        if self._last is not None:
            self._pages.release(self._last)
            self._last = None

    def _handle(self, file_name: str) -> Any:
        if file_name not in self._open:
            self._open[file_name] = weights_open(self._folder / file_name)
        return self._open[file_name]


def _dtype_refused(name: str, tensor: Tensor) -> ModelError:
    shown = str(tensor.dtype).removeprefix("torch.")
    return ModelError(
        "weights_dtype", f"Tensor {name} is {shown}; fp32, bf16, fp16 and FP8 (e4m3) are served."
    )
