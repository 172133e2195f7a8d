"""A whole stack with a state folder of its own and free ports, for checks that touch no real books."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kindling_platform.embedded.errors import EmbeddedError
from kindling_platform.embedded.files import read_json
from kindling_platform.embedded.home import Home
from kindling_platform.embedded.ports import hold_port

START_TIMEOUT_S = 900.0
STOP_TIMEOUT_S = 60.0
# A check runs the code with the user's model, but never on the user's data, secrets or public address.
NOT_INHERITED = {
    *("KINDLING_HOME", "KINDLING_HOST", "KINDLING_PORT", "KINDLING_PUBLIC_URL", "KINDLING_DATABASE_URL"),
    *("KINDLING_REDIS_URL", "KINDLING_AGENT_URL", "KINDLING_BOOTSTRAP_API_KEY"),
    *("KINDLING_SECRET_KEY", "KINDLING_KEY_PEPPER", "KINDLING_AGENT_TOKEN"),
    *("KINDLING_STRIPE_SECRET_KEY", "KINDLING_STRIPE_WEBHOOK_SECRET", "KINDLING_STRIPE_API_BASE"),
}


@dataclass(frozen=True, slots=True)
class Throwaway:
    """A state folder that is gone afterwards, and the port of its web server."""

    home: Home
    port: int

    @contextmanager
    def running(self, model: Path | None = None) -> Iterator[dict[str, Any]]:
        """Start the stack with the starter model or that in a folder, give its state, stop it.

        Errors: `check_failed` with what the start printed.
        """
        log = self.home.path.parent / "up.log"
        env = {name: value for name, value in os.environ.items() if name not in NOT_INHERITED}
        env |= {"KINDLING_HOME": str(self.home.path), "KINDLING_PORT": str(self.port)}
        if model is not None:
            env["KINDLING_MODEL"] = str(model)
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "kindling_platform.embedded", "up"],
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        try:
            yield self._wait(process, log)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _wait(self, process: subprocess.Popen[bytes], log: Path) -> dict[str, Any]:
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            state = read_json(self.home.state)
            is_there = state.get("pid") == process.pid
            if is_there and state["first_token_s"] is not None:
                return state
            if is_there or process.poll() is not None or time.monotonic() > deadline:
                raise EmbeddedError("check_failed", f"The start failed. It printed:\n{log.read_text()}")
            time.sleep(0.02)


@contextmanager
def throwaway_stack() -> Iterator[Throwaway]:
    """Make the folder, and remove it with everything that was put elsewhere for it."""
    folder = Path(tempfile.mkdtemp(prefix="kindling-check-"))
    folder.chmod(0o755)
    hold = hold_port()
    # The web server may listen on the held port: the hold keeps others away until the second start.
    try:
        yield Throwaway(home=Home(folder / "home"), port=hold.port)
    finally:
        hold.release()
        for pointer in (folder / "home").glob("*.location"):
            shutil.rmtree(Path(pointer.read_text().strip()).parent, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)
