"""The lock of the state folder: one owner at a time, and nobody but the owner is ever told to stop."""

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kindling_platform.embedded import lock as room
from kindling_platform.embedded.down import stack_stop
from kindling_platform.embedded.errors import EmbeddedError
from kindling_platform.embedded.home import Home
from kindling_platform.embedded.lock import HomeLock, lock_owner, stack_runs


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path / "home")
    made.make()
    return made


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The processes that were sent a signal."""
    sent: list[int] = []
    monkeypatch.setattr(os, "kill", lambda pid, _number: sent.append(pid))
    return sent


def test_second_supervisor_is_refused_and_the_first_is_named(home: Home):
    first = HomeLock(home)
    first.take()
    owner = lock_owner(home)
    assert owner is not None and owner.pid == os.getpid() and owner.is_here and stack_runs(home)
    with pytest.raises(EmbeddedError) as refused:
        HomeLock(home).take()
    assert refused.value.code == "already_running" and str(os.getpid()) in refused.value.message
    first.release()
    assert lock_owner(home) is None and home.lock.read_text() == ""


def test_lock_of_a_dead_supervisor_is_free(home: Home):
    program = (
        "import sys, os, pathlib; from kindling_platform.embedded.home import Home;"
        "from kindling_platform.embedded.lock import HomeLock;"
        "HomeLock(Home(pathlib.Path(sys.argv[1]))).take(); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", program, str(home.path)], check=False)
    assert home.lock.read_text().split()[0].isdigit()
    HomeLock(home).take()


def test_who_only_looks_is_not_taken_for_an_owner(home: Home, told: list[int]):
    home.lock.write_text("424242\n")
    with home.lock.open() as other:
        fcntl.flock(other, fcntl.LOCK_SH)
        assert lock_owner(home) is None
        assert not stack_stop(home)
    assert told == []


def test_a_supervisor_of_an_older_version_wrote_its_number_alone(home: Home):
    older = HomeLock(home)
    older.take()
    home.lock.write_text("4242\n")
    owner = lock_owner(home)
    assert owner is not None and (owner.pid, owner.is_stack, owner.is_here) == (4242, True, True)
    older.release()


def test_other_work_on_the_folder_says_what_it_is_and_is_not_stopped(home: Home, told: list[int]):
    work = HomeLock(home, what="A backup")
    work.take()
    assert not stack_runs(home)
    for refuses in (HomeLock(home).take, lambda: stack_stop(home)):
        with pytest.raises(EmbeddedError, match="A backup is running") as busy:
            refuses()
        assert busy.value.code == "busy"
    work.release()
    assert told == []


def test_a_supervisor_of_another_container_is_not_looked_for_here(
    home: Home, told: list[int], monkeypatch: pytest.MonkeyPatch
):
    here = HomeLock(home)
    here.take()
    monkeypatch.setattr(room, "_here", lambda: ("this boot", "pid:[1]"))
    with pytest.raises(EmbeddedError, match="another machine or container"):
        stack_stop(home)
    here.release()
    assert told == []


def test_a_supervisor_that_ends_by_itself_meanwhile_counts_as_stopped(
    home: Home, monkeypatch: pytest.MonkeyPatch
):
    running = HomeLock(home)
    running.take()

    def gone(_pid: int, _number: int) -> None:
        running.release()
        raise ProcessLookupError

    monkeypatch.setattr(os, "kill", gone)
    assert stack_stop(home)


def test_a_file_system_without_locks_is_said(home: Home, monkeypatch: pytest.MonkeyPatch):
    def none(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    with pytest.raises(EmbeddedError, match="No locks available") as refused:
        HomeLock(home).take()
    assert refused.value.code == "home_unlockable"


def test_a_lock_that_cannot_be_written_is_said(tmp_path: Path):
    with pytest.raises(EmbeddedError) as refused:
        HomeLock(Home(tmp_path / "none")).take()
    assert refused.value.code == "home_unwritable"
