"""Begins and ends a sign-in at an OpenID provider."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from allauth.socialaccount.helpers import render_authentication_error
from allauth.socialaccount.providers.oauth2.client import OAuth2Error
from allauth.socialaccount.providers.oauth2.views import OAuth2CallbackView, OAuth2LoginView
from django.http import HttpRequest, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.shortcuts import render
from requests import RequestException

from kindling_platform.accounts.openid.adapter import OpenidAdapter

View = Callable[..., HttpResponseBase]


class CallbackView(OAuth2CallbackView):  # type: ignore[misc]  # allauth ships no types
    """allauth's; it gives what was noted at the beginning to the adapter, which compares the nonce, and a provider that
    is away from the first word on is a sentence, too.
    """

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        try:
            response: HttpResponseBase = super().dispatch(request, *args, **kwargs)
        except (OAuth2Error, RequestException) as error:
            response = render_authentication_error(request, self.adapter.get_provider(), exception=error)
        return response

    def _get_state(self, request: HttpRequest, provider: Any) -> tuple[Any, Any]:
        state, response = super()._get_state(request, provider)
        self.adapter.stashed = state or {}
        return state, response


def leaving(view: View) -> View:
    """Lead to another site from a page of ours: browsers hold the redirect of a form against the policy that forms go
    nowhere else, and would stop there.
    """

    @wraps(view)
    def led(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        response = view(request, *args, **kwargs)
        if not isinstance(response, HttpResponseRedirect) or response.url.startswith("/"):
            return response
        page = render(request, "socialaccount/leaving.html", {"address": response.url})
        page["Refresh"] = f"0; url={response.url}"
        page["Cache-Control"] = "no-store"
        return page

    return led


@leaving
def login(request: HttpRequest, provider_id: str) -> HttpResponseBase:
    """Lead to the provider; opened by a link it asks first."""
    response: HttpResponseBase = OAuth2LoginView.adapter_view(OpenidAdapter(request, provider_id))(request)
    return response


def callback(request: HttpRequest, provider_id: str) -> HttpResponseBase:
    """Take what the provider says."""
    response: HttpResponseBase = CallbackView.adapter_view(OpenidAdapter(request, provider_id))(request)
    return response
