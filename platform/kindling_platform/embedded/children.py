"""The Python children of the supervisor and how each of them is started."""

import os
import signal
import sys
from pathlib import Path

from kindling_platform.common.objectstore.place import CLOUD_SECRETS, SECRETS
from kindling_platform.config.env import Env
from kindling_platform.embedded.forks import SETTINGS, WORKERS
from kindling_platform.embedded.forks import start as fork_or_spawn
from kindling_platform.embedded.home import Home
from kindling_platform.embedded.process import Child, Command, Start, spawn

# In the supervisor's environment only: a child reads what it needs from the file of secrets.
NOT_INHERITED = {
    *("KINDLING_POSTGRES_PASSWORD", "KINDLING_VALKEY_PASSWORD"),
    *("KINDLING_STAND_IN_STRIPE_KEY", "KINDLING_STAND_IN_WEBHOOK_SECRET"),
}
STORE_SECRETS = {*SECRETS, *CLOUD_SECRETS}
LOOPBACKS = ("127.0.0.1", "localhost", "::1")


def child_env() -> dict[str, str]:
    """What children of the platform's own see: they leave the cores to the engines, and the object store to others."""
    return {name: value for name, value in worker_env().items() if name not in STORE_SECRETS}


def worker_env() -> dict[str, str]:
    """What those see that put adapters into the object store."""
    return {**engine_env(), "OMP_NUM_THREADS": "1"}


def engine_env() -> dict[str, str]:
    """What the one sees that starts engines: how many threads these may have is for the user to say."""
    kept = {name: value for name, value in os.environ.items() if name not in NOT_INHERITED}
    # Agent, engines and the stand-in for Stripe are on this machine, where no proxy of the environment finds them.
    direct = kept.get("no_proxy") or kept.get("NO_PROXY") or ""
    if direct != "*":
        direct = ",".join([*([direct] if direct else []), *LOOPBACKS])
    kept |= {"no_proxy": direct, "NO_PROXY": direct}
    return {**kept, "DJANGO_SETTINGS_MODULE": SETTINGS, "PYTHONUNBUFFERED": "1"}


def python_child(
    home: Home,
    name: str,
    *arguments: str,
    env: dict[str, str] | None = None,
    stop_timeout_s: float = 10,
    start_with: Start = spawn,
) -> Child:
    return Child(
        Command(
            name=name,
            argv=(sys.executable, *arguments),
            env=env or child_env(),
            log_path=home.log(name),
            cwd=home.path,
            stop_signal=signal.SIGTERM,
            stop_timeout_s=stop_timeout_s,
        ),
        start_with=start_with,
    )


def web_child(home: Home, env: Env) -> Child:
    # Open streams may not hold up Ctrl-C, hence the limit on the graceful shutdown.
    return python_child(
        home,
        "web",
        *("-m", "uvicorn", "kindling_platform.config.asgi_all:application"),
        *("--host", env.host, "--port", str(env.port), "--lifespan", "on", "--no-access-log"),
        *("--log-level", "warning", "--timeout-graceful-shutdown", "3", "--no-server-header"),
        *("--http", "kindling_platform.config.http_limits:BoundedHttp"),
        start_with=fork_or_spawn,
    )


def worker_child(home: Home) -> Child:
    return python_child(
        home,
        "worker",
        *("-m", "celery", "-A", WORKERS, "worker", "-P", "threads", "-c", "4"),
        *("-l", "WARNING", "--without-gossip", "--without-mingle", "--without-heartbeat"),
        env=worker_env(),
        start_with=fork_or_spawn,
    )


def beat_child(home: Home) -> Child:
    return python_child(
        home,
        "beat",
        *("-m", "celery", "-A", WORKERS, "beat", "-s", str(home.run / "beat")),
        *("--pidfile=", "-l", "WARNING"),
        stop_timeout_s=5,
        start_with=fork_or_spawn,
    )


def agent_child(home: Home, port: int) -> Child:
    return python_child(
        home,
        "agent",
        *("-m", "kindling_workers.agent", "--home", str(home.path), "--port", str(port)),
        env=engine_env(),
        stop_timeout_s=20,
    )


def stripe_child(home: Home, env: Env, port: int) -> Child:
    """The stand-in for Stripe; its keys are in the environment, as the platform's own are."""
    webhook_url = f"http://{reachable(env.host)}:{env.port}/stripe/webhook"
    return python_child(
        home,
        "stripe",
        *("-m", "kindling_billing.fake_stripe", "--port", str(port)),
        *("--state", str(home.path / "stripe.sqlite3"), "--webhook-url", webhook_url),
        stop_timeout_s=5,
    )


def reachable(host: str) -> str:
    """An address of this machine on which a server bound to `host` answers."""
    if host in {"0.0.0.0", "::"}:  # noqa: S104
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host


def django_argv(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "django", *arguments]


def log_paths(home: Home) -> list[Path]:
    return sorted(home.logs.glob("*.log"))
