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

from kindling_platform.common.objectstore.check import place_check
from kindling_platform.common.objectstore.client import ObjectStore
from kindling_platform.common.objectstore.errors import StoreError
from kindling_platform.common.objectstore.owner import installation_id
from kindling_platform.config.env import Env, EnvError, load_object_store
from kindling_platform.embedded.children import log_paths
from kindling_platform.embedded.errors import EmbeddedError
from kindling_platform.embedded.home import Home
from kindling_platform.embedded.lock import lock_owner
from kindling_platform.embedded.logs import log_tail, secrets_hide
from kindling_platform.embedded.planned_env import env_planned
from kindling_platform.embedded.ports import address_check
from kindling_platform.embedded.probes import cache_ping, database_version
from kindling_platform.embedded.public_bind import check_bind
from kindling_platform.embedded.rest import call
from kindling_platform.embedded.secrets import secrets_read
from kindling_platform.embedded.servers import MEND
from kindling_platform.embedded.state import state_find

LEAST_FREE_BYTES = 2 * 2**30
ERROR_LINE = re.compile(r"\b(ERROR|CRITICAL|FATAL|PANIC)\b|^\w*(Error|Exception)\b")


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
    env, settings = _settings(home)
    found = [*_machine(home), *_folder(home), settings]
    if env is not None:
        found += _object_store(home)
        found += _listening(env, running=owner is not None)
        if owner is None:
            found += _own_servers(env)
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
    free = shutil.disk_usage(_lowest_there(home.path)).free
    advice = f"Less than 2 GiB are free on the disk of {home.path}; make room, or set KINDLING_HOME."
    yield Finding("disk", free >= LEAST_FREE_BYTES, f"{free / 2**30:.1f} GiB free", advice)


def _folder(home: Home) -> Iterator[Finding]:
    there = _lowest_there(home.path)
    writable = there.is_dir() and os.access(there, os.W_OK | os.X_OK)
    if there != home.path:
        seen = f"{home.path} {'is not made yet' if writable else 'cannot be made'}"
        advice = f"{there} is no folder that this account may write to; set KINDLING_HOME to a path that can be made."
        yield Finding("state folder", writable, seen, advice)
        return
    advice = f"{home.path} is no folder of yours: give it to yourself or set KINDLING_HOME."
    yield Finding("state folder", writable, str(home.path), advice)
    if writable and home.secrets.exists():
        mode = stat.S_IMODE(home.secrets.stat().st_mode)
        advice = f"Others can read your secrets: chmod 600 {home.secrets}"
        yield Finding("secrets", mode & 0o077 == 0, f"mode {mode:o}", advice)


def _lowest_there(path: Path) -> Path:
    """The path itself or the folder above it that exists; what nobody lets us look into counts as not there."""
    return next(one for one in (path, *path.parents) if os.access(one, os.F_OK))


def _settings(home: Home) -> tuple[Env | None, Finding]:
    try:
        return env_planned(home), Finding("settings", True, "each has a value that a start takes")
    except EnvError as error:
        return None, Finding("settings", False, "a start refuses them", f"{error}.")


def _listening(env: Env, *, running: bool) -> Iterator[Finding]:
    try:
        address_check(env.host, 0)
    except EmbeddedError as error:
        yield Finding("host", False, env.host, error.message)
        return
    yield _port(env, running=running)
    yield _reach(env)


def _port(env: Env, *, running: bool) -> Finding:
    name = f"port {env.port}"
    try:
        address_check(env.host, env.port)
    except EmbeddedError as error:
        if error.code != "port_in_use":
            return Finding(name, False, "cannot be listened on", error.message)
        seen = "in use by the running stack or another" if running else "in use"
        return Finding(name, running, seen, error.message)
    return Finding(name, True, "free")


def _reach(env: Env) -> Finding:
    """Whether others reach what is set up for one person alone."""
    try:
        check_bind(env)
    except EmbeddedError as error:
        return Finding("reach", False, "open to others too early", error.message)
    return Finding("reach", True, env.public_url)


def _object_store(home: Home) -> Iterator[Finding]:
    """Whether it takes, gives, lists and deletes, where the settings name one."""
    place = load_object_store({**os.environ, "KINDLING_HOME": str(home.path)})
    if place is None:
        return
    secret = os.environ.get("KINDLING_SECRET_KEY") or _secret_made(home)
    try:
        place_check(ObjectStore(place, retries=1), installation_id(secret) if secret else None)
    except StoreError as error:
        seen = error.detail or "no answer"
        advice = (
            f"{error.message} Look at KINDLING_OBJECT_STORE and the settings that begin with it ({seen})."
        )
        yield Finding("object store", False, "cannot be used", advice)
        return
    yield Finding("object store", True, f"bucket {place.bucket} takes and gives files")


def _secret_made(home: Home) -> str:
    try:
        return secrets_read(home.secrets).get("KINDLING_SECRET_KEY", "")
    except OSError:
        return ""


def _own_servers(env: Env) -> Iterator[Finding]:
    """Those that the settings name, before a start waits for them."""
    for name, look, url in (
        ("KINDLING_DATABASE_URL", _database, env.database_url),
        ("KINDLING_REDIS_URL", _cache, env.redis_url),
    ):
        if os.environ.get(name):
            yield look(url, MEND.format(name=name))


def _running(home: Home, state: dict[str, Any]) -> Iterator[Finding]:
    dead = [name for name, pid in state["children"].items() if not Path(f"/proc/{pid}").exists()]
    seen = f"process {state['pid']} and {len(state['children'])} children"
    advice = f"{', '.join(dead)}: not running just now; the supervisor starts it again. See {home.logs}."
    yield Finding("stack", not dead, seen if not dead else f"{', '.join(dead)} down", advice)
    yield _database(state["database_url"])
    yield _cache(state["redis_url"], f" See {home.log('valkey')}.")
    health = call(f"{state['url']}/healthz", token="", timeout_s=5)
    checks = health.body.get("checks", {}) if isinstance(health.body, dict) else {}
    missing = ", ".join(name for name, is_there in checks.items() if not is_there)
    seen = f"status {health.status}" + (f", without {missing}" if missing else "")
    advice = f"{state['url']}/healthz answers with {seen}; see {home.log('web')}."
    yield Finding("web", health.status == 200 and not missing, seen, advice)
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


def _database(url: str, cure: str = "") -> Finding:
    try:
        return Finding("database", True, f"PostgreSQL {database_version(url)}")
    except EmbeddedError as error:
        return Finding("database", False, "does not answer", error.message + cure)


def _cache(url: str, cure: str) -> Finding:
    try:
        cache_ping(url)
    except EmbeddedError as error:
        return Finding("cache", False, "does not answer", error.message + cure)
    return Finding("cache", True, "answers")


def _logs(home: Home) -> Iterator[Finding]:
    """The last error of each log; information, since an old one may be mended long ago."""
    for path in log_paths(home):
        errors = [line for line in log_tail(path, 200).splitlines() if ERROR_LINE.search(line)]
        if errors:
            yield Finding(f"log {path.name}", True, secrets_hide(errors[-1].strip())[:160])
