"""More gateways on the stack under test, each a process of its own as in production."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial

from kindling_platform.embedded.bench_gateway.subject import gateway_child, wait_answering
from kindling_platform.embedded.bench_reliability.proxy import FaultProxy
from kindling_platform.embedded.bench_reliability.target import Target
from kindling_platform.embedded.ports import hold_port
from kindling_platform.embedded.process import Child
from kindling_platform.embedded.rest import call

PROCESSES = 4
# Only what a measurement limits itself is limited.
UNLIMITED = {"KINDLING_LIMIT_REQUESTS_PER_MINUTE": "0", "KINDLING_LIMIT_CONCURRENT_REQUESTS": "0"}


class Fleet:
    """Gateways that share the stack's database and cache, and one that reaches the cache through `proxy`.

    They start together when they are first asked for, from the main thread only, as every child.
    """

    def __init__(self, target: Target, stack: ExitStack, *, count: int, has_slow: bool) -> None:
        self._target = target
        self._stack = stack
        self._count = count
        self._has_slow = has_slow
        self._children: list[tuple[Child, int]] = []
        self._slow: tuple[Child, int] | None = None
        self.proxy, self._slow_redis_url = FaultProxy.before(target.redis_url)
        stack.callback(self.proxy.stop)
        stack.callback(self._stop)

    def start(self) -> None:
        """Start what does not run yet, and wait for nothing."""
        while len(self._children) < self._count:
            self._children.append(self._start(self._target.redis_url))
        if self._has_slow and self._slow is None:
            self._slow = self._start(self._slow_redis_url)

    @property
    def urls(self) -> list[str]:
        """Where they answer. Errors: `bench_failed` when one does not start."""
        self.start()
        return [self._ready(child, port) for child, port in self._children]

    @property
    def slow_url(self) -> str:
        """Where the one behind the proxy answers. Errors: as of `urls`."""
        self.start()
        assert self._slow is not None
        return self._ready(*self._slow)

    def signal_stop(self) -> None:
        """Ask all to end, and wait for nothing."""
        for child in self._all():
            child.signal_stop()

    def _start(self, redis_url: str) -> tuple[Child, int]:
        hold = hold_port()
        self._stack.callback(hold.release)
        child = _child(self._target, hold.port, redis_url)
        child.start()
        return child, hold.port

    def _ready(self, child: Child, port: int) -> str:
        wait_answering(child, port, child.command.log_path)
        url = f"http://127.0.0.1:{port}"
        self._target.wait(partial(is_ready, url), "A gateway with database and cache")
        return url

    def _stop(self) -> None:
        self.signal_stop()
        for child in self._all():
            child.wait_stopped()

    def _all(self) -> list[Child]:
        return [child for child, _ in (*self._children, *([self._slow] if self._slow else []))]


@contextmanager
def fleet_running(target: Target, *, count: int = PROCESSES, has_slow: bool = False) -> Iterator[Fleet]:
    """Gateways that are stopped together at the end."""
    with ExitStack() as stack:
        yield Fleet(target, stack, count=count, has_slow=has_slow)


def is_ready(url: str) -> bool:
    """Whether a gateway has its database and its cache."""
    reply = call(f"{url}/healthz", token="")
    return reply.status == 200 and reply.body["status"] == "ok"


def _child(target: Target, port: int, redis_url: str) -> Child:
    where = {
        "KINDLING_HOME": str(target.home.path),
        "KINDLING_DATABASE_URL": target.database_url,
        "KINDLING_REDIS_URL": redis_url,
        "KINDLING_LOG_LEVEL": "ERROR",
    }
    child = gateway_child(target.home, port)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("KINDLING_")}
    return Child(replace(child.command, env={**kept, **where, **UNLIMITED}))
