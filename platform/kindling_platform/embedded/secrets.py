"""Secrets made at the first start, kept in `HOME/secrets.env` for their owner's eyes alone."""

import secrets as random
from collections.abc import Callable
from pathlib import Path

from kindling_platform.embedded.files import write_private
from kindling_platform.keys import secret

HEADER = "# Made by Kindling at its first start. Who reads this file owns this installation.\n"

MAKERS: dict[str, Callable[[], str]] = {
    "KINDLING_SECRET_KEY": lambda: random.token_urlsafe(48),
    "KINDLING_KEY_PEPPER": lambda: random.token_hex(32),
    "KINDLING_AGENT_TOKEN": lambda: random.token_urlsafe(32),
    "KINDLING_BOOTSTRAP_API_KEY": secret.generate,
    "KINDLING_POSTGRES_PASSWORD": lambda: random.token_hex(24),
    "KINDLING_VALKEY_PASSWORD": lambda: random.token_hex(24),
    "KINDLING_STAND_IN_STRIPE_KEY": lambda: f"sk_test_{random.token_hex(24)}",
    "KINDLING_STAND_IN_WEBHOOK_SECRET": lambda: f"whsec_{random.token_hex(24)}",
}


def secrets_ensure(path: Path) -> dict[str, str]:
    """The secrets in the file, after adding those that are not there yet; names without a default stay."""
    found = secrets_read(path)
    missing = {name: make() for name, make in MAKERS.items() if not found.get(name)}
    if missing:
        found |= missing
        _write(path, found)
    path.chmod(0o600)
    return found


def secret_replace(path: Path, name: str, value: str) -> None:
    """Give one of the secrets in the file another value."""
    _write(path, secrets_read(path) | {name: value})


def secrets_read(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    lines = (line.strip() for line in path.read_text().splitlines())
    pairs = (line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    return {name.strip(): value.strip() for name, value in pairs}


def _write(path: Path, secrets: dict[str, str]) -> None:
    write_private(path, HEADER + "".join(f"{name}={value}\n" for name, value in secrets.items()))
