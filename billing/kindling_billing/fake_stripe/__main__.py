"""`python -m kindling_billing.fake_stripe --port 8123 --state stripe.sqlite3 --webhook-url http://127.0.0.1:8000/stripe/webhook`

Its keys come from KINDLING_STRIPE_SECRET_KEY and KINDLING_STRIPE_WEBHOOK_SECRET. It listens on the loopback alone.
"""

import argparse
import os
import socket
from pathlib import Path

from aiohttp import web

from kindling_billing.fake_stripe.app import create_app
from kindling_billing.fake_stripe.store import Store
from kindling_billing.fake_stripe.world import World

LOOPBACK = "127.0.0.1"


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m kindling_billing.fake_stripe")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--webhook-url", default="")
    options = parser.parse_args()
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((LOOPBACK, options.port))
    url = f"http://{LOOPBACK}:{listener.getsockname()[1]}"
    world = World(Store(options.state), url=url, webhook_url=options.webhook_url)
    app = create_app(
        world,
        key=os.environ["KINDLING_STRIPE_SECRET_KEY"],
        webhook_secret=os.environ["KINDLING_STRIPE_WEBHOOK_SECRET"],
    )
    web.run_app(app, sock=listener, print=None, access_log=None, shutdown_timeout=1)


if __name__ == "__main__":
    main()
