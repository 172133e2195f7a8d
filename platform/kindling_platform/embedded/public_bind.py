"""Refuses an address that others can reach while things are set up for one person on one machine."""

import ipaddress
import os
from urllib.parse import urlsplit

from kindling_platform.config.env import STRIPE_OFF, Env
from kindling_platform.embedded.errors import EmbeddedError

OWN_SECRETS = ("KINDLING_SECRET_KEY", "KINDLING_KEY_PEPPER", "KINDLING_AGENT_TOKEN")
# Those that a first start makes up are longer; a short one can be guessed from what it has signed.
LEAST_SECRET_CHARS = 16


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_bind(env: Env) -> None:
    """Whether others reach the platform by its own address, or by a proxy on this machine, which only the address that
    customers use tells.

    Errors: `public_bind_refused`, naming every setting that is missing.
    """
    is_bound = not is_loopback(env.host)
    if not is_bound and is_loopback(urlsplit(env.public_url).hostname or ""):
        return
    wanted = []
    if not env.smtp_url:
        wanted.append("KINDLING_SMTP_URL (mail is only written to a folder)")
    if env.stripe_api_base:
        wanted.append("KINDLING_STRIPE_SECRET_KEY (payments go to a stand-in; 'off' takes none)")
    elif env.stripe_secret_key not in {None, STRIPE_OFF} and not env.stripe_webhook_secret:
        wanted.append("KINDLING_STRIPE_WEBHOOK_SECRET (without it no payment is booked)")
    if env.debug:
        wanted.append("KINDLING_DEBUG=0 (error pages would show settings and source)")
    wanted += _secrets_wanted(env, is_bound=is_bound)
    if not env.public_url.startswith("https://"):
        wanted.append("KINDLING_PUBLIC_URL (the https:// address that your customers use)")
    if wanted:
        listed = "\n".join(f"  - {item}" for item in wanted)
        where, back = ("HOST", env.host), "KINDLING_HOST at 127.0.0.1"
        if not is_bound:
            where, back = ("PUBLIC_URL", env.public_url), "KINDLING_PUBLIC_URL unset"
        raise EmbeddedError(
            "public_bind_refused",
            f"KINDLING_{where[0]}={where[1]} would be reachable from outside while these are not set:\n{listed}\n"
            f"Set them, or leave {back}.",
        )


def _secrets_wanted(env: Env, *, is_bound: bool) -> list[str]:
    in_use = dict(zip(OWN_SECRETS, (env.secret_key, env.key_pepper, env.agent_token), strict=True))
    wanted = []
    for name, value in in_use.items():
        if is_bound and not os.environ.get(name):
            wanted.append(f"{name} (the one in use was made up here)")
        elif len(value) < LEAST_SECRET_CHARS:
            wanted.append(
                f"{name} (the one in use is short; at least {LEAST_SECRET_CHARS} random characters)"
            )
    return wanted
