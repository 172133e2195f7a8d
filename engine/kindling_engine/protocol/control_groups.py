"""What control groups leave this process of the machine: a container is given so much of its cores and its memory.

Linux's documents admin-guide/cgroup-v2 (cpu.max, memory.max) and cgroup-v1/memory and scheduler/sched-bwc say what the
files hold. A limit of any group above holds as well.
"""

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")


@dataclass(frozen=True, slots=True)
class ControlGroups:
    """Where their files are, and which are this process's own."""

    root: Path = ROOT
    own: Path = OWN

    def cores(self) -> int:
        """The cores that this process may run on, or as many as it is given time of."""
        least = float(len(os.sched_getaffinity(0)))
        for folder in self._folders("cpu"):
            # Version 1 has a file for each of the two numbers.
            words = _words(folder / "cpu.max") or (
                _words(folder / "cpu.cfs_quota_us") + _words(folder / "cpu.cfs_period_us")
            )
            if len(words) == 2 and all(word.isdigit() for word in words) and int(words[1]):
                least = min(least, int(words[0]) / int(words[1]))
        return max(1, math.ceil(least))

    def memory_bytes(self) -> int | None:
        """What may still be taken, caches of files given up; None where nothing limits it."""
        left = [
            limit - used
            for folder in self._folders("memory")
            if (limit := _number(folder, "memory.max", "memory.limit_in_bytes")) is not None
            and (used := _used(folder)) is not None
        ]
        return max(0, min(left)) if left else None

    def _folders(self, controller: str) -> Iterator[Path]:
        """Own groups and all above, of the one tree of version 2 and of the controller's in version 1."""
        try:
            lines = self.own.read_text().splitlines()
        except OSError:
            return
        for line in lines:
            number, names, path = line.split(":", 2)
            if number != "0" and controller not in names.split(","):
                continue
            top = self.root if number == "0" else self.root / controller
            place = top / path.lstrip("/")
            while place != top and top in place.parents:
                yield place
                place = place.parent
            yield top


def _words(file: Path) -> tuple[str, ...]:
    try:
        return tuple(file.read_text().split())
    except OSError:
        return ()


def _number(folder: Path, *names: str) -> int | None:
    """That of the first file that is there; None for a word such as "max"."""
    found = next((words for name in names if (words := _words(folder / name))), ("",))
    return int(found[0]) if found[0].isdigit() else None


def _used(folder: Path) -> int | None:
    used = _number(folder, "memory.current", "memory.usage_in_bytes")
    if used is None:
        return None
    words = _words(folder / "memory.stat")
    stat = dict(zip(words[::2], words[1::2], strict=False))
    cached = stat.get("total_inactive_file") or stat.get("inactive_file") or "0"
    return max(0, used - int(cached))
