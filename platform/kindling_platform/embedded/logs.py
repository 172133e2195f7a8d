"""Logs of processes that we started: their last lines, and a new one once they are long."""

import contextlib
import os
import re
import shutil
from pathlib import Path

MOST_BYTES = 16 * 2**20
# What comes between two looks; a log that was long before anybody looked is cut to its end.
SLACK_BYTES = 64 * 2**20
LOOK_EVERY_S = 30.0
TAIL_BYTES, LINE_BYTES = 16_384, 200
SECRET = re.compile(r"kd_[a-z]+_[0-9A-Za-z]+|://[^@\s]*@")


def secrets_hide(text: str) -> str:
    """The text without API keys and without the accounts in addresses, to be shown to whoever looks on."""
    return SECRET.sub("…", text)


def log_tail(path: Path, lines: int = 12) -> str:
    """The last lines of a log, for the sentence that says why a start failed; of one that has just begun, the old
    one's before them.
    """
    found = _last_lines(path, lines)
    if len(found) < lines:
        found = _last_lines(_old(path), lines - len(found)) + found
    return "\n".join(found)


def log_roll(path: Path, most_bytes: int = MOST_BYTES) -> None:
    """Begin a log anew once it is longer; one old log is kept, as `….log.1`.

    Its end is copied and it is emptied, since the process goes on appending to the same file; a line or two that it
    writes between the two are lost. A disk without room for the copy leaves the log as it is.
    """
    copy = path.with_suffix(".log.new")
    try:
        size = path.stat().st_size
        if size <= most_bytes:
            return
        with path.open("rb") as log, copy.open("wb") as kept:
            os.fchmod(kept.fileno(), 0o600)
            if size > MOST_BYTES + SLACK_BYTES:
                log.seek(size - MOST_BYTES)
                log.readline()
            shutil.copyfileobj(log, kept, 1 << 20)
        copy.replace(_old(path))
        os.truncate(path, 0)
    except OSError:
        pass
    finally:
        with contextlib.suppress(OSError):
            copy.unlink(missing_ok=True)


def _old(path: Path) -> Path:
    return path.with_suffix(".log.1")


def _last_lines(path: Path, lines: int) -> list[str]:
    try:
        with path.open("rb") as log:
            log.seek(0, os.SEEK_END)
            start = max(0, log.tell() - max(TAIL_BYTES, lines * LINE_BYTES))
            log.seek(start)
            if start:
                log.readline()  # half a line may hold half a secret, which nobody would know for one
            return log.read().decode(errors="replace").splitlines()[-lines:]
    except FileNotFoundError:
        return []
