"""Where the agent keeps things below its home folder."""

import re
from dataclasses import dataclass
from pathlib import Path

from kindling_workers.agent.errors import AgentError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,120}")
# A replica's usage log, or one of the files in which it goes on.
USAGE_NAME = re.compile(NAME.pattern + r"(~[1-9][0-9]{0,8})?")


@dataclass(frozen=True, slots=True)
class Places:
    """Paths below the home folder."""

    home: Path
    blob_source: Path | None = None
    """Where engines ask for adapters that are not in `blobs`."""

    @property
    def specs(self) -> Path:
        return self.home / "agent" / "replicas"

    @property
    def blobs(self) -> Path:
        return self.home / "blobs"

    @property
    def tuned(self) -> Path:
        """Which configurations of its kernels a GPU of this host is fastest with."""
        return self.home / "tuned"

    def spec(self, name: str) -> Path:
        return self.specs / f"{checked_name(name)}.json"

    def log(self, name: str) -> Path:
        return self.home / "logs" / f"{checked_name(name)}.log"

    def usage_log(self, name: str) -> Path:
        """Of a replica, or one of the files in which it goes on."""
        return self.home / "usage" / f"{checked_name(name, USAGE_NAME)}.log"

    def usage_logs(self) -> list[Path]:
        return sorted((self.home / "usage").glob("*.log"))


def checked_name(name: str, right: re.Pattern[str] = NAME) -> str:
    """The name of a replica as part of a path. Errors: `invalid_name`."""
    if not right.fullmatch(name):
        raise AgentError("invalid_name", "A replica's name is letters, digits, dots, dashes and underscores.")
    return name
