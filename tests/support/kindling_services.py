"""Pytest plugin: one Postgres and one Valkey of this session alone, and the settings that point at them.

The addresses are settled before Django reads its settings; the servers start after collection, and
only when a collected test may need them. A server given by KINDLING_DATABASE_URL is used as it is.
Sessions at the same time do not meet: own ports, own folder, everything stopped at the end.
"""

import os
import secrets
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from kindling_platform.embedded.account import reachable_folder, service_account
from kindling_platform.embedded.ports import PortHold, hold_port
from kindling_platform.embedded.postgres import FAST_AND_LOOSE, PostgresServer, find_binaries, run_initdb
from kindling_platform.embedded.valkey import ValkeyServer

PREFIX = "kindling-tests-"
# Everything below these folders runs without a server, or starts its own.
NEED_NOTHING = {"engine", "kernels", "kernels_ahead", "architecture", "stack", "embedded", "e2e"}
SECRETS = ("KINDLING_SECRET_KEY", "KINDLING_KEY_PEPPER", "KINDLING_AGENT_TOKEN")


class Services:
    """The servers of one session, named by their addresses before they run."""

    def __init__(self) -> None:
        sweep_leftovers()
        self.folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))
        self.folder.chmod(0o755)
        self.holds: list[PortHold] = []
        self.postgres: PostgresServer | None = None
        self.valkey: ValkeyServer | None = None
        self.started = False
        self.keep = False

    def export(self) -> None:
        home = self.folder / "home"
        home.mkdir(exist_ok=True)
        os.environ.setdefault("KINDLING_HOME", str(home))
        for name in SECRETS:
            os.environ.setdefault(name, secrets.token_hex(24))
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        if "KINDLING_DATABASE_URL" not in os.environ:
            template, password = cluster_template()
            self.postgres = PostgresServer(
                data_dir=self.folder / "postgres",
                port=self.free_port(),
                password=password,
                log_path=self.folder / "postgres.log",
                settings=FAST_AND_LOOSE,
                template=template,
            )
            os.environ["KINDLING_DATABASE_URL"] = self.postgres.url()
        if "KINDLING_REDIS_URL" not in os.environ:
            self.valkey = ValkeyServer(
                folder=self.folder / "valkey",
                port=self.free_port(),
                password=secrets.token_hex(12),
                log_path=self.folder / "valkey.log",
            )
            os.environ["KINDLING_REDIS_URL"] = self.valkey.url()

    def start(self) -> None:
        if self.started:
            return
        self.started = True
        for server in (self.postgres, self.valkey):
            if server:
                server.launch()
        for server in (self.postgres, self.valkey):
            if server:
                server.wait_ready()

    def stop(self) -> None:
        for server in (self.postgres, self.valkey):
            child = server.child if server else None
            if child and child.process:
                # Nothing here is kept, so nobody waits for a shutdown that saves it.
                child.process.send_signal(signal.SIGQUIT if server is self.postgres else signal.SIGKILL)
                child.wait_stopped()
        for hold in self.holds:
            hold.release()
        if not self.keep:
            shutil.rmtree(self.folder, ignore_errors=True)

    def free_port(self) -> int:
        self.holds.append(hold_port())
        return self.holds[-1].port


def cluster_template() -> tuple[Path, str]:
    """A finished cluster to copy and its password; made once per user, since initdb takes a second."""
    account = service_account()
    binaries = find_binaries(account)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kindling"
    name = f"cluster-{int((binaries / 'postgres').stat().st_mtime)}"
    finished = cache / name
    if not (finished / "password").exists():
        with tempfile.TemporaryDirectory(prefix=PREFIX) as text:
            work = Path(text)
            work.chmod(0o755)
            folder = reachable_folder(work / "data", account)
            folder.mkdir(mode=0o700)
            if account:
                account.own(folder)
            password = secrets.token_hex(12)
            run_initdb(binaries, folder, password, account)
            cache.mkdir(parents=True, exist_ok=True)
            half = Path(tempfile.mkdtemp(prefix=f"{name}.", dir=cache))
            shutil.copytree(folder, half / "data")
            (half / "password").write_text(password)
            try:
                half.rename(finished)
            except OSError:
                # Another session was faster; its cluster is as good.
                shutil.rmtree(half)
            if folder.is_relative_to("/var/lib/kindling"):
                shutil.rmtree(folder, ignore_errors=True)
    return finished / "data", (finished / "password").read_text()


def sweep_leftovers() -> None:
    """Remove the folders of sessions that were killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*-*"):
        pid = folder.name.removeprefix(PREFIX).split("-")[0]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists():
            shutil.rmtree(folder, ignore_errors=True)


services = Services()


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests() -> Iterator[None]:
    services.export()
    return (yield)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    # Pytest's own place for temporary folders is closed to others, so a database that root starts there
    # could not reach its files.
    if config.option.basetemp is None:
        config.option.basetemp = str(services.folder / "tmp")


@pytest.fixture(scope="session", autouse=True)
def reachable_basetemp(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Servers that run as another account find their files there."""
    tmp_path_factory.getbasetemp().chmod(0o755)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(exitstatus: int) -> None:
    # What a failed session wrote stays until the next one begins.
    services.keep = exitstatus != 0


@pytest.hookimpl(trylast=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    if session.config.option.collectonly:
        return
    tests = Path(__file__).parents[1]
    for item in session.items:
        path = item.path.relative_to(tests) if item.path.is_relative_to(tests) else item.path
        if path.parts[0] not in NEED_NOTHING or item.get_closest_marker("django_db"):
            services.start()
            return


@pytest.hookimpl(trylast=True)
def pytest_unconfigure() -> None:
    services.stop()
