"""`./kindling down`: asks the supervisor of this state folder to stop and waits for it."""

import contextlib
import os
import signal
import time

from kindling_platform.embedded.errors import EmbeddedError
from kindling_platform.embedded.home import Home
from kindling_platform.embedded.lock import lock_owner

TIMEOUT_S = 60.0


def stack_stop(home: Home) -> bool:
    """True when something was stopped, False when nothing ran.

    Errors: `still_running`, `not_yours`, `already_running` for one of another machine or container, `busy`.
    """
    owner = lock_owner(home)
    if owner is None:
        return False
    if not (owner.is_stack and owner.is_here):
        raise owner.refusal(home)
    try:
        with contextlib.suppress(ProcessLookupError):
            os.kill(owner.pid, signal.SIGTERM)
    except PermissionError:
        raise EmbeddedError(
            "not_yours", f"Process {owner.pid} was started by somebody else, who may stop it."
        ) from None
    deadline = time.monotonic() + TIMEOUT_S
    while lock_owner(home) == owner:
        if time.monotonic() > deadline:
            raise EmbeddedError("still_running", f"Process {owner.pid} did not stop in {TIMEOUT_S:.0f} s.")
        time.sleep(0.05)
    return True
