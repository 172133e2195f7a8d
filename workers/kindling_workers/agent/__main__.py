"""`python -m kindling_workers.agent --home HOME --port N`; the token comes from the environment."""

import argparse
import os
import shlex
import sys
from pathlib import Path

from aiohttp import web

from kindling_platform.embedded.secrets import secrets_read
from kindling_workers.agent.engine import DEFAULT_ENGINE
from kindling_workers.agent.places import Places
from kindling_workers.agent.replica import DRAIN_TIMEOUT_S
from kindling_workers.agent.replicas import Replicas
from kindling_workers.agent.routes import create_app

SETTING = "KINDLING_AGENT_TOKEN"


def main() -> None:
    parser = argparse.ArgumentParser(prog="kindling_workers.agent", description=__doc__)
    parser.add_argument("--home", type=Path, required=True, help="state folder")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8100)
    parser.add_argument("--engine", default=shlex.join(DEFAULT_ENGINE), help="command line of the engine")
    parser.add_argument(
        "--drain-s",
        type=float,
        default=DRAIN_TIMEOUT_S,
        help="how long a stopping engine may finish its work",
    )
    options = parser.parse_args()
    places = Places(options.home.resolve())
    token = os.environ.get(SETTING) or secrets_read(places.home / "secrets.env").get(SETTING)
    if not token:
        sys.exit(f"{SETTING} is not set: the agent takes orders only from whom it shares a token with.")

    async def assemble() -> web.Application:
        engine = tuple(shlex.split(options.engine))
        return create_app(Replicas(places, engine, options.drain_s), token)

    web.run_app(assemble(), host=options.host, port=options.port, print=None, shutdown_timeout=5)


if __name__ == "__main__":
    main()
