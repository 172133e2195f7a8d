"""allauth's provider for OpenID Connect, with a nonce, with PKCE, and with nothing that a link could add."""

import hashlib
import secrets
from typing import Any

from allauth.account.models import EmailAddress
from allauth.socialaccount.helpers import render_authentication_error
from allauth.socialaccount.providers.github.provider import GitHubProvider
from allauth.socialaccount.providers.oauth2.client import OAuth2Error
from allauth.socialaccount.providers.openid_connect.provider import OpenIDConnectProvider
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from requests import RequestException

from kindling_platform.accounts.openid.adapter import OpenidAdapter
from kindling_platform.accounts.reauthentication import CONFIRM
from kindling_platform.common.identity import GOOGLE

NONCE_BYTES = 24
MAX_EMAIL_CHARS = 254


class Narrow:
    """What a provider is asked for stands here alone: allauth's would take more from the address of the request."""

    pkce_enabled_default = True

    def get_auth_params_from_request(self, request: HttpRequest, action: str) -> dict[str, str]:
        return {}

    def get_scope_from_request(self, request: HttpRequest) -> list[str]:
        return list(self.get_scope())  # type: ignore[attr-defined]

    def cleanup_email_addresses(
        self, email: str | None, addresses: list[EmailAddress], email_verified: bool = False
    ) -> str | None:
        """As allauth's, which makes small letters of them; an address that becomes another one by that is left out."""
        addresses[:] = [one for one in addresses if _is_itself(one.email)]
        own = email if _is_itself(email) else None
        cleaned: str | None = super().cleanup_email_addresses(own, addresses, email_verified)  # type: ignore[misc]
        return cleaned


class OpenidProvider(Narrow, OpenIDConnectProvider):  # type: ignore[misc]  # allauth ships no types
    """Where allauth looks for its addresses is this package."""

    package = "kindling_platform.accounts.openid"
    oauth2_adapter_class = OpenidAdapter

    def redirect(
        self, request: HttpRequest, process: str, next_url: str | None = None, data: Any = None, **kwargs: Any
    ) -> HttpResponseBase:
        nonce = secrets.token_urlsafe(NONCE_BYTES)
        params = (kwargs.pop("auth_params", None) or {}) | {"nonce": nonce}
        if process == CONFIRM:
            # Google knows neither of the two, and asks which account it is at least.
            params |= (
                {"prompt": "select_account"} if self.sub_id == GOOGLE else {"prompt": "login", "max_age": "0"}
            )
        try:
            response: HttpResponseBase = super().redirect(
                request, process, next_url, data, auth_params=params, nonce=nonce, **kwargs
            )
        except (RequestException, OAuth2Error) as error:
            response = render_authentication_error(request, self, exception=error)
        return response

    def extract_uid(self, data: dict[str, Any]) -> str:
        """One for each issuer and subject: another issuer's people are others, whatever they are called there."""
        return hashlib.sha256(f"{data['iss']}\n{data['sub']}".encode()).hexdigest()

    def extract_extra_data(self, data: dict[str, Any]) -> dict[str, Any]:
        told = {"email": _email(data), "name": name_clean(data.get("name"))}
        return {"issuer": data["iss"], "subject": data["sub"], **told}

    def extract_common_fields(self, data: dict[str, Any]) -> dict[str, Any]:
        return {"email": _email(data), "name": name_clean(data.get("name"))}

    def extract_email_addresses(self, data: dict[str, Any]) -> list[EmailAddress]:
        email = _email(data)
        # Some send it as a word.
        verified = data.get("email_verified") in (True, "true")
        return [EmailAddress(email=email, verified=verified, primary=True)] if email else []


class GithubProvider(Narrow, GitHubProvider):  # type: ignore[misc]  # allauth ships no types
    """allauth's, with PKCE; of what GitHub tells only the name of the account is kept."""

    package = "allauth.socialaccount.providers.github"

    def extract_extra_data(self, data: dict[str, Any]) -> dict[str, Any]:
        return {"login": name_clean(data.get("login")), "name": name_clean(data.get("name"))}


def name_clean(name: Any) -> str:
    """A name as far as it can be kept and shown."""
    text = name if isinstance(name, str) else ""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())[:120]


def _is_itself(address: str | None) -> bool:
    """Whether no letter turns into one of ASCII: the sign of Kelvin would become a k, and that is somebody else."""
    return not any(letter.lower().isascii() and not letter.isascii() for letter in address or "")


def _email(data: dict[str, Any]) -> str | None:
    email = data.get("email")
    return email if isinstance(email, str) and len(email) <= MAX_EMAIL_CHARS else None
