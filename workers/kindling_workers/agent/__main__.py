"""`python -m kindling_workers.agent --home HOME --port N`; the token comes from the environment."""

import argparse
import logging
import os
import shlex
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from aiohttp import web

from kindling_platform.common.objectstore.client import ObjectStore
from kindling_platform.common.objectstore.place import SECRETS, StorePlace, blobs_max_bytes, store_place
from kindling_platform.embedded.secrets import secrets_read
from kindling_workers.agent.blob_room import BlobRoom
from kindling_workers.agent.blob_routes import source_path, source_serve
from kindling_workers.agent.blob_source import BlobSource
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
    given = secrets_read(places.home / "secrets.env") | {
        name: text for name, text in os.environ.items() if text
    }
    token = given.get(SETTING)
    if not token:
        sys.exit(f"{SETTING} is not set: the agent takes orders only from whom it shares a token with.")
    store = _store(given)

    async def assemble() -> web.Application:
        engine = tuple(shlex.split(options.engine))
        if store is None:
            return create_app(Replicas(places, engine, options.drain_s), token)
        served = replace(places, blob_source=source_path(places.home))
        replicas = Replicas(served, engine, options.drain_s)
        app = create_app(replicas, token)
        source_serve(app, _source(store, given, replicas), served.blob_source or Path())
        return app

    web.run_app(assemble(), host=options.host, port=options.port, print=None, shutdown_timeout=5)
    if store is not None:
        # Threads that wait for a store which does not answer would hold up the end; what they leave is no adapter.
        logging.shutdown()
        sys.stdout.flush()
        os._exit(0)


def _store(given: Mapping[str, str]) -> StorePlace | None:
    try:
        place = store_place(given)
    except ValueError as error:
        sys.exit(f"The settings of the object store are not right: {error}.")
    # They are read, and whatever this process starts finds nothing.
    for name in SECRETS:
        os.environ.pop(name, None)
    return place


def _source(place: StorePlace, given: Mapping[str, str], replicas: Replicas) -> BlobSource:
    store, blobs = ObjectStore(place), replicas.places.blobs
    room = BlobRoom(store, blobs, blobs_max_bytes(given))
    return BlobSource(
        store, blobs, room, lambda: [one.url for one in replicas.list() if one.state == "ready"]
    )


if __name__ == "__main__":
    main()
