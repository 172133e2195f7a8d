"""`./kindling down`: asks the supervisor of this state folder to stop and waits for it."""

import os
import signal
import time

from kindling_platform.embedded.errors import EmbeddedError
from kindling_platform.embedded.home import Home, lock_owner

TIMEOUT_S = 60.0


def stack_stop(home: Home) -> bool:
    """True when something was stopped, False when nothing ran. Errors: `still_running`."""
    pid = lock_owner(home)
    if pid is None:
        return False
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + TIMEOUT_S
    while lock_owner(home) == pid:
        if time.monotonic() > deadline:
            raise EmbeddedError("still_running", f"Process {pid} did not stop in {TIMEOUT_S:.0f} s.")
        time.sleep(0.05)
    return True
