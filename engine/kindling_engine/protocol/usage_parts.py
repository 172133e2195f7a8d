"""A usage log is files of a bounded length: how long it takes to open it, and what it takes up, do not depend on how
long a replica lives.

The first is named as the log, ``name.log``, those behind it ``name~2.log``, ``name~3.log`` and so on; each is a log of
its own, with an id of its own, and the last one is written.
"""

import fcntl
import os
import re
from pathlib import Path

MOST_BYTES = 32 * 2**20
"""Of one file: some 50,000 requests, which are read in a fifth of a second when it is opened again."""
_PART = re.compile(r"~([1-9][0-9]{0,8})")


def part_path(path: Path, number: int) -> Path:
    """The file with this ``number``, from 1 on, of the log at ``path``."""
    return path if number == 1 else path.with_name(f"{path.stem}~{number}{path.suffix}")


def part_newest(path: Path) -> int:
    """The number of the last file of the log at ``path`` that is there; 1 for none."""
    newest = 1
    for name in (one.name for one in path.parent.iterdir()):
        if name.startswith(path.stem) and name.endswith(path.suffix):
            found = _PART.fullmatch(name[len(path.stem) : len(name) - len(path.suffix)])
            newest = max(newest, int(found[1]) if found else 1)
    return newest


def part_delete(path: Path, size_bytes: int) -> bool:
    """Delete a file that nobody writes and that has not grown beyond ``size_bytes``; False if it is not like that. One
    that is gone is deleted. Errors: OSError.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return True
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        if os.fstat(file.fileno()).st_size != size_bytes:
            return False
        path.unlink()
    return True
