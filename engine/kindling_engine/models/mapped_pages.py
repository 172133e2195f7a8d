"""Gives back pages of a memory-mapped file once they were read.

The kernel counts them as resident in this process for as long as they are mapped in, so that a model would be there
twice while it is laid out anew. A page that is wanted again is read again, mostly from the kernel's cache.
"""

import ctypes
import mmap
from contextlib import suppress
from pathlib import Path

from torch import Tensor

from kindling_engine.models.heap import heap_trim

_LEAST_BYTES = 1 << 20
_ALL_EVERY_BYTES = 64 << 20
"""The kernel maps in pages around those that are read, and small tensors come one by one."""
_DONTNEED = getattr(mmap, "MADV_DONTNEED", None)


class MappedPages:
    """Of the files in a folder. Addresses are looked up on Linux alone, so nothing is given back elsewhere."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()
        self._files: list[range] = []
        self._kept_bytes = 0

    def release(self, tensor: Tensor) -> None:
        """Give back the whole pages of a tensor nobody has written to; one that no file is behind stays as it is."""
        if _DONTNEED is None or tensor.device.type != "cpu":
            return
        self._kept_bytes += tensor.nbytes
        if self._kept_bytes >= _ALL_EVERY_BYTES:
            self.release_all()
            heap_trim()
        elif tensor.nbytes >= _LEAST_BYTES:
            self._release(tensor)

    def release_all(self) -> None:
        """Give back what is mapped of every file: small tensors, and what the kernel has read ahead."""
        if _DONTNEED is not None:
            self._kept_bytes = 0
            for span in files_mapped(self._folder):
                _give_back(span.start, span.stop)

    def _release(self, tensor: Tensor) -> None:
        begin, end = tensor.data_ptr(), tensor.data_ptr() + tensor.nbytes
        if not self._in_file(begin, end):
            self._files = files_mapped(self._folder)
        if self._in_file(begin, end):
            _give_back(begin, end)

    def _in_file(self, begin: int, end: int) -> bool:
        """Dropping pages that no file is behind would lose what they hold."""
        return any(span.start <= begin and end <= span.stop for span in self._files)


def files_mapped(folder: Path) -> list[range]:
    """The addresses of this process that safetensors files of a folder are mapped to."""
    spans = []
    with suppress(OSError):
        for line in Path("/proc/self/maps").read_text().splitlines():
            if line.endswith(".safetensors") and Path("/" + line.partition("/")[2]).parent == folder:
                begin, _, end = line.partition(" ")[0].partition("-")
                spans.append(range(int(begin, 16), int(end, 16)))
    return spans


def _give_back(begin: int, end: int) -> None:
    page = mmap.PAGESIZE
    first, last = -(-begin // page) * page, end // page * page
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).madvise(ctypes.c_void_p(first), ctypes.c_size_t(last - first), _DONTNEED)
