"""`./kindling doctor`: looks at the machine, the state folder and the processes, and says what to do."""

import importlib.metadata
import os
import re
import shutil
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import redis

from kindling_platform.embedded.children import log_paths
from kindling_platform.embedded.home import Home
from kindling_platform.embedded.lock import lock_owner
from kindling_platform.embedded.logs import log_tail
from kindling_platform.embedded.ports import is_port_free
from kindling_platform.embedded.rest import call
from kindling_platform.embedded.secrets import secrets_read
from kindling_platform.embedded.state import state_find

LEAST_FREE_BYTES = 2 * 2**30
ERROR_LINE = re.compile(r"\b(ERROR|CRITICAL|FATAL|PANIC)\b|^\w*(Error|Exception)\b")
SECRET = re.compile(r"kd_[a-z]+_[0-9A-Za-z]+|://[^@\s]*@")


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check saw; `advice` is the sentence for a problem."""

    check: str
    good: bool
    seen: str
    advice: str = ""


def doctor_run(home: Home) -> list[Finding]:
    """All checks, in the order in which a start would need what they look at."""
    state = state_find(home)
    owner = lock_owner(home)
    found = [*_machine(home), *_folder(home), _port(owner is not None)]
    if owner is None:
        found.append(Finding("stack", True, "not running"))
    elif not owner.is_stack:
        found.append(Finding("stack", True, f"not running; {owner.what} is, process {owner.pid}"))
    elif state is None:
        found.append(Finding("stack", True, f"process {owner.pid} is starting or stopping"))
    else:
        found += _running(home, state)
    return [*found, *_logs(home)]


def _machine(home: Home) -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    good = sys.version_info >= (3, 11)
    yield Finding("python", good, version, "Kindling needs Python 3.11 or newer.")
    try:
        yield Finding("torch", True, importlib.metadata.version("torch"))
    except importlib.metadata.PackageNotFoundError:
        advice = "The engine needs torch: remove .venv and run `./kindling up` again."
        yield Finding("torch", False, "not installed", advice)
    where = next(path for path in (home.path, *home.path.parents) if path.exists())
    free = shutil.disk_usage(where).free
    advice = f"Less than 2 GiB are free on the disk of {home.path}; make room, or set KINDLING_HOME."
    yield Finding("disk", free >= LEAST_FREE_BYTES, f"{free / 2**30:.1f} GiB free", advice)


def _folder(home: Home) -> Iterator[Finding]:
    if not home.path.exists():
        yield Finding("state folder", True, f"{home.path} is not made yet")
        return
    writable = os.access(home.path, os.W_OK | os.X_OK)
    advice = f"{home.path} belongs to somebody else: give it to yourself or set KINDLING_HOME."
    yield Finding("state folder", writable, str(home.path), advice)
    if home.secrets.exists():
        mode = stat.S_IMODE(home.secrets.stat().st_mode)
        advice = f"Others can read your secrets: chmod 600 {home.secrets}"
        yield Finding("secrets", mode & 0o077 == 0, f"mode {mode:o}", advice)


def _port(running: bool) -> Finding:
    host = os.environ.get("KINDLING_HOST") or "127.0.0.1"
    port = int(os.environ.get("KINDLING_PORT") or 8000)
    free = is_port_free(host, port)
    if running:
        return Finding(f"port {port}", True, "free" if free else "in use by the running stack or another")
    advice = f"Stop what listens on port {port}, or start with KINDLING_PORT={port + 1}."
    return Finding(f"port {port}", free, "free" if free else "in use", advice)


def _running(home: Home, state: dict[str, Any]) -> Iterator[Finding]:
    dead = [name for name, pid in state["children"].items() if not Path(f"/proc/{pid}").exists()]
    seen = f"process {state['pid']} and {len(state['children'])} children"
    advice = f"{', '.join(dead)}: not running just now; the supervisor starts it again. See {home.logs}."
    yield Finding("stack", not dead, seen if not dead else f"{', '.join(dead)} down", advice)
    yield _database(state["database_url"])
    yield _cache(home, state["redis_url"])
    health = call(f"{state['url']}/healthz", token="", timeout_s=5)
    advice = f"{state['url']}/healthz answers with status {health.status}; see {home.log('web')}."
    yield Finding("web", health.status == 200, f"status {health.status}", advice)
    token = os.environ.get("KINDLING_AGENT_TOKEN") or secrets_read(home.secrets).get(
        "KINDLING_AGENT_TOKEN", ""
    )
    reply = call(f"{state['agent_url']}/replicas", token=token, timeout_s=5)
    if reply.status != 200:
        yield Finding(
            "agent", False, f"status {reply.status}", f"The agent does not answer; see {home.log('agent')}."
        )
        return
    for replica in reply.body["replicas"]:
        good = replica["state"] == "ready"
        seen = f"{replica['state']}, {replica['restarts']} restarts"
        advice = f"{replica['reason'] or 'The engine is not ready.'} See {home.log(replica['name'])}."
        yield Finding(f"engine {replica['name']}", good, seen, advice)


def _database(url: str) -> Finding:
    try:
        with psycopg.connect(url, connect_timeout=3) as db:
            row = db.execute("SHOW server_version").fetchone()
        return Finding("database", True, f"PostgreSQL {row[0] if row else ''}")
    except psycopg.OperationalError as error:
        reason = SECRET.sub("…", str(error).splitlines()[0])
        return Finding("database", False, "does not answer", f"The database refuses us: {reason}")


def _cache(home: Home, url: str) -> Finding:
    try:
        with redis.Redis.from_url(url, socket_timeout=3, socket_connect_timeout=3) as cache:
            cache.ping()
        return Finding("cache", True, "answers")
    except redis.RedisError as error:
        reason = SECRET.sub("…", str(error))
        advice = f"The cache refuses us: {reason}. See {home.log('valkey')}."
        return Finding("cache", False, "does not answer", advice)


def _logs(home: Home) -> Iterator[Finding]:
    """The last error of each log; information, since an old one may be mended long ago."""
    for path in log_paths(home):
        errors = [line for line in log_tail(path, 200).splitlines() if ERROR_LINE.search(line)]
        if errors:
            yield Finding(f"log {path.name}", True, SECRET.sub("…", errors[-1].strip())[:160])
