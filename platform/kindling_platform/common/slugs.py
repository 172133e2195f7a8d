"""Names in URLs: what an organisation, a model or an adapter may be called."""

import re
import secrets

from kindling_platform.common.errors import KindlingError
from kindling_platform.common.ids import ALPHABET

OPERATOR_SLUG = "kindling"
RESERVED = frozenset(
    {
        OPERATOR_SLUG,
        *("v1", "inference", "api", "admin", "console", "static", "accounts", "healthz", "metrics", "stripe"),
        *("docs", "errors", "status"),
    }
)
NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")
NOT_SLUG = re.compile(r"[^a-z0-9]+")
MAX_SLUG_CHARS = 32
SUFFIX_CHARS = 5


def slug_from(text: str, *, distinct: bool = False) -> str:
    """A slug for an organisation from free text; never empty, never reserved, with a random end if `distinct`."""
    slug = NOT_SLUG.sub("-", text.lower()).strip("-")[:MAX_SLUG_CHARS].strip("-") or "team"
    if not distinct and slug not in RESERVED:
        return slug
    return f"{slug}-{''.join(secrets.choice(ALPHABET) for _ in range(SUFFIX_CHARS))}"


def name_checked(name: str) -> str:
    """A model's, adapter's or deployment's name, unchanged.

    Raises:
        KindlingError: name_invalid.
    """
    if not NAME.fullmatch(name):
        raise KindlingError(
            "name_invalid",
            "A name has 1 to 64 lower-case letters, digits, dots, dashes or underscores, "
            "and begins and ends with a letter or digit.",
            param="name",
        )
    return name
