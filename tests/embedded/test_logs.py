"""Logs begin anew once they are long, and who writes them notices nothing."""

import errno
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kindling_platform.embedded import logs
from kindling_platform.embedded.home import Home
from kindling_platform.embedded.logs import log_roll, log_tail
from kindling_platform.embedded.process import Child, Command
from kindling_platform.embedded.progress import Progress
from kindling_platform.embedded.supervisor import Supervisor

LINES = b"line\n" * 100


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "web.log"
    path.write_bytes(LINES)
    return path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def whole_lines(path: Path) -> list[int]:
    # The last one may have been on its way.
    return [int(line) for line in path.read_bytes().split(b"\n")[:-1]]


def test_a_short_log_stays(log: Path):
    log_roll(log, len(LINES))
    assert log.read_bytes() == LINES and names(log.parent) == ["web.log"]


def test_who_appends_goes_on_at_the_beginning_of_the_new_one(log: Path):
    with log.open("ab", buffering=0) as writer:
        writer.write(b"before\n")
        log_roll(log, len(LINES))
        writer.write(b"after\n")
    assert log.read_bytes() == b"after\n"
    assert log.with_suffix(".log.1").read_bytes() == LINES + b"before\n"
    assert log.with_suffix(".log.1").stat().st_mode & 0o777 == 0o600


def test_of_a_log_that_was_long_before_anybody_looked_the_end_is_kept(
    log: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(logs, "MOST_BYTES", 9)
    monkeypatch.setattr(logs, "SLACK_BYTES", 0)
    log.write_bytes(LINES + b"last\nlines\n")
    log_roll(log, 1)
    assert log.with_suffix(".log.1").read_bytes() == b"lines\n" and log.stat().st_size == 0


def test_one_old_log_is_kept(log: Path):
    for text in (b"first\n", b"second\n"):
        log.write_bytes(text)
        log_roll(log, 1)
    assert log.with_suffix(".log.1").read_bytes() == b"second\n" and names(log.parent) == [
        "web.log",
        "web.log.1",
    ]


def test_the_last_lines_of_a_new_log_come_behind_those_of_the_old_one(log: Path):
    log.write_bytes(b"one\ntwo\nthree\n")
    log_roll(log, 1)
    assert log_tail(log, 1) == "three"
    log.write_bytes(b"four\n")
    assert log_tail(log, 3) == "two\nthree\nfour"
    assert log_tail(log, 1) == "four"


def test_without_room_for_a_copy_nothing_is_lost(log: Path, monkeypatch: pytest.MonkeyPatch):
    def full(_source: object, target: object, _size: int) -> None:
        target.write(b"half")  # type: ignore[attr-defined]
        raise OSError(errno.ENOSPC, "No space left on device")

    log.with_suffix(".log.1").write_bytes(b"old")
    monkeypatch.setattr("shutil.copyfileobj", full)
    log_roll(log, 1)
    assert log.read_bytes() == LINES and log.with_suffix(".log.1").read_bytes() == b"old"
    assert names(log.parent) == ["web.log", "web.log.1"]


def test_a_log_that_is_not_there_is_no_error(tmp_path: Path):
    log_roll(tmp_path / "none.log", 0)
    assert names(tmp_path) == []


def test_a_process_that_writes_all_the_time_begins_with_a_whole_line(tmp_path: Path):
    log = tmp_path / "child.log"
    program = "import itertools, os\nfor number in itertools.count(): os.write(1, b'%09d\\n' % number)"
    with log.open("ab") as out:
        writing = subprocess.Popen([sys.executable, "-c", program], stdout=out)
    numbers: list[int] = []
    try:
        for _ in range(20):
            while log.stat().st_size < 10_000:
                time.sleep(0.001)
            log_roll(log, 5_000)
            numbers += whole_lines(log.with_suffix(".log.1"))
    finally:
        writing.kill()
        writing.wait()
    numbers += whole_lines(log)
    assert len(numbers) > 20_000
    assert numbers == sorted(set(numbers)), "a line is there twice, out of order or not from its beginning"


def test_the_supervisor_looks_after_its_childrens_logs(tmp_path: Path):
    home = Home(tmp_path)
    home.make()
    supervisor = Supervisor(home, Progress())
    path = home.log("web")
    with path.open("wb") as log:
        log.truncate(16 * 2**20 + 1)
    supervisor.children["web"] = Child(Command(name="web", argv=(), env={}, log_path=path))
    supervisor._tend()
    assert path.stat().st_size == 0 and path.with_suffix(".log.1").stat().st_size == 16 * 2**20 + 1
