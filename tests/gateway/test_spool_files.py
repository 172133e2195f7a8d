"""The spool's files: what is appended is read back, however they end, and goes when nobody needs it any more."""

import os
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kindling_platform.gateway.spool import folder as folders
from kindling_platform.gateway.spool.files import SpoolFiles, SpoolFullError, sync
from kindling_platform.gateway.spool.folder import SpoolFolder, folders_abandoned
from kindling_platform.gateway.spool.frames import FRAME, HEAD_BYTES, Kind, frame_pack, frames_read


@pytest.fixture
def files(tmp_path: Path) -> Iterator[SpoolFiles]:
    spool = SpoolFiles(tmp_path, file_bytes=1000)
    yield spool
    spool.close()


def spool_files(files: SpoolFiles) -> int:
    return len(list(files.folder.path.glob("*.spool")))


def run(files: SpoolFiles, request_id: UUID, *, size: int = 100) -> None:
    """A request from its beginning to its end."""
    files.append(Kind.OPEN, request_id, b"o" * size)
    files.append(Kind.CLOSED, request_id, b"c" * size)


def ship(files: SpoolFiles, *, limit: int = 500) -> list[UUID]:
    frames, position = files.read(limit=limit)
    files.advance(position)
    return [frame.request_id for frame in frames]


@given(
    st.lists(st.tuples(st.sampled_from(list(Kind)), st.uuids(), st.binary(max_size=300)), max_size=20),
    st.data(),
)
def test_a_torn_or_damaged_tail_ends_the_reading_and_nothing_before_it(tmp_path_factory, written, data):
    path = tmp_path_factory.mktemp("frames") / "one"
    packed = [frame_pack(kind, request_id, body) for kind, request_id, body in written]
    whole = b"".join(packed)
    path.write_bytes(whole)
    assert [(frame.kind, frame.request_id, frame.data) for frame in frames_read(path, start=0)] == written
    at = data.draw(st.integers(0, max(0, len(whole) - 1)))
    path.write_bytes(whole[:at] + bytes(byte ^ 0x55 for byte in whole[at : at + 1]) + b"\0" * 40)
    complete, end = 0, 0
    for frame in packed:
        end += len(frame)
        complete += end <= at
    assert [frame.data for frame in frames_read(path, start=0)] == [body for *_, body in written[:complete]]


def test_a_frame_larger_than_what_is_read_at_once_is_found_behind_others(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("kindling_platform.gateway.spool.frames.READ_BYTES", 64)
    ids = [uuid4() for _ in range(9)]
    path = tmp_path / "one"
    path.write_bytes(b"".join(frame_pack(Kind.OPEN, one, b"x" * 150) for one in ids))
    found = list(frames_read(path, start=0))
    assert [frame.request_id for frame in found] == ids
    size = FRAME.size + HEAD_BYTES + 150
    assert [frame.end for frame in found] == [size * (number + 1) for number in range(9)]
    assert [frame.request_id for frame in frames_read(path, start=size * 4)] == ids[4:]


def test_only_what_ends_a_request_is_shipped_in_order_and_once(files: SpoolFiles):
    first, second, third = uuid4(), uuid4(), uuid4()
    files.append(Kind.OPEN, first, b"{}")
    files.append(Kind.CHECKPOINT, first, b"{}")
    files.append(Kind.OPEN, second, b"{}")
    files.append(Kind.VOID, second, b"{}")
    files.append(Kind.OPEN, third, b"{}")
    files.append(Kind.DROPPED, third, b"")
    files.append(Kind.CLOSED, first, b"{}")
    assert ship(files, limit=1) == [second]
    assert ship(files) == [first]
    assert ship(files) == []
    assert files.open_requests == 0


def test_shipped_files_go_but_not_those_whose_requests_run(files: SpoolFiles):
    slow, others = uuid4(), [uuid4() for _ in range(40)]
    files.append(Kind.OPEN, slow, b"o" * 100)
    for one in others:
        run(files, one)
    assert spool_files(files) == 11
    size = files.size_bytes
    assert ship(files) == others
    assert spool_files(files) == 2, "the first file, which the slow request began in, and the current one"
    assert files.size_bytes < size / 3
    files.append(Kind.CLOSED, slow, b"c")
    assert spool_files(files) == 2, "its end is not shipped yet"
    assert ship(files) == [slow]
    assert spool_files(files) == 1


def test_the_cap_and_a_full_disk_refuse_new_requests(tmp_path: Path):
    spool = SpoolFiles(tmp_path, file_bytes=1000, cap_bytes=3000)
    spool.check_room()
    while spool.size_bytes < 3000:
        run(spool, uuid4())
    with pytest.raises(SpoolFullError):
        spool.check_room()
    ship(spool)
    spool.check_room()
    spool.close()
    full = SpoolFiles(tmp_path, min_free_bytes=1 << 62)
    with pytest.raises(SpoolFullError):
        full.check_room()
    full.close()


def test_half_a_frame_that_the_disk_refused_does_not_hide_the_next(files: SpoolFiles, monkeypatch):
    real, calls = os.write, []

    def short(descriptor: int, data: bytes) -> int:
        calls.append(len(data))
        if len(calls) == 1:
            return real(descriptor, bytes(data[:10]))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", short)
    with pytest.raises(SpoolFullError):
        files.append(Kind.CLOSED, uuid4(), b"lost")
    monkeypatch.undo()
    kept = uuid4()
    files.append(Kind.CLOSED, kept, b"kept")
    assert ship(files) == [kept]


def test_a_spool_that_is_done_leaves_nothing_and_one_that_is_not_can_be_taken(tmp_path: Path):
    done, left = SpoolFiles(tmp_path), SpoolFiles(tmp_path)
    for spool in (done, left):
        run(spool, uuid4())
        sync(spool.take_unsynced())
    ship(done)
    assert list(folders_abandoned(tmp_path)) == [], "both have owners"
    done.close()
    left.close()
    taken = list(folders_abandoned(tmp_path))
    assert [folder.name for folder in taken] == [left.folder.name]
    assert list(folders_abandoned(tmp_path)) == [], "a folder is taken once"
    taken[0].remove()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_taken_holds_up_no_other_and_stays_unlocked(tmp_path: Path):
    for spool in (broken := SpoolFiles(tmp_path), whole := SpoolFiles(tmp_path)):
        run(spool, uuid4())
        spool.close()
    mark = broken.folder.path / folders.MARK
    mark.unlink()
    mark.mkdir()
    taken = []
    with pytest.raises(OSError, match="directory"):
        for folder in folders_abandoned(tmp_path):
            taken.append(folder.name)
            folder.remove()
    assert taken == [whole.folder.name]
    mark.rmdir()
    (folder,) = folders_abandoned(tmp_path)
    folder.remove()


def test_what_could_not_be_synced_is_synced_later(files: SpoolFiles, monkeypatch: pytest.MonkeyPatch):
    run(files, uuid4(), size=2000)
    run(files, uuid4(), size=2000)
    real, given_back, left = os.dup, [], [1, 0]

    def scarce(descriptor: int) -> int:
        if not left.pop(0):
            raise OSError(24, "Too many open files")
        return real(descriptor)

    with monkeypatch.context() as patched:
        patched.setattr(os, "dup", scarce)
        patched.setattr(os, "close", given_back.append)
        with pytest.raises(OSError, match="Too many"):
            files.take_unsynced()
    assert len(given_back) == 1
    os.close(given_back[0])
    assert files.is_dirty
    copies = files.take_unsynced()
    assert len(copies) > 1
    sync(copies)


def test_a_folder_that_is_being_made_is_nobodys(tmp_path: Path, monkeypatch):
    half = tmp_path / ".half"
    half.mkdir()
    assert list(folders_abandoned(tmp_path)) == []
    monkeypatch.setattr(folders, "HALF_MADE_S", -1.0)
    for folder in folders_abandoned(tmp_path):
        folder.remove()
    assert not half.exists()


def test_a_torn_mark_reads_as_the_beginning(tmp_path: Path):
    folder = SpoolFolder.make(tmp_path)
    assert folder.mark == folders.START
    folder.keep_mark(folders.Position(3, 70))
    assert folder.mark == folders.Position(3, 70)
    (folder.path / "mark").write_bytes(b"\1" * 20)
    assert folder.mark == folders.START
    folder.remove()
