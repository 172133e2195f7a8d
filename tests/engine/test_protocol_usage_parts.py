"""A usage log in files of a bounded length: nothing is lost between them, and old ones can go."""

import fcntl
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kindling_engine.protocol.usage_log import UsageLogError, UsageLogWriter, UsageRecord, read_usage
from kindling_engine.protocol.usage_parts import part_delete, part_newest, part_path

MOST = 1_500


def record(number: int) -> UsageRecord:
    return UsageRecord(
        request_id=f"request-{number}", context="{}", tenant="org", adapter="", prompt_tokens=number,
        cached_tokens=0, completion_tokens=1, finish="stop", started_ms=1, first_token_ms=None, finished_ms=2,
        replica="r0",
    )  # fmt: skip


def numbers(path: Path) -> list[int]:
    """Those of the records in all files, in order."""
    parts = [part_path(path, part) for part in range(1, part_newest(path) + 1)]
    return [one.prompt_tokens for part in parts for one in read_usage(part, 0, 10_000)[1]]


@given(lives=st.lists(st.integers(0, 25), max_size=5))
@settings(max_examples=30, deadline=None)
def test_every_record_is_in_one_file_whatever_the_number_of_starts(
    lives: list[int], tmp_path_factory: pytest.TempPathFactory
):
    path = tmp_path_factory.mktemp("parts") / "r0.log"
    written = 0
    for count in lives:
        writer = UsageLogWriter(path, MOST)
        for _ in range(count):
            writer.append(record(written))
            written += 1
        writer.close()
    assert numbers(path) == list(range(written))
    sizes = [file.stat().st_size for file in path.parent.iterdir()]
    assert all(size < MOST + 400 for size in sizes)
    assert len(sizes) >= written * 250 // (MOST + 400)


def test_files_have_ids_of_their_own_and_are_named_after_the_log(tmp_path: Path):
    (tmp_path / "r0~x.log").touch()
    (tmp_path / "r00~9.log").touch()
    path = tmp_path / "r0.log"
    writer = UsageLogWriter(path, MOST)
    first = writer.log_id
    while writer.path == path:
        writer.append(record(0))
        writer.sync()
    assert writer.path == tmp_path / "r0~2.log" and writer.log_id != first
    assert read_usage(path, 0, 1)[0] == first
    assert read_usage(writer.path, 0, 1)[0] == writer.log_id
    with pytest.raises(UsageLogError, match="in use"):
        UsageLogWriter(path, MOST)
    writer.close()


@pytest.mark.parametrize("name", ["r0.log", "r0", "r0.2.log", ".log"])
def test_files_are_found_again_whatever_the_logs_name(name: str, tmp_path: Path):
    path = tmp_path / name
    for life in range(3):
        writer = UsageLogWriter(path, 600)
        for number in range(4):
            writer.append(record(4 * life + number))
        writer.close()
    assert numbers(path) == list(range(12))
    assert part_newest(path) > 3


def test_what_somebody_else_has_written_in_the_next_file_stays(tmp_path: Path):
    path = tmp_path / "r0.log"
    writer = UsageLogWriter(path, 1)
    writer.append(record(0))
    second = part_path(path, 3)
    other = UsageLogWriter(second)
    other.append(record(9))
    other.close()
    writer.append(record(1))
    assert writer.path == part_path(path, 2)
    writer.close()
    assert [one.prompt_tokens for one in read_usage(second, 0, 10)[1]] == [9]
    assert [one.prompt_tokens for one in read_usage(part_path(path, 2), 0, 10)[1]] == [0, 1]


def test_a_disk_that_fails_at_the_change_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "r0.log"
    writer = UsageLogWriter(path, 1)
    with monkeypatch.context() as broken:
        broken.setattr("os.fdatasync", fail)
        writer.append(record(0))
        writer.append(record(1))
    assert writer.path == path
    writer.append(record(2))
    assert writer.path == part_path(path, 2)
    writer.close()
    assert numbers(path) == [0, 1, 2]


def test_without_room_for_a_new_file_the_old_one_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "r0.log"
    writer = UsageLogWriter(path, 1)
    with monkeypatch.context() as full:
        full.setattr("kindling_engine.protocol.usage_log._begin", refuse)
        for number in range(3):
            writer.append(record(number))
    assert writer.path == path
    writer.append(record(3))
    assert writer.path == part_path(path, 2)
    writer.close()
    assert numbers(path) == [0, 1, 2, 3]


def fail(descriptor: int) -> None:
    raise OSError(5, "Input/output error")


def refuse(file: object) -> str:
    raise UsageLogError("usage log: No space left on device")


def test_a_file_goes_only_when_nobody_writes_it_and_all_of_it_was_seen(tmp_path: Path):
    path = tmp_path / "r0.log"
    writer = UsageLogWriter(path, MOST)
    writer.append(record(0))
    size = path.stat().st_size
    assert not part_delete(path, size)
    writer.close()
    assert not part_delete(path, size - 1)
    assert path.exists()
    assert part_delete(path, size) and part_delete(path, size)
    assert not path.exists()


def test_a_file_that_was_deleted_before_it_was_locked_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "r0.log"
    lock = fcntl.flock

    def late(file: object, operation: int) -> None:
        path.unlink()
        lock(file, operation)  # type: ignore[arg-type]

    monkeypatch.setattr(fcntl, "flock", late)
    with pytest.raises(UsageLogError):
        UsageLogWriter(path)
    monkeypatch.undo()
    writer = UsageLogWriter(path)
    writer.append(record(7))
    writer.close()
    assert numbers(path) == [7] and list(tmp_path.iterdir()) == [path]
