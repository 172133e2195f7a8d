"""Waits until the agent has an engine that answers."""

import time
from collections.abc import Callable

from kindling_platform.embedded.errors import EmbeddedError
from kindling_platform.embedded.rest import call

TIMEOUT_S = 600.0


def engine_wait(
    *,
    agent_url: str,
    token: str,
    deployment_id: str,
    tend: Callable[[], None],
    say: Callable[[str], None],
    hint: str = "",
) -> str:
    """The name of the first ready replica of the deployment. `tend` is called between looks; `say` hears how far a
    long start is, and the wait goes on as long as it gets further. `hint` is said behind the reason of one that fails.

    Errors: `engine_failed` with the engine's own reason, `engine_late`.
    """
    deadline = time.monotonic() + TIMEOUT_S
    heard = ""
    while time.monotonic() < deadline:
        tend()
        reply = call(f"{agent_url}/replicas", token=token, timeout_s=5)
        replicas = reply.body.get("replicas", []) if reply.status == 200 else []
        ours = [replica for replica in replicas if replica["name"].startswith(deployment_id)] or replicas
        for replica in ours:
            if replica["state"] == "ready":
                return str(replica["name"])
            if replica["state"] == "starting" and replica["reason"] not in ("", heard):
                heard = replica["reason"]
                say(heard)
                deadline = time.monotonic() + TIMEOUT_S
            if replica["state"] == "failed":
                raise EmbeddedError("engine_failed", f"The engine does not start: {replica['reason']}{hint}")
        time.sleep(0.05)
    raise EmbeddedError("engine_late", f"No engine was ready within {TIMEOUT_S:.0f} s.")
