"""Reads settings one by one and keeps what is wrong with them, to be told at once."""

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from importlib.util import find_spec
from typing import TypeVar

from kindling_billing.limits import MOST
from kindling_platform.config.addresses import flag

T = TypeVar("T")
PREFIX = "KINDLING_"
MOST_DAYS = 36_500
LEAST_SECRET_CHARS = 16
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
OTHER_LEVELS = {"WARN": "WARNING", "FATAL": "CRITICAL"}
# As exact as the ledger, which counts pico-dollars; Decimal alone takes exponents and digits of every script.
DOLLARS = re.compile(r"[0-9]+(\.[0-9]{1,12})?")


# What sends traces, and how it comes in.
TRACES_NEED = (
    "opentelemetry.exporter.otlp.proto.http",
    "OpenTelemetry is not installed: .venv/bin/pip install --require-hashes -r deploy/lock/otel.txt",
)


class EnvError(Exception):
    """Settings are missing or wrong; the message names each of them."""


class Reader:
    """The settings of a mapping; a wrong one reads as its default, and `finish` raises for all of them."""

    def __init__(self, given: Mapping[str, str]) -> None:
        self._given = given
        self._wrong: list[str] = []

    def optional(self, name: str) -> str | None:
        return self._given.get(PREFIX + name, "").strip() or None

    def text(self, name: str, default: str) -> str:
        return self.optional(name) or default

    def required(self, name: str) -> str:
        value = self.optional(name)
        if value is None:
            self._wrong.append(f"{PREFIX}{name} is not set")
        return value or ""

    def address(self, name: str, check: Callable[[str], str], kind: str) -> str | None:
        """An address, which may hold a password: the complaint about a wrong one does not repeat it."""
        value = self.optional(name)
        try:
            return check(value) if value is not None else None
        except ValueError:
            self._wrong.append(f"{PREFIX}{name} must be an address {kind}")
            return None

    def needing(self, name: str, value: str | None, module: str, remedy: str) -> str | None:
        """A value that is of use with a module alone which not every installation has."""
        if value is not None and not _is_installed(module):
            self._wrong.append(f"{PREFIX}{name} is set, and {remedy}")
        return value

    def required_address(self, name: str, check: Callable[[str], str], kind: str) -> str:
        return (self.address(name, check, kind) or "") if self.required(name) else ""

    def together(self, *names: str) -> None:
        """Settings of which one is of no use without the others."""
        given = [name for name in names if self.optional(name)]
        missing = [name for name in names if name not in given]
        if given:
            self._wrong += [f"{PREFIX}{given[0]} is set, and {PREFIX}{name} is not" for name in missing]

    def depends(self, name: str, on: str) -> None:
        """A setting that is of no use without another, which may be given without this one."""
        if self.optional(name) and not self.optional(on):
            self._wrong.append(f"{PREFIX}{name} is set, and {PREFIX}{on} is not")

    def secret(self, name: str) -> str | None:
        """A secret that somebody else has chosen; the complaint about a short one does not repeat it."""
        value = self.optional(name)
        if value is not None and len(value) < LEAST_SECRET_CHARS:
            self._wrong.append(f"{PREFIX}{name} must have at least {LEAST_SECRET_CHARS} characters")
        return value

    def words(self, name: str) -> tuple[str, ...]:
        return tuple(word.strip() for word in self.text(name, "").split(",") if word.strip())

    def choice(self, name: str, choices: tuple[str, ...], default: str) -> str:
        listed = " or ".join(choices)
        return self._parsed(name, default, str, lambda value: value in choices, listed)

    def flag(self, name: str) -> bool:
        return self._parsed(name, False, flag, lambda _: True, "1, true or yes, or 0, false or no")

    def log_level(self, name: str, default: str) -> str:
        listed = " or ".join(LOG_LEVELS)
        return self._parsed(name, default, _level, lambda level: level in LOG_LEVELS, listed)

    def port(self, name: str, default: int) -> int:
        return self._parsed(name, default, int, lambda port: 0 < port < 65536, "a port number, 1 to 65535")

    def limit(self, name: str, default: int) -> int | None:
        """A limit of every organisation that has none of its own; 0 is none."""
        return (
            self._parsed(name, default, int, lambda value: 0 <= value <= MOST, "a number, 0 for no limit")
            or None
        )

    def positive(self, name: str, default: int, kind: str) -> int:
        return self._parsed(name, default, int, lambda value: 0 < value <= MOST, kind)

    def days(self, name: str, default: int, *, least: int) -> int:
        """How long something is kept; 0 is for ever."""
        kind = f"0 for ever, or {least} to {MOST_DAYS} days"
        return self._parsed(name, default, int, lambda days: days == 0 or least <= days <= MOST_DAYS, kind)

    def money(self, name: str, default: str, *, most: int) -> str:
        """Dollars as they were written, in plain digits."""
        kind = f"an amount of dollars, at most {most:,} and with at most 12 decimals, such as 2.50"
        return self._parsed(name, default, str, lambda text: _is_dollars(text, most), kind)

    def _parsed(
        self, name: str, default: T, parse: Callable[[str], T], fits: Callable[[T], bool], kind: str
    ) -> T:
        text = self.optional(name)
        if text is None:
            return default
        try:
            value = parse(text)
        except ValueError:
            return self._refused(name, kind, text, default)
        return value if fits(value) else self._refused(name, kind, text, default)

    def _refused(self, name: str, kind: str, text: str, default: T) -> T:
        self._wrong.append(f"{PREFIX}{name} must be {kind}, not {text[:60]!r}")
        return default

    def finish(self) -> None:
        if self._wrong:
            raise EnvError("; ".join(self._wrong))


def _level(text: str) -> str:
    return OTHER_LEVELS.get(text.upper(), text.upper())


def _is_dollars(text: str, most: int) -> bool:
    return DOLLARS.fullmatch(text) is not None and Decimal(text) <= most


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # of a package that it is in
        return False
