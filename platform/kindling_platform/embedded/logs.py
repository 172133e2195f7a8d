"""Logs of processes that we started: their last lines, and a new one once they are long."""

import contextlib
import os
import shutil
from pathlib import Path

MOST_BYTES = 16 * 2**20
LOOK_EVERY_S = 30.0


def log_tail(path: Path, lines: int = 12) -> str:
    """The last lines of a log, for the sentence that says why a start failed."""
    try:
        with path.open("rb") as log:
            log.seek(0, os.SEEK_END)
            log.seek(max(0, log.tell() - 16_384))
            return "\n".join(log.read().decode(errors="replace").splitlines()[-lines:])
    except FileNotFoundError:
        return ""


def log_roll(path: Path, most_bytes: int = MOST_BYTES) -> None:
    """Begin a log anew once it is longer; one old log is kept, as `….log.1`.

    It is copied and emptied, since the process goes on appending to the same file; a line or two that it writes between
    the two are lost. A disk without room for the copy leaves the log as it is.
    """
    copy = path.with_suffix(".log.new")
    try:
        if path.stat().st_size <= most_bytes:
            return
        with path.open("rb") as log, copy.open("wb") as kept:
            os.fchmod(kept.fileno(), 0o600)
            shutil.copyfileobj(log, kept, 1 << 20)
        copy.replace(path.with_suffix(".log.1"))
        os.truncate(path, 0)
    except OSError:
        with contextlib.suppress(OSError):
            copy.unlink(missing_ok=True)
