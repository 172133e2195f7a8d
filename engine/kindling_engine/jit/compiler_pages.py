"""Gives back the compiler's own code once it has done its work.

A process that serves hardly runs it again, and the kernel counts 30 to 80 MB of it as resident: what lies around each
page that was needed. A page that is wanted again is mapped again, from the kernel's cache.
"""

import ctypes
import mmap
from contextlib import suppress
from pathlib import Path

_LIBRARY = "libllvmlite"
_DONTNEED = getattr(mmap, "MADV_DONTNEED", None)


def compiler_pages_release() -> None:
    """Only of what is mapped as code, since nobody has written there; on Linux alone."""
    if _DONTNEED is None:
        return
    with suppress(OSError, AttributeError):
        for begin, end in compiler_code():
            ctypes.CDLL(None).madvise(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), _DONTNEED)


def compiler_code() -> list[tuple[int, int]]:
    """The addresses that the compiler's code is mapped to."""
    spans = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        place, kind, *_, path = line.split()
        if kind == "r-xp" and Path(path).name.startswith(_LIBRARY):
            begin, _, end = place.partition("-")
            spans.append((int(begin, 16), int(end, 16)))
    return spans
