"""The settings of an installation, read once from the environment and `HOME/secrets.env`; free of Django.

Every name that is missing or wrong is reported at the same time.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from kindling_billing.limits import Limits
from kindling_engine.protocol.kv_dtypes import AUTO, KV_DTYPES
from kindling_engine.protocol.weight_forms import CHECKPOINT, WEIGHT_FORMS
from kindling_platform.common.identity import (
    GITHUB,
    GOOGLE,
    GOOGLE_ISSUER,
    LOOPBACK,
    OIDC,
    IdentityProvider,
    provider_make,
)
from kindling_platform.common.objectstore.place import PREFIX as STORE_PREFIX
from kindling_platform.common.objectstore.place import REGION, StorePlace, store_address, store_place
from kindling_platform.config.addresses import (
    cache_address,
    database_address,
    issuer_address,
    mail_address,
    web_address,
)
from kindling_platform.config.env_reader import PREFIX, TRACES_NEED, EnvError, Reader

__all__ = ["CREDIT_NEEDS", "SECRETS_FILE", "STRIPE_OFF", "Env", "EnvError", "load_env", "load_object_store"]

SECRETS_FILE = "secrets.env"
MEGABYTE = 1024 * 1024
# What billing grants at most at once.
MOST_CREDIT_USD = 1_000_000
# Given instead of a key, this switches payments off: neither Stripe nor the stand-in.
STRIPE_OFF = "off"
# What a new organisation shows before it gets its starting credit.
CREDIT_NEEDS = ("nothing", "mail", "card")
DATABASE_KIND = "like postgresql://user:password@host:5432/kindling"
CACHE_KIND = "like redis://:password@host:6379/0 or rediss://:password@host:6379/0"
MAIL_KIND = "like smtp://user:password@host:587?tls=1 or smtps://user:password@host:465"
STORE_KIND = "like s3://bucket/prefix"
WEB_KIND = "like http://host:port or https://host"
ISSUER_KIND = "like https://login.example.com; http is for this machine alone, as others could read along"


@dataclass(frozen=True, slots=True)
class Env:
    """One installation's settings; money in US dollars as text, paths absolute.

    `object_store` has no credentials: few processes need them, and those ask `load_object_store`.
    """

    host: str
    port: int
    public_url: str
    home: Path
    database_url: str
    redis_url: str
    smtp_url: str | None
    object_store: StorePlace | None
    model: str
    weights: str | None
    kv_dtype: str | None
    stripe_secret_key: str | None
    stripe_webhook_secret: str | None
    stripe_api_base: str | None
    stripe_tax: bool
    seller: str
    torch_index: str | None
    signup_credit_usd: str
    signup_credit_needs: str
    cors_origins: tuple[str, ...]
    webhooks_private: bool
    limits: Limits
    spool_max_bytes: int
    keep_requests_days: int
    keep_audit_days: int
    keep_events_days: int
    keep_spool_days: int
    keep_usage_logs_days: int
    agent_url: str
    metrics_token: str | None
    identity_providers: tuple[IdentityProvider, ...]
    otlp_endpoint: str | None
    debug: bool
    log_level: str
    secret_key: str
    key_pepper: str
    agent_token: str
    bootstrap_api_key: str | None

    @property
    def broker_url(self) -> str:
        """The same Valkey, as Celery names a socket."""
        if not self.redis_url.startswith("unix://"):
            return self.redis_url
        return self.redis_url.replace("unix://", "redis+socket://", 1).replace("?db=", "?virtual_host=", 1)

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
    reader = Reader(_secrets(home) | given)
    port = reader.port("PORT", 8000)

    def web(name: str) -> str | None:
        return reader.address(name, web_address, WEB_KIND)

    env = Env(
        host=reader.text("HOST", "127.0.0.1"),
        port=port,
        public_url=(web("PUBLIC_URL") or f"http://localhost:{port}").rstrip("/"),
        home=home,
        database_url=reader.required_address("DATABASE_URL", database_address, DATABASE_KIND),
        redis_url=reader.required_address("REDIS_URL", cache_address, CACHE_KIND),
        smtp_url=reader.address("SMTP_URL", mail_address, MAIL_KIND),
        object_store=_object_store(reader),
        model=reader.text("MODEL", "kindling/spark"),
        weights=reader.choice("WEIGHTS", WEIGHT_FORMS, CHECKPOINT) if reader.optional("WEIGHTS") else None,
        kv_dtype=reader.choice("KV_DTYPE", KV_DTYPES, AUTO) if reader.optional("KV_DTYPE") else None,
        stripe_secret_key=reader.optional("STRIPE_SECRET_KEY"),
        stripe_webhook_secret=reader.optional("STRIPE_WEBHOOK_SECRET"),
        stripe_api_base=web("STRIPE_API_BASE"),
        stripe_tax=reader.flag("STRIPE_TAX"),
        seller=reader.text("SELLER", "Kindling").replace("\\n", "\n"),
        torch_index=reader.optional("TORCH_INDEX"),
        signup_credit_usd=reader.money("SIGNUP_CREDIT_USD", "1.00", most=MOST_CREDIT_USD),
        signup_credit_needs=reader.choice(
            "SIGNUP_CREDIT_NEEDS", CREDIT_NEEDS, "mail" if reader.optional("SMTP_URL") else "nothing"
        ),
        cors_origins=reader.words("CORS_ORIGINS"),
        webhooks_private=reader.flag("WEBHOOKS_PRIVATE"),
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
        agent_url=(web("AGENT_URL") or "http://127.0.0.1:8100").rstrip("/"),
        metrics_token=reader.secret("METRICS_TOKEN"),
        identity_providers=_identity_providers(reader),
        otlp_endpoint=reader.needing("OTLP_ENDPOINT", web("OTLP_ENDPOINT"), *TRACES_NEED),
        debug=reader.flag("DEBUG"),
        log_level=reader.log_level("LOG_LEVEL", "INFO"),
        secret_key=reader.required("SECRET_KEY"),
        key_pepper=reader.required("KEY_PEPPER"),
        agent_token=reader.required("AGENT_TOKEN"),
        bootstrap_api_key=reader.optional("BOOTSTRAP_API_KEY"),
    )
    reader.finish()
    return env


def load_object_store(environ: Mapping[str, str] | None = None) -> StorePlace | None:
    """Where the object store is, with the credentials for it; None if there is none. Raises ValueError for a wrong
    address, which a start has refused.
    """
    given = dict(os.environ if environ is None else environ)
    home = Path(given.get(PREFIX + "HOME") or ".kindling").resolve()
    return store_place(_secrets(home) | {name: text for name, text in given.items() if text})


def _object_store(reader: Reader) -> StorePlace | None:
    address = reader.address("OBJECT_STORE", store_address, STORE_KIND)
    endpoint = reader.address("OBJECT_STORE_ENDPOINT", web_address, WEB_KIND)
    region = reader.text("OBJECT_STORE_REGION", REGION)
    if reader.optional("OBJECT_STORE_ACCESS_KEY_ID") or reader.optional("OBJECT_STORE_SECRET_ACCESS_KEY"):
        reader.together("OBJECT_STORE_ACCESS_KEY_ID", "OBJECT_STORE_SECRET_ACCESS_KEY")
    reader.limit("BLOBS_MAX_GB", 0)
    for name in ("OBJECT_STORE_ENDPOINT", "OBJECT_STORE_ACCESS_KEY_ID", "BLOBS_MAX_GB"):
        reader.depends(name, "OBJECT_STORE")
    place = store_place({STORE_PREFIX: address}) if address else None
    return place and replace(place, endpoint=endpoint, region=region)


def _identity_providers(reader: Reader) -> tuple[IdentityProvider, ...]:
    issuer = reader.address("OIDC_ISSUER", issuer_address, ISSUER_KIND)
    reader.together("OIDC_ISSUER", "OIDC_CLIENT_ID", "OIDC_CLIENT_SECRET")
    reader.together("GOOGLE_CLIENT_ID", "GOOGLE_CLIENT_SECRET")
    reader.together("GITHUB_CLIENT_ID", "GITHUB_CLIENT_SECRET")
    found = (
        provider_make(
            OIDC,
            reader.text("OIDC_NAME", "single sign-on"),
            reader.optional("OIDC_CLIENT_ID"),
            reader.optional("OIDC_CLIENT_SECRET"),
            issuer,
        ),
        provider_make(
            GOOGLE,
            "Google",
            reader.optional("GOOGLE_CLIENT_ID"),
            reader.optional("GOOGLE_CLIENT_SECRET"),
            GOOGLE_ISSUER,
        ),
        provider_make(
            GITHUB, "GitHub", reader.optional("GITHUB_CLIENT_ID"), reader.optional("GITHUB_CLIENT_SECRET")
        ),
    )
    return tuple(one for one in found if one)


def _secrets(home: Path) -> dict[str, str]:
    try:
        lines = (home / SECRETS_FILE).read_text().splitlines()
    except OSError:
        return {}
    pairs = (line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    return {name.strip(): value.strip() for name, value in pairs}
