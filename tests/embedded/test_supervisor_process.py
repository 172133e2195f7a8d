"""The supervisor as a process: what it inherits, what it hears, and what it buries."""

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import os, pathlib, resource, sys
from kindling_platform.embedded.home import Home
from kindling_platform.embedded.progress import Progress
from kindling_platform.embedded.supervisor import Supervisor
made = Supervisor(Home(pathlib.Path(sys.argv[1])), Progress())
made._start = lambda: print("started", *resource.getrlimit(resource.RLIMIT_NOFILE), flush=True)
made.run()
"""
ORPHAN = """
import ctypes, os, time
from pathlib import Path
from kindling_platform.embedded.orphans import orphans_reap

def wait_dead(pid):
    while Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z":
        time.sleep(0.01)

ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # orphans come to us, as to a container's first process
read, write = os.pipe()
if os.fork() == 0:
    orphan = os.fork()
    if orphan:
        os.write(write, str(orphan).encode())
    os._exit(0)
orphan = int(os.read(read, 20))
os.wait()
wait_dead(orphan)
orphans_reap([])
print("somebody else buries it:", Path(f"/proc/{orphan}").exists())
os.getpid = lambda: 1
orphans_reap([])
print("buried:", not Path(f"/proc/{orphan}").exists())
ours = os.fork()
if ours == 0:
    os._exit(3)
wait_dead(ours)
orphans_reap([ours])
print("ours:", os.waitstatus_to_exitcode(os.waitpid(ours, 0)[1]))
"""


def narrow() -> None:
    """As a shell under nohup with few files: the hard limit is the machine's."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


@pytest.fixture
def supervisor(tmp_path: Path):
    running = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "home")],
        stdout=subprocess.PIPE, text=True, preexec_fn=narrow,
    )  # fmt: skip
    yield running
    running.kill()
    running.wait()
    assert running.stdout is not None
    running.stdout.close()


def test_it_outlives_its_terminal_under_nohup_and_takes_the_files_it_may_have(
    supervisor: subprocess.Popen[str],
):
    assert supervisor.stdout is not None
    _word, soft, hard = next(line for line in supervisor.stdout if line.startswith("started")).split()
    assert soft == hard or (int(hard) == resource.RLIM_INFINITY and int(soft) > 1024)
    supervisor.send_signal(signal.SIGHUP)
    ignored = int(next(
        line for line in Path(f"/proc/{supervisor.pid}/status").read_text().splitlines() if "SigIgn" in line
    ).split()[1], 16)  # fmt: skip
    assert ignored & 1 << (signal.SIGHUP - 1)
    assert supervisor.poll() is None
    supervisor.send_signal(signal.SIGTERM)
    assert supervisor.wait(60) == 0


def test_the_first_process_of_a_container_buries_orphans_and_leaves_its_own_to_their_keepers():
    done = subprocess.run(
        [sys.executable, "-c", ORPHAN], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines() == ["somebody else buries it: True", "buried: True", "ours: 3"]


def test_a_terminal_without_our_signs_gets_others(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-m", "kindling_platform.embedded", "doctor"],
        env={**os.environ, "PYTHONIOENCODING": "latin-1", "KINDLING_HOME": str(tmp_path / "none")},
        capture_output=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode in {0, 1} and b"UnicodeEncodeError" not in done.stderr and b"python" in done.stdout
