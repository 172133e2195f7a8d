"""Reads the header of a safetensors file without trusting it: every claim is checked before it is used.

Layout of a file: a little-endian u64 with the header's length, the header as JSON (name → dtype, shape, data_offsets),
then the data without gaps (https://huggingface.co/docs/safetensors).
"""

import json
import struct
from dataclasses import dataclass
from math import prod
from typing import Any

LENGTH = struct.Struct("<Q")
MAX_HEADER_BYTES = 16 * 1024 * 1024
MAX_TENSORS = 100_000
MAX_QUOTES = 12 * MAX_TENSORS  # an entry has ten
MAX_DIMENSION = 1 << 40
DTYPE_BYTES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1,
    "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1,
}  # fmt: skip


class HeaderRefused(ValueError):
    """The header is not one that may be used; the text says why."""


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """One tensor's claim: begin and end are byte offsets behind the header."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def header_length(first: bytes, file_size: int) -> int:
    """The header's length, from the first 8 bytes, once it is known to be plausible.

    Raises:
        HeaderRefused: too short, too long, or longer than the file.
    """
    if len(first) < LENGTH.size:
        raise HeaderRefused("the file is shorter than the 8 bytes that every safetensors file begins with")
    size = int(LENGTH.unpack_from(first)[0])
    if size > MAX_HEADER_BYTES:
        raise HeaderRefused(f"the header claims {size:,} bytes; at most {MAX_HEADER_BYTES:,} are allowed")
    if LENGTH.size + size > file_size:
        raise HeaderRefused(f"the header claims {size:,} bytes, more than the file's {file_size:,}")
    return size


def parse_header(header: bytes, file_size: int) -> list[TensorEntry]:
    """The tensors of a file, from its header's JSON bytes.

    Raises:
        HeaderRefused: not JSON, duplicate names, an unknown dtype, a shape that does not fit its bytes, or data with
            gaps, overlaps or an end outside the file.
    """
    # Counted before parsing, because parsed objects take many times the room of their text.
    if header.count(b"{") > MAX_TENSORS + 2 or header.count(b'"') > MAX_QUOTES:
        raise HeaderRefused(f"the header names more than {MAX_TENSORS:,} tensors or too much besides")
    try:
        parsed = json.loads(header.decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise HeaderRefused(f"the header is not valid JSON: {str(error)[:200]}") from error
    if not isinstance(parsed, dict):
        raise HeaderRefused("the header is not a JSON object")
    entries = [_entry(name, value) for name, value in parsed.items() if name != "__metadata__"]
    if not entries:
        raise HeaderRefused("the file holds no tensors")
    offset = 0
    for entry in sorted(entries, key=lambda entry: (entry.begin, entry.end)):
        if entry.begin != offset:
            raise HeaderRefused(f"the data of {entry.name[:100]!r} overlaps another tensor's or leaves a gap")
        offset = entry.end
    data_bytes = file_size - LENGTH.size - len(header)
    if offset != data_bytes:
        raise HeaderRefused(f"the header describes {offset:,} bytes of data; the file holds {data_bytes:,}")
    return entries


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a name occurs twice")
    return result


def _entry(name: str, value: Any) -> TensorEntry:
    shown = repr(name[:100])
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        raise HeaderRefused(f"the entry of {shown} must hold dtype, shape and data_offsets")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPE_BYTES:
        raise HeaderRefused(f"{shown} has the unknown dtype {str(dtype)[:40]!r}")
    if not _integers(shape) or len(shape) > 8 or any(size > MAX_DIMENSION for size in shape):
        raise HeaderRefused(f"{shown} has a shape that is not a short list of sizes")
    if not _integers(offsets) or len(offsets) != 2 or offsets[1] < offsets[0]:
        raise HeaderRefused(f"{shown} has data_offsets that are not a begin and an end")
    if offsets[1] - offsets[0] != prod(shape) * DTYPE_BYTES[dtype]:
        raise HeaderRefused(f"{shown} needs {prod(shape) * DTYPE_BYTES[dtype]:,} bytes but claims others")
    return TensorEntry(name, dtype, tuple(shape), offsets[0], offsets[1])


def _integers(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(item, int) and not isinstance(item, bool) and item >= 0 for item in value
    )
