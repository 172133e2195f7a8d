"""Durable steps by name, so that a test can end the process at each of them and see that nothing is lost or doubled."""

import os

STEPS: set[str] = set()
CRASH_AT = "KINDLING_CRASH_AT"
# The exit status of a process that was killed with signal 9.
KILLED = 137


def step(name: str) -> None:
    """A step is done, or about to be made durable; the process ends here when the environment says so."""
    STEPS.add(name)
    if os.environ.get(CRASH_AT) == name:
        os._exit(KILLED)
