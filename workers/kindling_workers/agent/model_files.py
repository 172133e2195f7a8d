"""What lies in a model's folder, to tell whether an engine that has refused it may see something else now."""

import os
from contextlib import suppress

ModelFiles = frozenset[tuple[str, int, int, int]]


def model_files(folder: str) -> ModelFiles:
    """Name, size and times of each file, as they are behind links, and of those one level down; nothing for a folder
    that cannot be read. The second time moves with owner and rights as well.
    """
    found = set()
    for place in (folder, *_folders(folder)):
        with suppress(OSError), os.scandir(place) as entries:
            for entry in entries:
                found.add((os.path.relpath(entry.path, folder), *_size_and_times(entry)))
    return frozenset(found)


def _folders(folder: str) -> list[str]:
    with suppress(OSError), os.scandir(folder) as entries:
        return [entry.path for entry in entries if entry.is_dir()]
    return []


def _size_and_times(entry: os.DirEntry[str]) -> tuple[int, int, int]:
    try:
        seen = entry.stat()
    except OSError:
        return -1, 0, 0
    return seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns
