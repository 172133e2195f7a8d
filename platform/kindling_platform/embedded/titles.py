"""What `ps` and `top` show of a process that was forked, and so has its parent's command line."""

import contextlib
import ctypes
from pathlib import Path

PR_SET_NAME = 15
# Of /proc/self/stat, counted from behind the name in brackets.
ARG_START, ARG_END = 45, 46


def title_set(title: str) -> None:
    """Write a title over the command line, as far as there is room, and its last word as the name of the thread."""
    word = title.rsplit(maxsplit=1)[-1].encode()[:15]
    ctypes.CDLL(None).prctl(PR_SET_NAME, ctypes.create_string_buffer(word), 0, 0, 0)
    with contextlib.suppress(OSError, ValueError, IndexError):
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        start, room = int(fields[ARG_START]), int(fields[ARG_END]) - int(fields[ARG_START])
        # A kernel that hides where it lies says 0.
        if start and room > 0:
            ctypes.memmove(start, title.encode()[: room - 1].ljust(room, b"\0"), room)
