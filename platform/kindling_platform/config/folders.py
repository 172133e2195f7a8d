"""The folders below HOME that the web process writes to."""

from contextlib import suppress
from pathlib import Path


def folder_ensure(path: Path) -> Path:
    """Make a folder; where that is not allowed, the first use of it will say so."""
    with suppress(OSError):
        path.mkdir(parents=True, exist_ok=True)
    return path
