"""An fp32 checkpoint read with NumPy alone, since a peer's venv has neither torch nor safetensors."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


class StoredCheckpoint(Mapping[str, Floats]):
    """Weights by name, mapped from ``model.safetensors``, and ``config``; raises ValueError unless all are fp32.

    The format: 8 bytes with the header's length, the header as JSON, then the numbers.
    """

    def __init__(self, folder: Path) -> None:
        self.config: dict[str, Any] = json.loads((folder / "config.json").read_text())
        source = folder / "model.safetensors"
        with source.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            entries: dict[str, Any] = json.loads(file.read(size))
        entries.pop("__metadata__", None)
        if odd := sorted({entry["dtype"] for entry in entries.values()} - {"F32"}):
            raise ValueError(f"{source.name} holds {', '.join(odd)} where fp32 is expected")
        self._entries = entries
        self._bytes = np.memmap(source, dtype=np.uint8, mode="r", offset=8 + size)

    def __getitem__(self, name: str) -> Floats:
        entry = self._entries[name]
        start, end = entry["data_offsets"]
        weight: Floats = self._bytes[start:end].view("<f4").reshape(entry["shape"])
        return weight

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)
