"""When the stand-in for Stripe runs, and the settings by which the platform finds it."""

import os

KEY, SECRET, BASE = (
    "KINDLING_STRIPE_SECRET_KEY",
    "KINDLING_STRIPE_WEBHOOK_SECRET",
    "KINDLING_STRIPE_API_BASE",
)


def stand_in_environ(secrets: dict[str, str], port: int) -> dict[str, str]:
    """The stand-in's address and keys as settings; nothing when a key for Stripe, or `off`, was given."""
    if os.environ.get(KEY) or secrets.get(KEY):
        return {}
    return {
        KEY: secrets["KINDLING_STAND_IN_STRIPE_KEY"],
        SECRET: secrets["KINDLING_STAND_IN_WEBHOOK_SECRET"],
        BASE: f"http://127.0.0.1:{port}",
    }
