"""An address that others can reach is refused until everything it needs is set."""

import dataclasses

import pytest

from kindling_platform.config.env import Env, load_env
from kindling_platform.embedded.errors import EmbeddedError
from kindling_platform.embedded.public_bind import check_bind, is_loopback

PUBLIC = "https://ai.example.org"
OWN = dict.fromkeys(("KINDLING_SECRET_KEY", "KINDLING_KEY_PEPPER", "KINDLING_AGENT_TOKEN"), "x" * 48)


def settings(**changed: object) -> Env:
    needed = {**OWN, "KINDLING_DATABASE_URL": "postgresql://x/y", "KINDLING_REDIS_URL": "redis://x"}
    return dataclasses.replace(load_env(needed), **changed)


def refusal(env: Env) -> str:
    """What is said of settings that are refused; empty for those that are taken."""
    try:
        check_bind(env)
    except EmbeddedError as error:
        return error.message
    return ""


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_loopback_needs_nothing(host: str):
    assert refusal(settings(host=host)) == ""


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.7", "example.org", "2001:db8::1"])
def test_other_addresses_are_public(host: str):
    assert not is_loopback(host)


def test_public_address_names_everything_that_is_missing(monkeypatch: pytest.MonkeyPatch):
    for name in OWN:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(EmbeddedError) as refused:
        check_bind(settings(host="0.0.0.0"))
    assert refused.value.code == "public_bind_refused"
    for name in (*OWN, "KINDLING_SMTP_URL", "KINDLING_PUBLIC_URL"):
        assert name in refused.value.message


def test_public_address_is_accepted_when_all_is_set(monkeypatch: pytest.MonkeyPatch):
    for name, value in OWN.items():
        monkeypatch.setenv(name, value)
    whole = {"host": "0.0.0.0", "public_url": PUBLIC, "smtp_url": "smtp://mail.example.org"}
    assert refusal(settings(**whole)) == ""
    assert "KINDLING_DEBUG" in refusal(settings(**whole, debug=True))


def test_public_address_is_refused_while_payments_go_to_the_stand_in(monkeypatch: pytest.MonkeyPatch):
    for name, value in OWN.items():
        monkeypatch.setenv(name, value)
    asked = {"public_url": PUBLIC, "smtp_url": "smtp://mail", "stripe_api_base": "http://127.0.0.1:1"}
    with pytest.raises(EmbeddedError, match="KINDLING_STRIPE_SECRET_KEY"):
        check_bind(settings(host="0.0.0.0", **asked))


def test_public_address_without_https_is_refused(monkeypatch: pytest.MonkeyPatch):
    for name, value in OWN.items():
        monkeypatch.setenv(name, value)
    public_url = "http://ai.example.org"
    with pytest.raises(EmbeddedError, match="KINDLING_PUBLIC_URL"):
        check_bind(settings(host="0.0.0.0", public_url=public_url, smtp_url="smtp://mail.example.org"))


def test_behind_a_proxy_mail_and_payments_have_to_be_real(monkeypatch: pytest.MonkeyPatch):
    for name in OWN:
        monkeypatch.delenv(name, raising=False)
    stand_in = {"public_url": PUBLIC, "stripe_api_base": "http://127.0.0.1:1"}
    with pytest.raises(EmbeddedError) as refused:
        check_bind(settings(**stand_in))
    assert refused.value.code == "public_bind_refused"
    for name in ("KINDLING_SMTP_URL", "KINDLING_STRIPE_SECRET_KEY", f"KINDLING_PUBLIC_URL={PUBLIC}"):
        assert name in refused.value.message
    assert "KINDLING_SECRET_KEY" not in refused.value.message, (
        "those made at the first start are as good as any"
    )
    with pytest.raises(EmbeddedError, match="https://"):
        check_bind(settings(public_url="http://10.0.0.7:8000", smtp_url="smtp://mail"))
    check_bind(settings(public_url=PUBLIC, smtp_url="smtp://mail"))


def test_secrets_that_can_be_guessed_are_refused_where_others_come(monkeypatch: pytest.MonkeyPatch):
    for name in OWN:
        monkeypatch.setenv(name, "x" * 15)
    short = {"secret_key": "x" * 15, "key_pepper": "y", "agent_token": "z"}
    for host in ("0.0.0.0", "127.0.0.1"):
        with pytest.raises(EmbeddedError) as refused:
            check_bind(settings(host=host, public_url=PUBLIC, smtp_url="smtp://mail", **short))
        assert all(f"{name} (the one in use is short" in refused.value.message for name in OWN)
    check_bind(settings(**short))


def test_payments_that_nothing_would_book_are_refused():
    public = {"public_url": PUBLIC, "smtp_url": "smtp://mail"}
    for key in ("sk_live_1", "rk_live_1", "sk_test_1"):
        with pytest.raises(EmbeddedError, match="KINDLING_STRIPE_WEBHOOK_SECRET"):
            check_bind(settings(**public, stripe_secret_key=key))
        assert refusal(settings(**public, stripe_secret_key=key, stripe_webhook_secret="whsec_1")) == ""
    assert refusal(settings(**public, stripe_secret_key="off")) == ""


@pytest.mark.parametrize("url", ["http://localhost:8000", "http://127.0.0.1:9", "http://[::1]:8000"])
def test_an_address_of_this_machine_is_not_public(url: str):
    assert refusal(settings(public_url=url, stripe_api_base="http://127.0.0.1:1")) == ""
