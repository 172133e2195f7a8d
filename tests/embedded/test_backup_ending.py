"""A backup that is asked to end leaves nothing behind."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from kindling_platform.embedded.home import Home
from kindling_platform.embedded.secrets import secrets_ensure

# The command as it is, whose dump takes for ever.
PROGRAM = """
import signal, sys
from kindling_platform.embedded.backups import backup
def stage(home, staged):
    (staged / "database.dump").write_text("half")
    print("begun", flush=True)
    signal.pause()
backup._stage = stage
from kindling_platform.embedded.__main__ import main
sys.argv = ["kindling", "backup"]
main()
"""


def test_a_signal_to_end_takes_what_was_begun_away(tmp_path: Path):
    home = Home(tmp_path / "home")
    home.make()
    secrets_ensure(home.secrets)
    running = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "KINDLING_HOME": str(home.path)}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert running.stdout is not None
    assert running.stdout.readline() == "begun\n"
    assert list(home.path.glob(".backup-*"))
    running.send_signal(signal.SIGTERM)
    assert running.wait(60) == 128 + signal.SIGTERM
    running.stdout.close()
    assert not list(home.path.glob(".backup-*")) and not list(home.path.glob("backups/*"))
