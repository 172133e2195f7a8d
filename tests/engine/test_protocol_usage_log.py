"""The usage log: what was handed over is read back, whatever is cut, damaged or still growing."""

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kindling_engine.protocol.usage_log import UsageLogError, UsageLogWriter, UsageRecord, read_usage
from kindling_examples import examples


def record(number: int, context: str = "{}") -> UsageRecord:
    return UsageRecord(
        request_id=f"request-{number}",
        context=context,
        tenant="org",
        adapter="",
        prompt_tokens=number,
        cached_tokens=0,
        completion_tokens=2 * number,
        finish="stop",
        started_ms=1,
        first_token_ms=None,
        finished_ms=2,
        replica="r0",
    )


def written(path: Path, count: int) -> list[UsageRecord]:
    records = [record(number) for number in range(count)]
    writer = UsageLogWriter(path)
    for one in records:
        writer.append(one)
    writer.close()
    return records


def test_records_come_back_in_pages(tmp_path: Path):
    path = tmp_path / "deep" / "usage.log"
    records = written(path, 7)
    seen, offset = [], 0
    while True:
        log_id, page, following = read_usage(path, offset, 3)
        if not page:
            break
        seen += page
        assert following > offset
        offset = following
    assert seen == records
    assert offset == path.stat().st_size
    assert log_id


def test_a_log_that_is_not_there_reads_as_empty(tmp_path: Path):
    assert read_usage(tmp_path / "none.log", 0, 10) == ("", [], 0)


def test_the_log_keeps_its_id_when_opened_again(tmp_path: Path):
    path = tmp_path / "usage.log"
    first = UsageLogWriter(path)
    first.append(record(1))
    first.close()
    second = UsageLogWriter(path)
    second.append(record(2))
    second.close()
    log_id, records, _ = read_usage(path, 0, 10)
    assert log_id == first.log_id == second.log_id
    assert [one.request_id for one in records] == ["request-1", "request-2"]


def test_a_second_writer_is_refused(tmp_path: Path):
    first = UsageLogWriter(tmp_path / "usage.log")
    with pytest.raises(UsageLogError):
        UsageLogWriter(tmp_path / "usage.log")
    first.close()
    UsageLogWriter(tmp_path / "usage.log").close()


def test_a_reader_sees_each_record_as_soon_as_it_is_appended(tmp_path: Path):
    path = tmp_path / "usage.log"
    writer = UsageLogWriter(path)
    offset = 0
    for number in range(20):
        end = writer.append(record(number))
        _, page, offset = read_usage(path, offset, 10)
        assert [one.request_id for one in page] == [f"request-{number}"]
        assert offset == end
    writer.close()


def test_a_log_that_lost_its_end_is_read_from_its_beginning(tmp_path: Path):
    path = tmp_path / "usage.log"
    written(path, 3)
    _, _, cursor = read_usage(path, 0, 10)
    os.truncate(path, cursor - 10)
    again = UsageLogWriter(path)
    _, page, following = read_usage(path, cursor, 10)
    assert [one.request_id for one in page] == ["request-0", "request-1"]
    again.append(record(3, context="longer than what was lost" * 9))
    assert [one.request_id for one in read_usage(path, following, 10)[1]] == ["request-3"]
    again.close()


def test_what_a_reader_is_told_is_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path, synced = tmp_path / "usage.log", []
    writer = UsageLogWriter(path)
    writer.append(record(1))
    monkeypatch.setattr(os, "fdatasync", lambda descriptor: synced.append(os.fstat(descriptor).st_ino))
    _, page, offset = read_usage(path, 0, 10)
    assert page and synced == [path.stat().st_ino]
    assert read_usage(path, offset, 10)[1] == [] and len(synced) == 1
    writer.close()


def test_zeros_that_a_power_loss_left_end_nothing_for_good(tmp_path: Path):
    path = tmp_path / "usage.log"
    written(path, 2)
    with path.open("ab") as file:
        file.write(bytes(64))
    writer = UsageLogWriter(path)
    writer.append(record(2))
    writer.close()
    assert [one.request_id for one in read_usage(path, 0, 10)[1]] == ["request-0", "request-1", "request-2"]


def test_records_survive_a_killed_writer(tmp_path: Path):
    path = tmp_path / "usage.log"
    script = (
        "import os, sys; from pathlib import Path\n"
        "from kindling_engine.protocol.usage_log import UsageLogWriter, UsageRecord\n"
        "writer = UsageLogWriter(Path(sys.argv[1]))\n"
        "for n in range(5):\n"
        "    writer.append(UsageRecord(str(n), '', '', '', 1, 0, 1, 'stop', 1, 1, 1, 'r'))\n"
        "os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(path)], check=False)
    assert [one.request_id for one in read_usage(path, 0, 10)[1]] == list("01234")


def test_an_append_that_fails_leaves_no_half_frame(tmp_path: Path):
    path = tmp_path / "usage.log"
    writer = UsageLogWriter(path)
    writer.append(record(0))
    size = path.stat().st_size
    real = writer._file

    class Full:
        """A disk with room for five more bytes."""

        def __getattr__(self, name: str):
            return getattr(real, name)

        def write(self, data: bytes) -> int:
            if real.tell() > size:
                raise OSError(28, "No space left on device")
            return real.write(data[:5])

    writer._file = Full()
    with pytest.raises(UsageLogError):
        writer.append(record(1))
    writer._file = real
    assert path.stat().st_size == size
    writer.append(record(2))
    writer.close()
    assert [one.request_id for one in read_usage(path, 0, 10)[1]] == ["request-0", "request-2"]


@settings(max_examples=60, deadline=None)
@given(data=st.data(), count=st.integers(0, 5))
def test_any_beginning_of_a_log_reads_as_a_beginning_of_its_records(data: st.DataObject, count: int):
    with TemporaryDirectory() as folder:
        path = Path(folder) / "usage.log"
        records = written(path, count)
        whole = path.read_bytes()
        cut = data.draw(st.integers(0, len(whole)))
        path.write_bytes(whole[:cut])
        _, seen, offset = read_usage(path, 0, 100)
        assert seen == records[: len(seen)]
        assert offset <= cut
        # A writer cuts the torn tail and goes on behind the last whole record.
        writer = UsageLogWriter(path)
        writer.append(record(99))
        writer.close()
        assert read_usage(path, 0, 100)[1] == [*seen, record(99)]


@settings(max_examples=examples(100), deadline=None)
@given(data=st.data(), count=st.integers(1, 4))
def test_a_damaged_byte_ends_the_reading_in_front_of_it(data: st.DataObject, count: int):
    with TemporaryDirectory() as folder:
        path = Path(folder) / "usage.log"
        records = written(path, count)
        content = bytearray(path.read_bytes())
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] ^= data.draw(st.integers(1, 255))
        path.write_bytes(content)
        _, seen, offset = read_usage(path, 0, 100)
        assert seen == records[: len(seen)]
        assert offset <= place
        assert len(seen) < count


@settings(max_examples=examples(100), deadline=None)
@given(content=st.binary(max_size=300), after=st.integers(0, 400))
def test_no_content_makes_reader_or_writer_fail(content: bytes, after: int):
    with TemporaryDirectory() as folder:
        path = Path(folder) / "usage.log"
        path.write_bytes(content)
        read_usage(path, after, 10)
        UsageLogWriter(path).close()
        assert read_usage(path, 0, 10)[1] == []
        kept = b"".join(one.read_bytes() for one in Path(folder).glob("usage.cut-*"))
        assert kept == content  # what was cut away may be somebody's bill


def test_the_writer_hands_over_without_waiting_for_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    synced = []
    monkeypatch.setattr(os, "fdatasync", lambda fd: synced.append(fd))
    writer = UsageLogWriter(tmp_path / "usage.log")
    writer.append(record(1))
    assert synced == []
    writer.sync()
    assert len(synced) == 1
    writer.close()
