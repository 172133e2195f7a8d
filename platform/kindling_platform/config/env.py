"""The settings of an installation, read once from the environment and `HOME/secrets.env`; free of Django.

Every name that is missing or wrong is reported at the same time.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TypeVar

from kindling_billing.limits import MOST, Limits
from kindling_engine.protocol.weight_forms import CHECKPOINT, WEIGHT_FORMS

T = TypeVar("T")
PREFIX = "KINDLING_"
SECRETS_FILE = "secrets.env"
MEGABYTE = 1024 * 1024
MOST_DAYS = 36_500
# What a new organisation shows before it gets its starting credit.
CREDIT_NEEDS = ("nothing", "mail", "card")
LEAST_SECRET_CHARS = 16
LOOPBACK = ("127.0.0.1", "localhost", "::1")


class EnvError(Exception):
    """Settings are missing or wrong; the message names each of them."""


@dataclass(frozen=True, slots=True)
class Env:
    """One installation's settings; money in US dollars as text, paths absolute."""

    host: str
    port: int
    public_url: str
    home: Path
    database_url: str
    redis_url: str
    smtp_url: str | None
    model: str
    weights: str | None
    stripe_secret_key: str | None
    stripe_webhook_secret: str | None
    stripe_api_base: str | None
    stripe_tax: bool
    seller: str
    torch_index: str | None
    signup_credit_usd: str
    signup_credit_needs: str
    cors_origins: tuple[str, ...]
    limits: Limits
    spool_max_bytes: int
    keep_requests_days: int
    keep_audit_days: int
    keep_events_days: int
    keep_spool_days: int
    keep_usage_logs_days: int
    agent_url: str
    metrics_token: str | None
    otlp_endpoint: str | None
    debug: bool
    log_level: str
    secret_key: str
    key_pepper: str
    agent_token: str
    bootstrap_api_key: str | None

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the web port."""
        return self.host in LOOPBACK


def load_env(environ: Mapping[str, str] | None = None) -> Env:
    """Read the settings.

    Raises:
        EnvError: names every setting that is missing or wrong.
    """
    given = dict(os.environ if environ is None else environ)
    home = Path(given.get(PREFIX + "HOME") or ".kindling").resolve()
    reader = _Reader(_secrets(home) | given)
    port = reader.number("PORT", 8000)
    env = Env(
        host=reader.text("HOST", "127.0.0.1"),
        port=port,
        public_url=reader.text("PUBLIC_URL", f"http://localhost:{port}").rstrip("/"),
        home=home,
        database_url=reader.required("DATABASE_URL"),
        redis_url=reader.required("REDIS_URL"),
        smtp_url=reader.optional("SMTP_URL"),
        model=reader.text("MODEL", "kindling/spark"),
        weights=reader.choice("WEIGHTS", WEIGHT_FORMS, CHECKPOINT) if reader.optional("WEIGHTS") else None,
        stripe_secret_key=reader.optional("STRIPE_SECRET_KEY"),
        stripe_webhook_secret=reader.optional("STRIPE_WEBHOOK_SECRET"),
        stripe_api_base=reader.optional("STRIPE_API_BASE"),
        stripe_tax=reader.text("STRIPE_TAX", "0") == "1",
        seller=reader.text("SELLER", "Kindling").replace("\\n", "\n"),
        torch_index=reader.optional("TORCH_INDEX"),
        signup_credit_usd=reader.money("SIGNUP_CREDIT_USD", "1.00"),
        signup_credit_needs=reader.choice(
            "SIGNUP_CREDIT_NEEDS", CREDIT_NEEDS, "mail" if reader.optional("SMTP_URL") else "nothing"
        ),
        cors_origins=reader.words("CORS_ORIGINS"),
        limits=Limits(
            requests_per_minute=reader.limit("LIMIT_REQUESTS_PER_MINUTE", 6_000),
            prompt_tokens_per_minute=reader.limit("LIMIT_PROMPT_TOKENS_PER_MINUTE", 40_000_000),
            uncached_tokens_per_minute=reader.limit("LIMIT_UNCACHED_TOKENS_PER_MINUTE", 20_000_000),
            generated_tokens_per_minute=reader.limit("LIMIT_GENERATED_TOKENS_PER_MINUTE", 4_000_000),
            concurrent_requests=reader.limit("LIMIT_CONCURRENT_REQUESTS", 1_000),
        ),
        spool_max_bytes=reader.positive("SPOOL_MAX_MB", 512, "a number of megabytes") * MEGABYTE,
        keep_requests_days=reader.days("KEEP_REQUESTS_DAYS", 400, least=70),
        keep_audit_days=reader.days("KEEP_AUDIT_DAYS", 0, least=90),
        keep_events_days=reader.days("KEEP_EVENTS_DAYS", 90, least=35),
        keep_spool_days=reader.days("KEEP_SPOOL_DAYS", 7, least=2),
        keep_usage_logs_days=reader.days("KEEP_USAGE_LOGS_DAYS", 400, least=70),
        agent_url=reader.text("AGENT_URL", "http://127.0.0.1:8100").rstrip("/"),
        metrics_token=reader.secret("METRICS_TOKEN"),
        otlp_endpoint=reader.optional("OTLP_ENDPOINT"),
        debug=reader.text("DEBUG", "0") == "1",
        log_level=reader.text("LOG_LEVEL", "INFO").upper(),
        secret_key=reader.required("SECRET_KEY"),
        key_pepper=reader.required("KEY_PEPPER"),
        agent_token=reader.required("AGENT_TOKEN"),
        bootstrap_api_key=reader.optional("BOOTSTRAP_API_KEY"),
    )
    reader.finish()
    return env


def _secrets(home: Path) -> dict[str, str]:
    try:
        lines = (home / SECRETS_FILE).read_text().splitlines()
    except (FileNotFoundError, PermissionError):
        return {}
    pairs = (line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    return {name.strip(): value.strip() for name, value in pairs}


class _Reader:
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

    def number(self, name: str, default: int) -> int:
        return self._parsed(name, default, int, lambda value: 0 <= value < 65536, "a port number")

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

    def money(self, name: str, default: str) -> str:
        value = self._parsed(
            name,
            Decimal(default),
            Decimal,
            lambda amount: amount.is_finite() and amount >= 0,
            "an amount of dollars",
        )
        return str(value)

    def _parsed(
        self, name: str, default: T, parse: Callable[[str], T], fits: Callable[[T], bool], kind: str
    ) -> T:
        text = self.optional(name)
        if text is None:
            return default
        try:
            value = parse(text)
        except (ValueError, InvalidOperation):
            return self._refused(name, kind, text, default)
        return value if fits(value) else self._refused(name, kind, text, default)

    def _refused(self, name: str, kind: str, text: str, default: T) -> T:
        self._wrong.append(f"{PREFIX}{name} must be {kind}, not {text[:60]!r}")
        return default

    def finish(self) -> None:
        if self._wrong:
            raise EnvError("; ".join(self._wrong))
