"""Where mail goes: to a server by its URL, else into files that the operator can read."""

from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from kindling_platform.config.addresses import flag


def mail_settings(smtp_url: str | None, home: Path) -> dict[str, Any]:
    """Django's EMAIL_ settings for `smtp://user:password@host:587?tls=1`, or for files in HOME/mail."""
    if smtp_url is None:
        return {
            "EMAIL_BACKEND": "django.core.mail.backends.filebased.EmailBackend",
            "EMAIL_FILE_PATH": str(home / "mail"),
            "DEFAULT_FROM_EMAIL": "kindling@localhost",
        }
    parts = urlsplit(smtp_url)
    options = parse_qs(parts.query)
    ssl = parts.scheme == "smtps"
    return {
        "EMAIL_BACKEND": "django.core.mail.backends.smtp.EmailBackend",
        "EMAIL_HOST": parts.hostname,
        "EMAIL_PORT": parts.port or (465 if ssl else 587),
        "EMAIL_HOST_USER": unquote(parts.username or ""),
        "EMAIL_HOST_PASSWORD": unquote(parts.password or ""),
        "EMAIL_USE_SSL": ssl,
        "EMAIL_USE_TLS": not ssl and flag(options.get("tls", ["1"])[0]),
        "EMAIL_TIMEOUT": 10,
        "DEFAULT_FROM_EMAIL": options.get("from", [f"kindling@{parts.hostname}"])[0],
    }
