"""Asks an OpenID provider who somebody is: the discovery, the exchange of the code, and the token's claims."""

import time
from typing import Any

from allauth.socialaccount.adapter import get_adapter
from allauth.socialaccount.providers.oauth2.client import OAuth2Error
from allauth.socialaccount.providers.openid_connect.views import OpenIDConnectOAuth2Adapter
from django.conf import settings
from django.http import HttpRequest
from django.urls import reverse

from kindling_platform.accounts.openid.tokens import LEEWAY_S, TokenRefused, id_token_read
from kindling_platform.accounts.reauthentication import CONFIRM, CONFIRMED_FOR_S
from kindling_platform.common.identity import is_unread

ENDPOINTS = ("authorization_endpoint", "token_endpoint", "jwks_uri")


class OpenidAdapter(OpenIDConnectOAuth2Adapter):  # type: ignore[misc]  # allauth ships no types
    """allauth's, which trusts an ID token's bytes because of where they came from; this one looks at the signature and
    at the nonce, too. `stashed` is what was noted when the sign-in began.
    """

    stashed: dict[str, Any]

    @property
    def openid_config(self) -> dict[str, Any]:
        """What the provider says of itself.

        Raises:
            OAuth2Error: it is not the configured issuer, or says too little.
        """
        if not hasattr(self, "_openid_config"):
            issuer = self.get_provider().app.settings["server_url"]
            found = self._asked(f"{issuer.rstrip('/')}/.well-known/openid-configuration")
            if str(found.get("issuer", "")).rstrip("/") != issuer.rstrip("/"):
                raise OAuth2Error("it calls itself by another name than KINDLING_OIDC_ISSUER")
            for name in ENDPOINTS:
                _endpoint_check(found.get(name), name)
            self._openid_config = found
        return self._openid_config

    @property
    def basic_auth(self) -> bool:
        """How the client shows its secret: in the form where the provider says that it takes it there."""
        methods = self.openid_config.get("token_endpoint_auth_methods_supported")
        return not isinstance(methods, list) or "client_secret_post" not in methods

    def complete_login(self, request: HttpRequest, app: Any, token: Any, **kwargs: Any) -> Any:
        """Whose the answer of the token endpoint is.

        Raises:
            OAuth2Error: it cannot be trusted.
        """
        config = self.openid_config
        try:
            claims = id_token_read(
                str(kwargs["response"].get("id_token", "")),
                keys=self._asked(config["jwks_uri"]),
                issuer=str(config["issuer"]),
                client_id=app.client_id,
                nonce=str(self.stashed.get("nonce", "")),
            )
        except TokenRefused as error:
            raise OAuth2Error(str(error)) from error
        if self.stashed.get("process") == CONFIRM:
            _freshness_check(claims)
        if "email" not in claims and isinstance(config.get("userinfo_endpoint"), str):
            told = self._asked(config["userinfo_endpoint"], token.token)
            if told.get("sub") != claims["sub"]:
                raise OAuth2Error("it speaks of two people at once")
            claims = told | claims
        return self.get_provider().sociallogin_from_response(request, claims)

    def get_callback_url(self, request: HttpRequest, app: Any) -> str:
        """Under the public address, as it is registered with the provider, whatever Host was asked for."""
        path = reverse("openid_connect_callback", kwargs={"provider_id": self.provider_id})
        return f"{settings.KINDLING_ENV.public_url}{path}"

    def _asked(self, url: str, bearer: str = "") -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
        with get_adapter().get_requests_session() as session:
            answer = session.get(url, headers=headers)
            answer.raise_for_status()
            found = answer.json()
        if not isinstance(found, dict):
            raise OAuth2Error("it answers in no form that is known")
        return found


def _endpoint_check(address: Any, name: str) -> None:
    """Nothing of a sign-in goes over a wire that others can read."""
    if not (isinstance(address, str) and is_unread(address)):
        raise OAuth2Error(f"its {name} is missing, or others could read along")


def _freshness_check(claims: dict[str, Any]) -> None:
    """Whoever confirms signs in anew over there. A provider that does not tell when is taken at its word."""
    at = claims.get("auth_time")
    if isinstance(at, int | float) and time.time() - at > CONFIRMED_FOR_S + LEEWAY_S:
        raise OAuth2Error("it did not ask you again")
