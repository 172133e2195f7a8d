"""`./kindling up --check`: starts a throw-away stack twice and says how long everything took."""

import os

from kindling_platform.embedded.throwaway import throwaway_stack

INSTALL_S = "KINDLING_INSTALL_S"


def check_run() -> dict[str, float | None]:
    """Seconds: of the installation (None when the launcher did not install), of the first start until
    everything stood, until its first token, and of a second start on the same state."""
    with throwaway_stack() as stack:
        with stack.running() as state:
            start_s, first_token_s = state["start_s"], state["first_token_s"]
        with stack.running() as state:
            second_start_s = state["start_s"]
    installed = os.environ.get(INSTALL_S)
    return {
        "install_s": round(float(installed), 2) if installed else None,
        "start_s": round(start_s, 2),
        "first_token_s": round(first_token_s, 2),
        "second_start_s": round(second_start_s, 2),
    }
