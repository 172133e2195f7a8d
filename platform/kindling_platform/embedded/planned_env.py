"""The settings with which a start would go on, for a look before one; nothing is made or held."""

import os

from kindling_platform.config.env import Env, load_env
from kindling_platform.embedded.home import Home
from kindling_platform.embedded.secrets import MAKERS, secrets_read
from kindling_platform.embedded.stand_in import stand_in_environ

# Stands for each secret that a first start makes up; as long as those.
UNMADE = "x" * 64
PLANNED = {
    "KINDLING_DATABASE_URL": "postgresql://localhost/planned",
    "KINDLING_REDIS_URL": "redis://localhost",
}


def env_planned(home: Home) -> Env:
    """Errors: EnvError, as a start with this environment would meet it."""
    secrets = dict.fromkeys(MAKERS, UNMADE) | _secrets_made(home)
    servers = {name: url for name, url in PLANNED.items() if not os.environ.get(name)}
    return load_env(
        secrets
        | dict(os.environ)
        | servers
        | stand_in_environ(secrets, port=1)
        | {"KINDLING_HOME": str(home.path), "KINDLING_AGENT_URL": "http://127.0.0.1:1"}
    )


def _secrets_made(home: Home) -> dict[str, str]:
    try:
        return {name: value for name, value in secrets_read(home.secrets).items() if value}
    except OSError:
        return {}
