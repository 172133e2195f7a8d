"""Who is measured: our gateway on a database and a cache of its own, with every feature on; or a peer."""

import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from kindling_platform.config.env import load_env
from kindling_platform.embedded.bench_gateway.load import Target
from kindling_platform.embedded.children import python_child
from kindling_platform.embedded.errors import EmbeddedError
from kindling_platform.embedded.home import Home
from kindling_platform.embedded.logs import log_tail
from kindling_platform.embedded.ports import hold_port, is_answering
from kindling_platform.embedded.preparation import preparation_run
from kindling_platform.embedded.process import Child
from kindling_platform.embedded.rest import call
from kindling_platform.embedded.secrets import secrets_ensure
from kindling_platform.embedded.servers import Servers
from kindling_platform.embedded.throwaway import NOT_INHERITED, throwaway_stack

START_TIMEOUT_S = 90.0
# Limits that are kept and counted, and that no load of ours can reach.
LIMITS = (
    *("REQUESTS_PER_MINUTE", "PROMPT_TOKENS_PER_MINUTE", "UNCACHED_TOKENS_PER_MINUTE"),
    *("GENERATED_TOKENS_PER_MINUTE", "CONCURRENT_REQUESTS"),
)
HIGH_LIMIT = 1_000_000_000
REPLICA = (
    "INSERT INTO deployments_replica"
    " (id, created_at, deployment_id, name, generation, rank, url, state, restarts, reason)"
    " SELECT %s, now(), id, 'bench-0', generation, 0, %s, 'ready', 0, '' FROM deployments_deployment WHERE id = %s"
)


@dataclass(frozen=True, slots=True)
class Subject:
    """A running server, the process whose CPU counts, and how to ask it."""

    pid: int
    target: Target


@contextmanager
def upstream_running(home: Home, port: int) -> Iterator[None]:
    """The engine that costs nothing, in a process of its own."""
    child = python_child(
        home, "upstream", "-m", "kindling_platform.embedded.bench_gateway.upstream", "--port", str(port)
    )
    child.start()
    try:
        wait_answering(child, port, home.log("upstream"))
        yield
    finally:
        child.stop()


@contextmanager
def gateway_running(upstream_port: int) -> Iterator[tuple[Home, Subject]]:
    """One worker as in production, on a throw-away Postgres and Valkey. Errors: EmbeddedError."""
    with ExitStack() as stack:
        throwaway = stack.enter_context(throwaway_stack())
        home = throwaway.home
        home.make()
        ports = {name: stack_port(stack) for name in ("postgres", "valkey")}
        stack.enter_context(settings_for(home))
        made = secrets_ensure(home.secrets)
        servers = Servers.plan(home, ports, made)
        os.environ.update(servers.environ())
        servers.launch()
        for child in servers.children().values():
            stack.callback(child.stop)
        servers.wait_ready()
        facts = preparation_run(home)
        with psycopg.connect(load_env().database_url, autocommit=True) as database:
            replica_id, url = f"rep_{secrets.token_hex(8)}", f"http://127.0.0.1:{upstream_port}"
            database.execute(REPLICA, [replica_id, url, facts["deployment_id"]])
        child = gateway_child(home, throwaway.port)
        child.start()
        stack.callback(child.stop)
        wait_answering(child, throwaway.port, home.log("gateway"))
        key = made["KINDLING_BOOTSTRAP_API_KEY"]
        wait_model(throwaway.port, key)
        yield home, Subject(child.pid or 0, Target(throwaway.port, facts["model"], key))


@contextmanager
def settings_for(home: Home) -> Iterator[None]:
    """The settings of the throw-away installation, for as long as it lives."""
    before = dict(os.environ)
    for name in NOT_INHERITED:
        os.environ.pop(name, None)
    os.environ.update({f"KINDLING_LIMIT_{name}": str(HIGH_LIMIT) for name in LIMITS})
    os.environ.update(KINDLING_HOME=str(home.path), KINDLING_AGENT_URL="http://127.0.0.1:9")
    os.environ.pop("KINDLING_MODEL", None)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def gateway_child(home: Home, port: int) -> Child:
    return python_child(
        home,
        "gateway",
        *("-m", "uvicorn", "kindling_platform.config.asgi_gateway:application"),
        *("--host", "127.0.0.1", "--port", str(port), "--lifespan", "on", "--no-access-log"),
        *("--log-level", "warning", "--no-server-header", "--loop", "uvloop"),
        *("--http", "kindling_platform.config.http_limits:BoundedHttp"),
        stop_timeout_s=40,
    )


def stack_port(stack: ExitStack) -> int:
    hold = hold_port()
    stack.callback(hold.release)
    return hold.port


def wait_answering(child: Child, port: int, log: Path) -> None:
    wait_listening(child.is_alive, port, log)


def wait_listening(is_alive: Callable[[], bool], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not is_answering(port):
        if not is_alive() or time.monotonic() > deadline:
            raise EmbeddedError(
                "bench_failed", f"A server did not start. The end of its log:\n{log_tail(log)}"
            )
        time.sleep(0.05)


def wait_model(port: int, key: str) -> None:
    """Until the gateway's pools are open and it answers for a key."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while (reply := call(f"http://127.0.0.1:{port}/v1/models", token=key)).status != 200:
        if time.monotonic() > deadline:
            raise EmbeddedError("bench_failed", f"The gateway answers {reply.status}: {reply.body}")
        time.sleep(0.05)
