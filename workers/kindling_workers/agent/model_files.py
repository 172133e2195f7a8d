"""What lies in a model's folder, to tell whether an engine that has refused it may see something else now."""

import os

ModelFiles = frozenset[tuple[str, int, int]]


def model_files(folder: str) -> ModelFiles:
    """Name, size and time of each file, as they are behind links; nothing for a folder that cannot be read."""
    found = set()
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                found.add((entry.name, *_size_and_time(entry)))
    except OSError:
        return frozenset()
    return frozenset(found)


def _size_and_time(entry: os.DirEntry[str]) -> tuple[int, int]:
    try:
        seen = entry.stat()
    except OSError:
        return -1, 0
    return seen.st_size, seen.st_mtime_ns
