"""Where the command finds its address and key: the environment, `kindling login`, a stack on this machine."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from kindling_platform.cli.errors import CliError
from kindling_platform.cli.program import PROGRAM

DEFAULT_URL = "http://localhost:8000"


@dataclass(frozen=True, slots=True)
class Credentials:
    """An address without a trailing slash, and an API key."""

    url: str
    key: str


def credentials_path() -> Path:
    base = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(base) / "kindling" / "credentials.json"


def credentials_save(credentials: Credentials) -> Path:
    """Keep the key for later commands; only its owner may read the file."""
    path = credentials_path()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    half = path.with_suffix(f".{os.getpid()}")
    handle = os.open(half, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w") as out:
        json.dump(asdict(credentials), out)
    half.replace(path)
    return path


def credentials_find() -> Credentials:
    """Errors: CliError `not_logged_in` with the command to run."""
    key = os.environ.get("KINDLING_API_KEY")
    if key:
        return Credentials(os.environ.get("KINDLING_URL", DEFAULT_URL).rstrip("/"), key)
    found = _read(credentials_path())
    if found.get("key"):
        return Credentials(found["url"], found["key"])
    # The owner of a stack on this machine may use it at once, with the key its start printed.
    local = _read(Path(os.environ.get("KINDLING_HOME") or ".kindling") / "run" / "state.json")
    if local.get("api_key"):
        return Credentials(local["url"], local["api_key"])
    raise CliError(
        f"No API key is known here: run `{PROGRAM} login`, or set KINDLING_API_KEY.", "not_logged_in"
    )


def _read(path: Path) -> dict[str, str]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
