"""What a running supervisor tells others about itself, in `HOME/run/state.json`."""

import json
from dataclasses import asdict, dataclass
from typing import Any

from kindling_platform.embedded.files import read_json, write_private
from kindling_platform.embedded.home import Home
from kindling_platform.embedded.lock import lock_owner


@dataclass(slots=True)
class State:
    """Written when the stack is ready and whenever a child was started again. Holds a key: mode 0600.

    `first_token_s` is None where no token came, or none was billed.
    """

    url: str
    port: int
    pid: int
    children: dict[str, int]
    api_key: str
    model: str
    agent_url: str
    database_url: str
    redis_url: str
    start_s: float
    first_token_s: float | None

    def save(self, home: Home) -> None:
        write_private(home.state, json.dumps(asdict(self), indent=1))


def state_find(home: Home) -> dict[str, Any] | None:
    """The state of the supervisor that runs on this folder now, or None when there is none or not yet."""
    owner = lock_owner(home)
    found = read_json(home.state)
    return found if owner is not None and found.get("pid") == owner.pid else None
