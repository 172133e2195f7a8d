"""Settings: all mistakes at once, secrets from their file, no Django."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from django.db import connections
from kombu import Connection

from kindling_billing.money import usd_to_pico
from kindling_billing.services import MAX_CREDIT_PICOUSD
from kindling_platform.common.objectstore.place import StorePlace
from kindling_platform.config import env as env_module
from kindling_platform.config.database import OVER_TCP, POOL, connections_pool, database_settings
from kindling_platform.config.env import Env, EnvError, load_env, load_object_store
from kindling_platform.config.mail import mail_settings

REPOSITORY = Path(__file__).parents[2]
GOOD = {
    "KINDLING_DATABASE_URL": "postgresql://u:p%40ss@db:5433/kindling?sslmode=require",
    "KINDLING_REDIS_URL": "redis://localhost:6379/0",
    "KINDLING_SECRET_KEY": "s",
    "KINDLING_KEY_PEPPER": "p",
    "KINDLING_AGENT_TOKEN": "a",
}


def test_every_mistake_is_named_at_once():
    with pytest.raises(EnvError) as refused:
        load_env({"KINDLING_PORT": "many", "KINDLING_SIGNUP_CREDIT_USD": "-1", "KINDLING_HOME": "/nowhere"})
    said = str(refused.value)
    for name in (
        "DATABASE_URL",
        "REDIS_URL",
        "SECRET_KEY",
        "KEY_PEPPER",
        "AGENT_TOKEN",
        "PORT",
        "SIGNUP_CREDIT_USD",
    ):
        assert f"KINDLING_{name}" in said


def test_defaults_are_for_ones_own_machine(tmp_path: Path):
    env = load_env(GOOD | {"KINDLING_HOME": str(tmp_path)})
    assert (env.host, env.port, env.public_url, env.is_loopback) == (
        "127.0.0.1",
        8000,
        "http://localhost:8000",
        True,
    )
    assert env.signup_credit_usd == "1.00"
    assert env.smtp_url is None and env.debug is False
    assert env.weights is None
    assert load_env(GOOD | {"KINDLING_HOME": str(tmp_path), "KINDLING_WEIGHTS": "fp16"}).weights == "fp16"
    assert env.kv_dtype is None
    assert load_env(GOOD | {"KINDLING_HOME": str(tmp_path), "KINDLING_KV_DTYPE": "fp8"}).kv_dtype == "fp8"
    with pytest.raises(EnvError, match="KINDLING_WEIGHTS must be checkpoint or fp16 or int8wo or fp8"):
        load_env(GOOD | {"KINDLING_HOME": str(tmp_path), "KINDLING_WEIGHTS": "int3"})


def test_secrets_come_from_their_file_and_the_environment_wins(tmp_path: Path):
    (tmp_path / "secrets.env").write_text(
        "# made at the first start\nKINDLING_SECRET_KEY=file\nKINDLING_KEY_PEPPER=file\n"
    )
    given = {name: value for name, value in GOOD.items() if name != "KINDLING_SECRET_KEY"}
    env = load_env(given | {"KINDLING_HOME": str(tmp_path)})
    assert (env.secret_key, env.key_pepper) == ("file", "p")


def test_reading_them_needs_no_django():
    code = "import sys, kindling_platform.config.env; sys.exit('django' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_database_url_in_all_its_parts():
    found = database_settings(GOOD["KINDLING_DATABASE_URL"])
    assert (found["NAME"], found["USER"], found["PASSWORD"]) == ("kindling", "u", "p@ss")
    assert (found["HOST"], found["PORT"]) == ("db", "5433")
    assert found["OPTIONS"] == OVER_TCP | {"sslmode": "require"}
    with pytest.raises(ValueError, match="postgresql"):
        database_settings("mysql://x")


def test_a_database_that_vanishes_is_given_up_in_seconds_unless_the_url_says_otherwise():
    assert database_settings("postgresql:///kindling?host=/run/postgresql")["OPTIONS"] == {
        "host": "/run/postgresql"
    }
    options = database_settings("postgresql://db/kindling?connect_timeout=60&keepalives=0")["OPTIONS"]
    assert (options["connect_timeout"], options["keepalives"]) == ("60", "0")
    assert options["tcp_user_timeout"] and options["keepalives_count"]


def test_a_process_that_pools_its_connections_keeps_what_the_url_asked_for(monkeypatch: pytest.MonkeyPatch):
    entry = database_settings(GOOD["KINDLING_DATABASE_URL"])
    monkeypatch.setitem(connections.__dict__, "settings", {"default": entry})
    connections_pool()
    assert (entry["CONN_MAX_AGE"], entry["OPTIONS"]) == (
        0,
        OVER_TCP | {"sslmode": "require", "pool": POOL},
    )


def test_no_module_of_the_tests_pools_their_connections():
    """A pooled connection comes back with its locks and transactions, to another test."""
    assert "pool" not in connections.settings["default"]["OPTIONS"]


def test_mail_goes_to_a_server_or_into_files(tmp_path: Path):
    assert mail_settings(None, tmp_path)["EMAIL_FILE_PATH"] == str(tmp_path / "mail")
    server = mail_settings("smtp://me:secret%21@mail.test:587", tmp_path)
    assert (server["EMAIL_HOST"], server["EMAIL_PORT"], server["EMAIL_HOST_PASSWORD"]) == (
        "mail.test",
        587,
        "secret!",
    )
    assert server["EMAIL_USE_TLS"] is True


@pytest.mark.parametrize("days", ["69", "-1", "36501", "many"])
def test_what_is_kept_too_short_is_refused(days: str, tmp_path: Path):
    given = GOOD | {"KINDLING_HOME": str(tmp_path), "KINDLING_KEEP_REQUESTS_DAYS": days}
    with pytest.raises(EnvError, match="KINDLING_KEEP_REQUESTS_DAYS must be 0 for ever, or 70 to"):
        load_env(given)


def test_what_is_kept_for_ever_is_zero_days(tmp_path: Path):
    env = load_env(GOOD | {"KINDLING_HOME": str(tmp_path), "KINDLING_KEEP_REQUESTS_DAYS": "0"})
    kept = (env.keep_requests_days, env.keep_audit_days, env.keep_events_days, env.keep_spool_days)
    assert (*kept, env.keep_usage_logs_days) == (0, 0, 90, 7, 400)


def given(tmp_path: Path, **settings: str) -> Env:
    return load_env(
        GOOD
        | {"KINDLING_HOME": str(tmp_path)}
        | {f"KINDLING_{name}": value for name, value in settings.items()}
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "0"),
        ("PORT", "65536"),
        ("LOG_LEVEL", "FOO"),
        ("DATABASE_URL", "foo"),
        ("DATABASE_URL", "mysql://u:hunter2@h/x"),
        ("DATABASE_URL", "postgresql://u:hunter2@h"),
        ("DATABASE_URL", "postgresql://u:hunter2@h:many/x"),
        ("REDIS_URL", "foo"),
        ("REDIS_URL", "redis://"),
        ("REDIS_URL", "unix://"),
        ("REDIS_URL", "redis://:hunter2@h/first"),
        ("SMTP_URL", "mail.example.com:587"),
        ("SMTP_URL", "smtp://"),
        ("SMTP_URL", "smtp://u:hunter2@h:abc"),
        ("SMTP_URL", "smtp://u:hunter2@h?tls=maybe"),
        ("OTLP_ENDPOINT", "foo"),
        ("PUBLIC_URL", "http://[::1"),
        ("PUBLIC_URL", "ai.example.com"),
        ("PUBLIC_URL", "https://ai example.com"),
        ("AGENT_URL", "127.0.0.1:8100"),
        ("STRIPE_TAX", "maybe"),
        ("DEBUG", "on"),
    ],
)
def test_what_nothing_could_work_with_is_refused_by_its_name(name: str, value: str, tmp_path: Path):
    with pytest.raises(EnvError, match=f"KINDLING_{name} must be") as refused:
        given(tmp_path, **{name: value})
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "postgresql:///kindling?host=/run/postgresql"),
        ("DATABASE_URL", "postgres://u:p@[::1]:5432/x"),
        ("DATABASE_URL", "postgresql:///?service=kindling"),
        ("REDIS_URL", "rediss://:p@cache.example.com:6380"),
        ("REDIS_URL", "redis://[::1]:6379/3"),
        ("REDIS_URL", "unix:///run/valkey.sock?db=2"),
        ("SMTP_URL", "smtps://u:p@mail.example.com:465?from=k@example.com"),
        ("PUBLIC_URL", "https://ai.example.com"),
        ("OTLP_ENDPOINT", "http://localhost:4318"),
    ],
)
def test_addresses_are_kept_as_they_were_given(name: str, value: str, tmp_path: Path):
    assert getattr(given(tmp_path, **{name: value}), name.lower()) == value


def test_an_endpoint_for_traces_needs_what_sends_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("kindling_platform.config.env_reader.find_spec", lambda _: None)
    assert given(tmp_path).otlp_endpoint is None
    with pytest.raises(
        EnvError, match=r"KINDLING_OTLP_ENDPOINT is set, and OpenTelemetry is not installed: .*otel"
    ):
        given(tmp_path, OTLP_ENDPOINT="http://localhost:4318")


@pytest.mark.parametrize(
    ("word", "meant"),
    [("1", True), ("TRUE", True), ("yes", True), ("0", False), ("False", False), ("NO", False)],
)
def test_yes_and_no_have_six_words(word: str, meant: bool, tmp_path: Path):
    env = given(tmp_path, STRIPE_TAX=word, DEBUG=word)
    assert (env.stripe_tax, env.debug) == (meant, meant)
    assert mail_settings(f"smtp://mail.test?tls={word}", tmp_path)["EMAIL_USE_TLS"] is meant


def test_levels_of_the_log_in_any_case_and_by_their_other_names(tmp_path: Path):
    levels = [given(tmp_path, LOG_LEVEL=level).log_level for level in ("debug", "Warn", "ERROR")]
    assert levels == ["DEBUG", "WARNING", "ERROR"]


@pytest.mark.parametrize("amount", ["0", "0.5", "1.00", "1000000", "0.000000000001"])
def test_starting_credit_is_what_the_ledger_can_grant(amount: str, tmp_path: Path):
    assert given(tmp_path, SIGNUP_CREDIT_USD=amount).signup_credit_usd == amount
    assert 0 <= usd_to_pico(amount) <= MAX_CREDIT_PICOUSD


@pytest.mark.parametrize(
    "amount",
    [
        "-1",
        "+1",
        "1e20",
        "1e2",
        "2000000",
        "1000000.01",
        "0.00000000000001",
        "1_000",
        "١",
        "nan",
        "inf",
        "1.",
        ".5",
    ],
)
def test_starting_credit_that_would_break_every_sign_up_is_refused(amount: str, tmp_path: Path):
    with pytest.raises(
        EnvError, match="KINDLING_SIGNUP_CREDIT_USD must be an amount of dollars, at most 1,000,000"
    ):
        given(tmp_path, SIGNUP_CREDIT_USD=amount)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"OIDC_CLIENT_ID": "x"}, "KINDLING_OIDC_CLIENT_ID is set, and KINDLING_OIDC_ISSUER is not"),
        (
            {"GITHUB_CLIENT_ID": "x"},
            "KINDLING_GITHUB_CLIENT_ID is set, and KINDLING_GITHUB_CLIENT_SECRET is not",
        ),
        (
            {"OIDC_ISSUER": "http://login.example.com"},
            "KINDLING_OIDC_ISSUER must be an address like https://",
        ),
        (
            {"OIDC_ISSUER": "https://login.example.com?x=1"},
            "KINDLING_OIDC_ISSUER must be an address like https://",
        ),
    ],
)
def test_an_identity_provider_is_given_whole_and_over_a_wire_of_its_own(
    tmp_path: Path, settings: dict, said: str
):
    assert given(tmp_path).identity_providers == ()
    whole = {"OIDC_CLIENT_ID": "one", "OIDC_CLIENT_SECRET": "two", "OIDC_NAME": "Example Inc."}
    (found,) = given(tmp_path, OIDC_ISSUER="https://login.example.com/", **whole).identity_providers
    assert (found.id, found.name, found.issuer) == ("oidc", "Example Inc.", "https://login.example.com/")
    assert given(tmp_path, OIDC_ISSUER="http://127.0.0.1:8080", **whole).identity_providers
    names = [
        one.id for one in given(tmp_path, GOOGLE_CLIENT_ID="x", GOOGLE_CLIENT_SECRET="y").identity_providers
    ]
    assert names == ["google"]
    with pytest.raises(EnvError) as refused:
        given(tmp_path, **settings)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"OBJECT_STORE": "https://bucket"},
            "KINDLING_OBJECT_STORE must be an address like s3://bucket/prefix",
        ),
        (
            {"OBJECT_STORE": "s3://files", "OBJECT_STORE_ENDPOINT": "minio:9000"},
            "KINDLING_OBJECT_STORE_ENDPOINT must be an address like http://host:port",
        ),
        (
            {"OBJECT_STORE": "s3://files", "OBJECT_STORE_ACCESS_KEY_ID": "x"},
            "KINDLING_OBJECT_STORE_ACCESS_KEY_ID is set, and KINDLING_OBJECT_STORE_SECRET_ACCESS_KEY is not",
        ),
        ({"BLOBS_MAX_GB": "5"}, "KINDLING_BLOBS_MAX_GB is set, and KINDLING_OBJECT_STORE is not"),
        ({"OBJECT_STORE": "s3://files", "BLOBS_MAX_GB": "-1"}, "KINDLING_BLOBS_MAX_GB must be a number"),
    ],
)
def test_an_object_store_is_named_whole_and_its_credentials_are_for_those_who_ask_it(
    tmp_path: Path, settings: dict, said: str
):
    assert given(tmp_path).object_store is None
    whole = {
        "OBJECT_STORE": "s3://files/mine/", "OBJECT_STORE_ENDPOINT": "http://minio:9000",
        "OBJECT_STORE_ACCESS_KEY_ID": "us", "OBJECT_STORE_SECRET_ACCESS_KEY": "our secret",
    }  # fmt: skip
    found = given(tmp_path, **whole)
    assert found.object_store == StorePlace("files", "mine", "http://minio:9000")
    assert "our secret" not in repr(found)
    asked = load_object_store({f"KINDLING_{name}": value for name, value in whole.items()})
    assert asked and (asked.access_key_id, asked.secret_access_key) == ("us", "our secret")
    assert "our secret" not in repr(asked)
    with pytest.raises(EnvError) as refused:
        given(tmp_path, **settings)
    assert said in str(refused.value)


def test_every_setting_stands_in_the_example():
    """By the source, since a setting that nobody gives is not asked for by a name that could be seen."""
    read = set(re.findall(r'(?:reader\.\w+|web)\(\s*"([A-Z_]+)"', Path(env_module.__file__).read_text()))
    assert {"PORT", "DATABASE_URL", "OTLP_ENDPOINT", "KEEP_USAGE_LOGS_DAYS"} <= read
    shown = re.findall(r"^# KINDLING_([A-Z_]+)=", (REPOSITORY / ".env.example").read_text(), re.MULTILINE)
    # A start that runs the stand-in for Stripe sets where that is; nobody else has a use for it.
    assert read - set(shown) == {"STRIPE_API_BASE"}
    assert len(shown) == len(set(shown))
    elsewhere = {"HOME", "BACKUP_PASSPHRASE", "PYTHON", "URL", "API_KEY"}
    assert set(shown) - read == elsewhere, "names that nothing reads"


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("rediss://:p@localhost:6379/3", "rediss://:p@localhost:6379/3"),
        ("unix:///run/valkey.sock", "redis+socket:///run/valkey.sock"),
        ("unix:///run/valkey.sock?db=2", "redis+socket:///run/valkey.sock?virtual_host=2"),
    ],
)
def test_celery_finds_the_same_server(url: str, named: str, tmp_path: Path):
    found = given(tmp_path, REDIS_URL=url).broker_url
    assert found == named
    assert Connection(found).transport.driver_type == "redis"
