"""A container's share of cores and memory, as the system's files tell it; trees as Linux lays them."""

import os
from pathlib import Path

import pytest

from kindling_engine.protocol.control_groups import ControlGroups

GIB = 2**30
UNLIMITED = str(2**63 - 4096)


def groups(folder: Path, own: str, files: dict[str, str]) -> ControlGroups:
    for name, text in files.items():
        (folder / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "tree" / name).write_text(text)
    (folder / "own").write_text(own)
    return ControlGroups(folder / "tree", folder / "own")


@pytest.fixture(autouse=True)
def sixteen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16)))


V2, V1 = "0::/\n", "4:memory:/docker/a\n3:cpu,cpuacct:/docker/a\n1:name=systemd:/x\n"
NESTED = "0::/kubepods/pod/own\n"


@pytest.mark.parametrize(
    ("own", "files", "cores"),
    [
        (V2, {}, 16),
        (V2, {"cpu.max": "max 100000\n"}, 16),
        (V2, {"cpu.max": "400000 100000\n"}, 4),
        (V2, {"cpu.max": "150000 100000\n"}, 2),
        (V2, {"cpu.max": "10000 100000\n"}, 1),
        (V2, {"cpu.max": "6400000 100000\n"}, 16),
        (NESTED, {"kubepods/cpu.max": "300000 100000", "kubepods/pod/own/cpu.max": "max 100000"}, 3),
        (NESTED, {"kubepods/cpu.max": "900000 100000", "kubepods/pod/own/cpu.max": "200000 100000"}, 2),
        # Inside a container of version 1 the path is the host's, and the files are at the top.
        (V1, {"cpu/cpu.cfs_quota_us": "250000", "cpu/cpu.cfs_period_us": "100000"}, 3),
        (V1, {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 16),
        (V1, {"cpu/docker/a/cpu.cfs_quota_us": "200000", "cpu/docker/a/cpu.cfs_period_us": "100000"}, 2),
        ("", {"cpu.max": "100000 100000"}, 16),
    ],
)
def test_cores_are_those_of_the_process_or_fewer(tmp_path: Path, own: str, files: dict[str, str], cores: int):
    assert groups(tmp_path, own, files).cores() == cores


@pytest.mark.parametrize(
    ("own", "files", "left"),
    [
        (V2, {}, None),
        (V2, {"memory.max": "max", "memory.current": str(GIB)}, None),
        (V2, {"memory.max": str(4 * GIB), "memory.current": str(GIB)}, 3 * GIB),
        (
            V2,
            {
                "memory.max": str(4 * GIB),
                "memory.current": str(3 * GIB),
                "memory.stat": f"anon 5\ninactive_file {GIB}\nfile 7\n",
            },
            2 * GIB,
        ),
        (V2, {"memory.max": str(GIB), "memory.current": str(2 * GIB)}, 0),
        (
            NESTED,
            {
                "kubepods/memory.max": str(8 * GIB), "kubepods/memory.current": str(7 * GIB),
                "kubepods/pod/own/memory.max": str(4 * GIB), "kubepods/pod/own/memory.current": str(GIB),
            },
            GIB,
        ),
        (
            V1,
            {"memory/memory.limit_in_bytes": str(2 * GIB), "memory/memory.usage_in_bytes": str(GIB)},
            GIB,
        ),
    ],
)  # fmt: skip
def test_memory_is_what_the_limits_leave(tmp_path: Path, own: str, files: dict[str, str], left: int | None):
    assert groups(tmp_path, own, files).memory_bytes() == left


def test_a_limit_so_high_that_it_is_none_bounds_nothing(tmp_path: Path):
    found = groups(
        tmp_path, V1, {"memory/memory.limit_in_bytes": UNLIMITED, "memory/memory.usage_in_bytes": "0"}
    )
    assert (found.memory_bytes() or 0) > 2**60


def test_without_control_groups_nothing_is_limited(tmp_path: Path):
    found = ControlGroups(tmp_path / "nowhere", tmp_path / "none")
    assert (found.cores(), found.memory_bytes()) == (16, None)


def test_this_machines_own_are_read():
    assert 1 <= ControlGroups().cores() <= 16
    assert ControlGroups().memory_bytes() is None or ControlGroups().memory_bytes() > 0
