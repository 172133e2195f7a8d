"""Children as forks: each is itself in all that others see of it, and what cannot be forked is spawned."""

import io
import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from kindling_platform.embedded.progress import Progress

# What `python -m told` would do: it says what it sees of itself, and then what it is asked to.
TOLD = """
import atexit, json, os, signal, sys, threading
print(json.dumps({
    "argv": sys.argv, "name": __name__, "environ": dict(os.environ), "folder": os.getcwd(),
    "session": os.getsid(0) == os.getpid(), "files": sorted(map(int, os.listdir("/proc/self/fd")))[:-1],
    "signals": [signal.getsignal(number) is signal.SIG_DFL for number in (signal.SIGTERM, signal.SIGHUP)],
    "blocked": len(signal.pthread_sigmask(signal.SIG_BLOCK, ())), "input": sys.stdin.read(),
    "shown": open("/proc/self/environ").read().strip(chr(0)),
    "title": open("/proc/self/cmdline").read().rstrip(chr(0)), "word": open("/proc/self/comm").read().strip(),
}), flush=True)
atexit.register(print, "at the end")
threading.Timer(0.05, print, ["from a thread"]).start()
if sys.argv[1] == "wait":
    signal.pause()
if sys.argv[1] == "raise":
    raise RuntimeError("it broke")
sys.exit(sys.argv[1] if sys.argv[1].isalpha() else int(sys.argv[1]))
"""
# The parent, which has handlers, files and a module that children find loaded.
PARENT = """
import json, os, signal, sys, time
from pathlib import Path
from kindling_platform.embedded.forks import WORKERS, fork, start
from kindling_platform.embedded.process import Child, Command
folder, what = Path(sys.argv[1]), sys.argv[2]
sys.path.insert(0, str(folder))
signal.signal(signal.SIGTERM, lambda *_: print("the parent's handler", flush=True))
kept = open(folder / "kept", "w")
command = Command(
    name="told", argv=(sys.executable, "-m", "told", what), env={"PATH": os.environ["PATH"], "ONE": "1"},
    log_path=folder / "logs" / "told.log", cwd=folder,
)
"""


def parent(folder: Path, what: str, program: str) -> subprocess.CompletedProcess[str]:
    (folder / "told.py").write_text(TOLD)
    return subprocess.run(
        [sys.executable, "-c", PARENT + program, str(folder), what],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip


def told(folder: Path) -> tuple[dict[str, Any], list[str]]:
    """What the child saw, and the rest of its log."""
    first, *rest = (folder / "logs/told.log").read_text().splitlines()
    return json.loads(first), rest


def test_a_fork_is_what_a_program_of_its_own_would_be(tmp_path: Path):
    done = parent(tmp_path, "3", "print(fork(command).wait(60))")
    assert done.stdout == "3\n"
    seen, rest = told(tmp_path)
    assert (seen["argv"][1:], seen["name"], seen["folder"]) == (["3"], "__main__", str(tmp_path))
    assert seen["environ"].items() >= {"ONE": "1"}.items() and "HOME" not in seen["environ"]
    assert seen["shown"] == "", "what the parent was started with is no longer to be seen"
    assert seen["session"] and seen["files"] == [0, 1, 2] and seen["input"] == ""
    assert seen["signals"] == [True, True] and seen["blocked"] == 0
    assert (seen["title"], seen["word"]) == ("kindling told", "told")
    assert rest == ["from a thread", "at the end"]


def test_an_end_with_words_or_an_error_is_in_the_log_and_its_status(tmp_path: Path):
    assert parent(tmp_path, "no", "print(fork(command).wait(60))").stdout == "1\n"
    assert "no" in told(tmp_path)[1]
    (tmp_path / "logs/told.log").unlink()
    assert parent(tmp_path, "raise", "print(fork(command).wait(60))").stdout == "1\n"
    assert "RuntimeError: it broke" in told(tmp_path)[1]


def test_standard_output_can_be_taken_apart(tmp_path: Path):
    program = """
read, write = os.pipe()
running = fork(command, stdout=write)
os.close(write)
print(len(os.fdopen(read).read().splitlines()), running.wait(60))
"""
    assert parent(tmp_path, "0", program).stdout == "3 0\n"
    assert (tmp_path / "logs/told.log").read_text() == ""


def test_it_is_stopped_killed_and_started_again_as_any_child(tmp_path: Path):
    program = """
def until(happened):
    deadline = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.01)
log = command.log_path
child = Child(command, start_with=fork)
child.start()
until(lambda: log.exists() and log.read_text().count('"argv"') == 1)
os.kill(child.pid, signal.SIGKILL)
until(lambda: not child.is_alive())
assert child.process.poll() == -signal.SIGKILL
assert child.tend() and child.restarts == 1
until(lambda: log.read_text().count('"argv"') == 2)
child.process.send_signal(signal.SIGTERM)
assert child.process.wait(60) == -signal.SIGTERM
child.process.send_signal(signal.SIGTERM)
child.start()
child.kill()
assert not child.is_alive()
print("to its end")
"""
    assert parent(tmp_path, "wait", program).stdout == "to its end\n"


def test_it_dies_with_its_parent(tmp_path: Path):
    program = """
running = fork(command)
while not command.log_path.read_text():
    time.sleep(0.01)
print(running.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    with pytest.raises(subprocess.CalledProcessError) as killed:
        parent(tmp_path, "wait", program)
    deadline = time.monotonic() + 60
    while Path(f"/proc/{int(killed.value.stdout)}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("why", ["nothing is loaded", "a thread runs"])
def test_what_cannot_be_forked_is_spawned(tmp_path: Path, why: str):
    program = f"""
import threading
command = Command("told", (sys.executable, "-c", "print(1)"), dict(os.environ), command.log_path)
if {why!r} == "a thread runs":
    sys.modules[WORKERS] = os
    threading.Thread(target=signal.pause, daemon=True).start()
print(type(start(command)).__name__, start(command).wait(60))
"""
    assert parent(tmp_path, "0", program).stdout == "Popen 0\n"


def test_signals_of_the_parent_are_those_it_had(tmp_path: Path):
    program = """
fork(command).wait(60)
os.kill(os.getpid(), signal.SIGTERM)
print(sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())))
"""
    assert parent(tmp_path, "0", program).stdout == "the parent's handler\n[]\n"


def test_no_spinner_turns_and_none_stands_in_for_the_streams_while_a_child_is_forked():
    progress, streams, alone = Progress(), sys.stdout, threading.active_count()
    progress.console = Console(file=io.StringIO(), force_terminal=True)
    with progress.step("a step"):
        assert threading.active_count() == alone + 1
        with progress.still():
            assert threading.active_count() == alone and sys.stdout is streams
        assert threading.active_count() == alone + 1
    assert threading.active_count() == alone
    with progress.still():
        assert threading.active_count() == alone
