"""A gateway as a process of its own, on a socket that listens already: `python -m kindling_gateway_process <fd>`."""

import os
import sys

import uvicorn

from kindling_platform.common import crash_points
from kindling_platform.config.env import load_env
from kindling_platform.gateway.app import create_app
from kindling_platform.gateway.lifespan import asgi_application

if __name__ == "__main__":
    # A fork has read it before.
    crash_points._at = os.environ.get(crash_points.SETTING, "")
    # An idle connection that is closed while a client takes it up again is no failure of the gateway.
    app = asgi_application(create_app(load_env()))
    uvicorn.run(app, fd=int(sys.argv[1]), access_log=False, log_level="warning", timeout_keep_alive=75)
