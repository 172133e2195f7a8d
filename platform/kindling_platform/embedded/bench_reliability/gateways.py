"""More gateways on the stack under test, each a process of its own as in production."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial

from kindling_platform.embedded.bench_gateway.subject import gateway_child, wait_answering
from kindling_platform.embedded.bench_reliability.target import Target
from kindling_platform.embedded.ports import hold_port
from kindling_platform.embedded.process import Child
from kindling_platform.embedded.rest import call

PROCESSES = 4
# Only what a measurement limits itself is limited.
UNLIMITED = {"KINDLING_LIMIT_REQUESTS_PER_MINUTE": "0", "KINDLING_LIMIT_CONCURRENT_REQUESTS": "0"}


@contextmanager
def gateways_running(target: Target, count: int = PROCESSES, **settings: str) -> Iterator[list[str]]:
    """The URLs of so many gateways on the stack's database and cache; `settings` change their environment.

    From the main thread only, as every child is started.
    """
    with ExitStack() as stack:
        ports = []
        for _ in range(count):
            hold = hold_port()
            stack.callback(hold.release)
            child = _child(target, hold.port, settings)
            child.start()
            stack.callback(child.stop)
            ports.append((child, hold.port))
        for child, port in ports:
            wait_answering(child, port, child.command.log_path)
        urls = [f"http://127.0.0.1:{port}" for _, port in ports]
        for url in urls:
            target.wait(partial(is_ready, url), "A gateway with database and cache")
        yield urls


def is_ready(url: str) -> bool:
    """Whether a gateway has its database and its cache."""
    reply = call(f"{url}/healthz", token="")
    return reply.status == 200 and reply.body["status"] == "ok"


def _child(target: Target, port: int, settings: dict[str, str]) -> Child:
    where = {
        "KINDLING_HOME": str(target.home.path),
        "KINDLING_DATABASE_URL": target.database_url,
        "KINDLING_REDIS_URL": target.redis_url,
        "KINDLING_LOG_LEVEL": "ERROR",
    }
    child = gateway_child(target.home, port)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("KINDLING_")}
    return Child(replace(child.command, env={**kept, **where, **UNLIMITED, **settings}))
