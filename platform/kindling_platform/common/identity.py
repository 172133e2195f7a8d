"""Who else may vouch for somebody at sign-in: the identity providers that settings name; free of Django."""

from dataclasses import dataclass
from urllib.parse import urlsplit

LOOPBACK = ("127.0.0.1", "localhost", "::1")
OIDC, GOOGLE, GITHUB = "oidc", "google", "github"
GOOGLE_ISSUER = "https://accounts.google.com"


@dataclass(frozen=True, slots=True)
class IdentityProvider:
    """A provider; `id` is part of the address that it sends people back to. Without an issuer it is GitHub, which
    speaks OAuth alone.
    """

    id: str
    name: str
    client_id: str
    client_secret: str
    issuer: str | None = None


def provider_make(
    id_: str, name: str, client_id: str | None, client_secret: str | None, issuer: str | None = None
) -> IdentityProvider | None:
    """The provider, None while it has no client."""
    if not client_id or not client_secret:
        return None
    return IdentityProvider(id_, name, client_id, client_secret, issuer)


def is_unread(address: str) -> bool:
    """Whether nobody on the way can read what is sent to an address; `http` is for one of this machine alone."""
    parts = urlsplit(address)
    if not parts.hostname:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK)
