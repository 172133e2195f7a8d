"""`python -m kindling_workers.agent --home HOME --port N`; the token comes from the environment."""

import argparse
import shlex
from pathlib import Path

from aiohttp import web

from kindling_platform.config.env import load_env
from kindling_workers.agent.engine import DEFAULT_ENGINE
from kindling_workers.agent.places import Places
from kindling_workers.agent.replicas import Replicas
from kindling_workers.agent.routes import create_app


def main() -> None:
    parser = argparse.ArgumentParser(prog="kindling_workers.agent", description=__doc__)
    parser.add_argument("--home", type=Path, required=True, help="state folder")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8100)
    parser.add_argument("--engine", default=shlex.join(DEFAULT_ENGINE), help="command line of the engine")
    options = parser.parse_args()

    async def assemble() -> web.Application:
        places = Places(options.home.resolve())
        return create_app(Replicas(places, tuple(shlex.split(options.engine))), load_env().agent_token)

    web.run_app(assemble(), host=options.host, port=options.port, print=None, shutdown_timeout=5)


if __name__ == "__main__":
    main()
