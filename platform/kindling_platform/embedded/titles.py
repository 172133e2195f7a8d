"""What `ps`, `top` and `/proc` show of a process that was forked, and so has its parent's words."""

import contextlib
import ctypes
from pathlib import Path

PR_SET_NAME = 15
# Of /proc/self/stat, counted from behind the name in brackets.
ARG_START, ARG_END = 45, 46
ENV_START, ENV_END = 47, 48


def title_set(title: str) -> None:
    """Write a title over the command line, as far as there is room, and its last word as the name of the thread."""
    word = title.rsplit(maxsplit=1)[-1].encode()[:15]
    ctypes.CDLL(None).prctl(PR_SET_NAME, ctypes.create_string_buffer(word), 0, 0, 0)
    _overwrite(ARG_START, ARG_END, title.encode())


def environment_hide() -> None:
    """Write over what the parent was started with; the fork's own environment lies elsewhere, once all of it is set.

    Without this a fork that was not given a secret would still show it.
    """
    _overwrite(ENV_START, ENV_END, b"")


def _overwrite(first: int, last: int, text: bytes) -> None:
    with contextlib.suppress(OSError, ValueError, IndexError):
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        start, room = int(fields[first]), int(fields[last]) - int(fields[first])
        # A kernel that hides where it lies says 0.
        if start and room > 0:
            ctypes.memmove(start, text[: room - 1].ljust(room, b"\0"), room)
