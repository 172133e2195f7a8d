"""The driver of this installation."""

from kindling_platform.config.env import load_env
from kindling_workers.drivers.local import LocalDriver


def driver_get() -> LocalDriver:
    """The driver that the environment names; each call reads it anew, drivers hold no state."""
    env = load_env()
    return LocalDriver(env.agent_url, env.agent_token)
