"""What the C library's heap does while a model is loaded, where that library is glibc.

Once something large has been freed, glibc takes blocks of up to that size from its heap. Weights would lie there among
what was joined, widened and packed, with gaps that are filled by what steps leave for a moment, in another order each
time: the bench's shape took 14 to 22 % more memory than its weights and cache, by luck (ADR 48).
"""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt(3)
_APART_BYTES = 256 << 10
_MOST_BYTES = 32 << 20
"""What glibc itself would come to in time; it keeps twice as much at the heap's end for what comes next."""


@contextmanager
def blocks_apart() -> Iterator[None]:
    """Meanwhile each large block comes from the system by itself, and goes back to it whole. Afterwards what steps need
    comes from the heap again, as clearing it anew would cost them a tenth.
    """
    _set(_MMAP_THRESHOLD, _APART_BYTES)
    try:
        yield
    finally:
        heap_trim()
        _set(_MMAP_THRESHOLD, _MOST_BYTES)
        _set(_TRIM_THRESHOLD, 2 * _MOST_BYTES)


def heap_trim() -> None:
    """Give back what was freed and lies between what is in use, where the C library can."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _set(parameter: int, size: int) -> None:
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(parameter, size)
