"""Passkeys and linked providers, where allauth's own pages need another answer."""

from typing import Any

from allauth.account.adapter import get_adapter as get_account_adapter
from allauth.account.utils import get_next_redirect_url, passthrough_next_redirect_url
from allauth.account.views import email, password_set
from allauth.mfa.base.views import AuthenticateView
from allauth.mfa.webauthn.views import (
    AddWebAuthnView,
    ListWebAuthnView,
    LoginWebAuthnView,
    ReauthenticateWebAuthnView,
)
from allauth.socialaccount.adapter import get_adapter
from django.contrib import messages
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse

from kindling_console.access import Visitor, page
from kindling_console.answers import done, refused
from kindling_console.sure import sure, sure_first
from kindling_platform.accounts.factors import (
    APP,
    MOST_PASSKEYS,
    PASSKEY,
    RECOVERY_CODES,
    factor_kinds,
    passkeys_left,
)
from kindling_platform.accounts.identities import identity_list, identity_remove, provider_list
from kindling_platform.accounts.openid.views import leaving
from kindling_platform.accounts.reauthentication import CONFIRM, is_recent, reauthentication_check
from kindling_platform.common.errors import KindlingError


class PasskeyList(ListWebAuthnView):  # type: ignore[misc]  # allauth ships no types
    """Somebody's passkeys, the oldest first, and whether anything helps when they are lost."""

    def get_queryset(self) -> Any:
        return super().get_queryset().order_by("created_at", "id")

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        found: dict[str, Any] = super().get_context_data(**kwargs)
        user = self.request.user
        return found | {
            "has_recovery_codes": RECOVERY_CODES in factor_kinds(user=user),
            "is_full": not passkeys_left(user=user),
            "most": MOST_PASSKEYS,
        }


class PasskeyAdd(AddWebAuthnView):  # type: ignore[misc]
    """A new passkey, for whoever has room for one; before a device makes any that nobody takes."""

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        # allauth would show another form than the one that was refused, and say why that one is.
        found: dict[str, Any] = super().get_context_data(**kwargs)
        return found | kwargs

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if request.user.is_authenticated and not passkeys_left(user=request.user):
            return redirect("mfa_list_webauthn")
        response: HttpResponseBase = super().get(request, *args, **kwargs)
        return response

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        with transaction.atomic():
            response: HttpResponseBase = super().post(request, *args, **kwargs)
        return response


class SecondFactor(AuthenticateView):  # type: ignore[misc]
    """The step after the password, which offers what the person has."""

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        found: dict[str, Any] = super().get_context_data(**kwargs)
        kinds = factor_kinds(user=self.stage.login.user)
        return found | {
            "has_passkey": PASSKEY in kinds,
            "has_app": APP in kinds,
            "has_codes": RECOVERY_CODES in kinds,
        }


class PasskeySignIn(LoginWebAuthnView):  # type: ignore[misc]
    """Signing in by a passkey; what is refused leads back to where it was asked for, with the way on kept."""

    def form_invalid(self, form: Any) -> HttpResponse:
        _say(self.request, form)
        return redirect(passthrough_next_redirect_url(self.request, reverse("account_login"), "next"))


class PasskeyConfirm(ReauthenticateWebAuthnView):  # type: ignore[misc]
    """Confirming by a passkey."""

    def form_invalid(self, form: Any) -> HttpResponse:
        _say(self.request, form)
        return redirect(passthrough_next_redirect_url(self.request, self.request.path, "next"))


def addresses(request: HttpRequest) -> HttpResponseBase:
    """Somebody's addresses, of which each may get a new password mailed: changing them asks who it is."""
    # A form may name two actions, of which allauth chooses; only a letter alone is nothing new.
    is_letter = {name for name in request.POST if name.startswith("action_")} == {"action_send"}
    is_change = request.method == "POST" and not is_letter
    if is_change and request.user.is_authenticated and not is_recent(request):
        return sure_first(request)
    response: HttpResponseBase = email(request)
    return response


def password_first(request: HttpRequest) -> HttpResponseBase:
    """A first password; whoever finds a browser open must not set one with which they confirm everything else.

    One that is sent too late is not kept until they have confirmed, as other forms are: it would lie in the clear.
    """
    if request.method == "POST":
        try:
            reauthentication_check(request)
        except KindlingError:
            return redirect("account_set_password")
    response: HttpResponseBase = sure(password_set)(request)
    return response


@page(methods=("GET", "POST"), of_any_org=True)
@sure
def linked(request: HttpRequest, visitor: Visitor) -> HttpResponse:
    """The providers that the visitor signs in with, and those that they could."""
    here = reverse("socialaccount_connections")
    if request.method == "POST":
        chosen = request.POST.get("account", "")
        if not (chosen.isascii() and chosen.isdigit() and len(chosen) < 10):
            raise Http404("There is no such link.")
        try:
            identity_remove(user=visitor.user, identity_id=int(chosen), actor=visitor.actor)
        except KindlingError as error:
            return refused(request, here, error)
        return done(request, here, "It is unlinked. It no longer signs you in.")
    found = identity_list(user=visitor.user)
    ids = {one.provider_id for one in found}
    context = {"identities": found, "others": [one for one in provider_list() if one.id not in ids]}
    return render(request, "socialaccount/connections.html", context)


@page(methods=("GET", "POST"), of_any_org=True)
@leaving
def confirm_with(request: HttpRequest, visitor: Visitor, provider_id: str) -> HttpResponseBase:
    """Confirm that it is still them, at the provider that they are linked with; for those without a password."""
    ways = get_account_adapter().get_reauthentication_methods(visitor.user)
    if request.path not in [way["url"] for way in ways]:
        raise Http404("There is no such way to confirm.")
    provider = get_adapter().get_provider(request, provider_id)
    next_url = get_next_redirect_url(request)
    if request.method == "POST":
        response: HttpResponseBase = provider.redirect(request, CONFIRM, next_url=next_url)
        return response
    others = [
        way | {"url": passthrough_next_redirect_url(request, way["url"], "next")}
        for way in ways
        if way["url"] != request.path
    ]
    context = {"provider": provider, "next": next_url or "", "reauthentication_alternatives": others}
    return render(request, "account/confirm_with.html", context)


def sign_up_again(request: HttpRequest) -> HttpResponseRedirect:
    """Where allauth would ask for an address that a provider has not told: here such a sign-in was refused before."""
    return HttpResponseRedirect(reverse("account_login"))


def _say(request: HttpRequest, form: Any) -> None:
    messages.error(request, form.errors["credential"][0])
