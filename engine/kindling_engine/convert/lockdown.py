"""Takes from a process what a reader of strangers' files does not need: the network, programs, endless resources."""

import ctypes
import resource
from contextlib import suppress
from pathlib import Path

_PR_SET_NO_NEW_PRIVS = 38
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_SPARE_BYTES = 1 << 30
_CPU_S = 600
_FILES = 64


def lockdown(*, input_bytes: int) -> None:
    """Bound memory, files and time by the size of the input, and leave the network where the kernel lets us.

    Memory is counted from what is mapped now, libraries included; a tensor may be there four times.
    """
    most = _mapped_bytes() + 4 * input_bytes + _SPARE_BYTES
    for kind, limit in (
        (resource.RLIMIT_AS, most),
        (resource.RLIMIT_FSIZE, 2 * input_bytes + _SPARE_BYTES),
        (resource.RLIMIT_NOFILE, _FILES),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_CPU, _CPU_S),
        # Threads of the libraries are there already; a new process cannot be.
        (resource.RLIMIT_NPROC, 0),
    ):
        with suppress(OSError, ValueError):
            resource.setrlimit(kind, (limit, limit))
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        # As root without a new user; refused by some kernels for others, and then the network stays, unused.
        if libc.unshare(_CLONE_NEWNET) != 0:
            libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET)


def _mapped_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
