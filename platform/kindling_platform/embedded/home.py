"""The state folder: where things lie in it, and the lock that gives it one supervisor at a time."""

import fcntl
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from kindling_platform.embedded.errors import EmbeddedError


@dataclass(frozen=True, slots=True)
class Home:
    """Paths below the state folder, which is an absolute path."""

    path: Path

    @classmethod
    def from_environ(cls) -> "Home":
        return cls(Path(os.environ.get("KINDLING_HOME") or ".kindling").expanduser().resolve())

    @property
    def run(self) -> Path:
        return self.path / "run"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def state(self) -> Path:
        return self.run / "state.json"

    @property
    def ports(self) -> Path:
        return self.run / "ports.json"

    @property
    def lock(self) -> Path:
        return self.run / "lock"

    @property
    def secrets(self) -> Path:
        return self.path / "secrets.env"

    def log(self, child: str) -> Path:
        return self.logs / f"{child}.log"

    def make(self) -> None:
        """Make the folders. Errors: `home_unwritable`."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            # As root the database runs as another account, which must be able to pass through.
            self.path.chmod(0o711 if os.geteuid() == 0 else 0o700)
            for folder in (
                self.run,
                self.logs,
                self.path / "usage",
                self.path / "blobs",
                self.path / "uploads",
            ):
                folder.mkdir(exist_ok=True)
                folder.chmod(0o700)
        except OSError as error:
            raise EmbeddedError(
                "home_unwritable",
                f"The state folder {self.path} cannot be written ({error.strerror}); "
                "set KINDLING_HOME to a folder that can.",
            ) from error


class HomeLock:
    """Held by the supervisor as long as it lives; the kernel lets go of it when the process dies."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._file: IO[str] | None = None

    def take(self) -> None:
        """Errors: `already_running`."""
        file = self._home.lock.open("a+")
        # A command that looks whether we run holds the lock for an instant; only a supervisor keeps it.
        for attempt in range(10):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(0.02 * attempt)
        else:
            file.close()
            raise EmbeddedError(
                "already_running",
                f"Kindling already runs on {self._home.path} (process {lock_owner(self._home)}); "
                "stop it with `./kindling down`.",
            )
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        self._file = file

    def release(self) -> None:
        if self._file:
            self._file.close()
            self._file = None


def lock_owner(home: Home) -> int | None:
    """The process id of the supervisor that runs on this folder, or None."""
    try:
        file = home.lock.open("r+")
    except OSError:
        return None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            text = file.read().strip()
            return int(text) if text.isdigit() else None
        return None
