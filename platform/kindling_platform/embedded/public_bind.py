"""Refuses an address that others can reach while things are set up for one person on one machine."""

import ipaddress
import os

from kindling_platform.config.env import Env
from kindling_platform.embedded.errors import EmbeddedError

OWN_SECRETS = ("KINDLING_SECRET_KEY", "KINDLING_KEY_PEPPER", "KINDLING_AGENT_TOKEN")


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_bind(env: Env) -> None:
    """Errors: `public_bind_refused`, naming every setting that is missing."""
    if is_loopback(env.host):
        return
    wanted = []
    if not env.smtp_url:
        wanted.append("KINDLING_SMTP_URL (mail is only written to a folder)")
    if env.stripe_api_base:
        wanted.append("KINDLING_STRIPE_SECRET_KEY (payments go to a stand-in; 'off' takes none)")
    wanted += [
        f"{name} (the one in use was made up here)" for name in OWN_SECRETS if not os.environ.get(name)
    ]
    if not os.environ.get("KINDLING_PUBLIC_URL", "").startswith("https://"):
        wanted.append("KINDLING_PUBLIC_URL (the https:// address that your customers use)")
    if wanted:
        listed = "\n".join(f"  - {item}" for item in wanted)
        raise EmbeddedError(
            "public_bind_refused",
            f"KINDLING_HOST={env.host} would be reachable from outside while these are not set:\n{listed}\n"
            "Set them, or leave KINDLING_HOST at 127.0.0.1.",
        )
