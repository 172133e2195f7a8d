"""The state folder: where things lie in it."""

import os
from dataclasses import dataclass
from pathlib import Path

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
    def backup_lock(self) -> Path:
        return self.run / "backup.lock"

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
                # Letters open accounts.
                self.path / "mail",
            ):
                folder.mkdir(exist_ok=True)
                folder.chmod(0o700)
        except OSError as error:
            raise self.unwritable(error) from error

    def unwritable(self, error: OSError) -> EmbeddedError:
        """What a write into the folder that failed is told as."""
        return EmbeddedError(
            "home_unwritable",
            f"The state folder {self.path} cannot be written ({error.strerror or error}); "
            "make room, or set KINDLING_HOME to a folder that can.",
        )
