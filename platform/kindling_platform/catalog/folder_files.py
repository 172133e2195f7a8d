"""Reads the files of a model folder that are large or may be something else than they are called."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any

from kindling_engine.protocol.adapter_extras import card_licence
from kindling_engine.protocol.safetensors_header import (
    LENGTH,
    HeaderRefused,
    TensorEntry,
    header_length,
    parse_header,
)
from kindling_platform.common.errors import KindlingError

MAX_CONFIG_BYTES = 1024 * 1024
HASHED_WHOLE_BYTES = 64 * 1024 * 1024
SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
ADAPTER = "adapter_model.safetensors"
LFS_BEGINS = b"version https://git-lfs.github.com/spec/"


def config_read(path: Path) -> dict[str, Any]:
    """The object in config.json.

    Raises:
        KindlingError: model_folder_invalid, also for what is no folder of a model but of something else.
    """
    try:
        content = (path / "config.json").read_bytes()
    except OSError as error:
        _stranger_refuse(path)
        raise invalid(f"{path} has no readable config.json.") from error
    _pointer_refuse(path / "config.json", content)
    try:
        config = json.loads(content[:MAX_CONFIG_BYTES])
    except ValueError as error:
        raise invalid(f"{path}/config.json is not valid JSON.") from error
    if not isinstance(config, dict):
        raise invalid(f"{path}/config.json is not a JSON object.")
    return config


def weights_find(path: Path) -> list[Path]:
    """The files that hold the model's weights: beside them may lie an adapter's, or the same ones in one file.

    Raises:
        KindlingError: model_folder_invalid.
    """
    if (path / INDEX).is_file():
        return [path / name for name in _names_in_index(path / INDEX)]
    if (path / SINGLE).is_file():
        return [path / SINGLE]
    found = [file for file in sorted(path.glob("*.safetensors")) if file.name != ADAPTER]
    if not found:
        _stranger_refuse(path)
        raise invalid(f"{path} holds no .safetensors files; other formats are not served.")
    return found


def tokenizer_check(path: Path) -> None:
    """Whether there is a tokenizer.json.

    Raises:
        KindlingError: model_folder_invalid.
    """
    file = path / "tokenizer.json"
    if not file.is_file():
        raise invalid(f"{path} has no tokenizer.json.")
    with _reading(file), file.open("rb") as stream:
        _pointer_refuse(file, stream.read(len(LFS_BEGINS)))


def parameters_count(file: Path) -> int:
    """How many numbers a file of weights holds.

    Raises:
        KindlingError: model_folder_invalid.
    """
    with _reading(file), file.open("rb") as stream:
        size = file.stat().st_size
        first = stream.read(LENGTH.size)
        _pointer_refuse(file, first + stream.read(len(LFS_BEGINS) - LENGTH.size))
        stream.seek(LENGTH.size)
        try:
            entries = parse_header(stream.read(header_length(first, size)), size)
        except HeaderRefused as refused:
            raise invalid(f"{file.name}: {refused}.") from refused
    return sum(_numbers(entry) for entry in entries)


def licence_read(path: Path) -> str:
    """What the front matter of the model's card says.

    Raises:
        KindlingError: model_folder_invalid.
    """
    card = path / "README.md"
    if not card.is_file():
        return ""
    with _reading(card):
        return card_licence(card.read_text(encoding="utf-8", errors="replace"))


def revision_read(path: Path) -> str:
    """Names, sizes and beginnings of the files: enough to tell versions apart without reading 100 GB twice.

    Raises:
        KindlingError: model_folder_invalid.
    """
    whole = hashlib.sha256()
    files = [file for file in path.iterdir() if file.is_file() and not file.name.startswith(".")]
    # How an embedding model pools lies one level down.
    for file in sorted([*files, *path.glob("[0-9]_*/config.json")]):
        part = hashlib.sha256()
        with _reading(file), file.open("rb") as stream:
            part.update(stream.read(HASHED_WHOLE_BYTES))
            size = file.stat().st_size
        whole.update(f"{file.relative_to(path)}\0{size}\0{part.hexdigest()}\n".encode())
    return whole.hexdigest()


def invalid(message: str) -> KindlingError:
    return KindlingError("model_folder_invalid", message)


def _names_in_index(index: Path) -> list[str]:
    try:
        with _reading(index):
            content = index.read_bytes()
        _pointer_refuse(index, content)
        # Names only: a path in an index must not lead out of the folder.
        return sorted({Path(str(name)).name for name in json.loads(content)["weight_map"].values()})
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise invalid(f"{index.name} does not say which file holds which weights.") from error


def _numbers(entry: TensorEntry) -> int:
    """As many as a tensor stands for: MXFP4 has two in a byte, and bytes with the scales of others."""
    packed = entry.dtype == "U8"
    if packed and entry.name.endswith("_scales"):
        return 0
    return prod(entry.shape) * (2 if packed and entry.name.endswith("_blocks") else 1)


def _stranger_refuse(path: Path) -> None:
    """Name what a folder holds that is no model as we serve them."""
    if (path / "adapter_config.json").is_file():
        raise invalid(
            f"{path} is an adapter, not a model: start with the model that it was trained on, then "
            f"`./kindling adapters push {path}`."
        )
    gguf = next((file.name for file in sorted(path.glob("*.gguf"))), None)
    if gguf is not None:
        raise invalid(
            f"{path} holds a model in GGUF ({gguf}), which is not served; fetch it in safetensors, with its "
            "config.json and tokenizer.json."
        )


def _pointer_refuse(file: Path, beginning: bytes) -> None:
    if beginning.startswith(LFS_BEGINS):
        raise invalid(
            f"{file.name} is a pointer of Git LFS, not the file itself: run `git lfs pull` in {file.parent}."
        )


@contextmanager
def _reading(file: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        text = f"{file.name} cannot be read (it is not there, or a link to a file that is not there)."
        raise invalid(text) from error
    except OSError as error:
        raise invalid(f"{file.name} cannot be read ({error.strerror}).") from error
