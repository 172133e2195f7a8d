"""Looks at every number of an adapter's file without torch, as an engine does once it is uploaded."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from kindling_engine.protocol.adapter_report import WEIGHTS_NAME, AdapterReport
from kindling_engine.protocol.safetensors_header import LENGTH, TensorEntry, header_length, parse_header

# The bits of a number that are all set in infinity and NaN alike, by what it is stored as.
_EXPONENTS: dict[str, tuple[type[np.unsignedinteger], int]] = {
    "F32": (np.uint32, 0x7F80_0000),
    "F16": (np.uint16, 0x7C00),
    "BF16": (np.uint16, 0x7F80),
}
_SECOND = ("lora_B", "lora_embedding_B")
_AT_ONCE = 1 << 20


def check_adapter_values(report: AdapterReport, path: Path) -> None:
    """Add what is found in a folder whose header has passed. Errors: OSError."""
    weights = path / WEIGHTS_NAME
    size = weights.stat().st_size
    with weights.open("rb") as file:
        header = file.read(header_length(file.read(LENGTH.size), size))
    start = LENGTH.size + len(header)
    seconds = zeros = 0
    for entry in parse_header(header, size):
        finite, zero = _look(weights, entry, start)
        if not finite:
            report.add(
                "values",
                "fail",
                f"{entry.name} contains NaN or infinity.",
                "The training diverged: train again with a lower learning rate, or upload an earlier checkpoint.",
            )
            return
        if any(f".{name}" in entry.name for name in _SECOND):
            seconds += 1
            zeros += zero
    if zeros and zeros == seconds:
        report.add(
            "values",
            "warn",
            "Every lora_B is zero, so the adapter changes nothing.",
            "Upload the weights from the end of the training, not from its start.",
        )
    elif zeros:
        report.add("values", "warn", f"lora_B is zero in {zeros} of {seconds} targets.")
    else:
        report.add("values", "pass", "All numbers are finite, and no lora_B is zero.")


def _look(weights: Path, entry: TensorEntry, start: int) -> tuple[bool, bool]:
    """Whether all numbers of a tensor are finite, and whether all are zero."""
    kind, exponent = _EXPONENTS[entry.dtype]
    count = (entry.end - entry.begin) // np.dtype(kind).itemsize
    zero = True
    for first in range(0, count, _AT_ONCE):
        some: npt.NDArray[np.unsignedinteger] = np.fromfile(
            weights,
            dtype=kind,
            count=min(_AT_ONCE, count - first),
            offset=start + entry.begin + first * np.dtype(kind).itemsize,
        )
        if bool(((some & exponent) == exponent).any()):
            return False, False
        # The highest bit is a sign: zero has two.
        zero = zero and not bool((some << 1).any())
    return True, zero
