"""Who may come in by an identity provider, and into which account.

An address that the provider has not confirmed opens nothing. A confirmed one is joined to an account that is here
already only if it is confirmed here, too, nothing but a password protects that account, and it is none of the
operator's people; else its owner signs in and links the provider under Account.
"""

from typing import Any

from allauth.account.models import EmailAddress
from allauth.account.utils import filter_users_by_email
from allauth.core.exceptions import ImmediateHttpResponse
from allauth.mfa.models import Authenticator
from allauth.socialaccount.adapter import DefaultSocialAccountAdapter
from allauth.socialaccount.models import SocialApp
from allauth.socialaccount.providers.base import AuthProcess
from django.conf import settings
from django.db import IntegrityError, transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from requests import RequestException

from kindling_platform.accounts.identities import LINKED, identity_record
from kindling_platform.accounts.models import Membership, User
from kindling_platform.accounts.openid.provider import name_clean
from kindling_platform.accounts.reauthentication import CONFIRM, confirmation_take
from kindling_platform.accounts.services import user_settle
from kindling_platform.common.errors import KindlingError
from kindling_platform.common.identity import GITHUB, IdentityProvider
from kindling_platform.common.requests import client_ip

LOGIN = str(AuthProcess.LOGIN)
# What signs nobody in. allauth takes everything else that an address names for a sign-in.
NO_SIGN_IN = (AuthProcess.CONNECT, AuthProcess.REDIRECT)
REFUSED_PAGE = "socialaccount/refused.html"


class SocialAdapter(DefaultSocialAccountAdapter):  # type: ignore[misc]  # allauth ships no types
    """allauth's adapter with our providers and our rules."""

    def list_apps(
        self, request: HttpRequest | None, provider: str | None = None, client_id: str | None = None
    ) -> list[SocialApp]:
        """The providers of the settings, and none of the database."""
        apps = [_app(one) for one in settings.KINDLING_ENV.identity_providers]
        named = [app for app in apps if provider in {None, app.provider, app.provider_id}]
        return [app for app in named if client_id in {None, app.client_id}]

    def get_app(self, request: HttpRequest, provider: str, client_id: str | None = None) -> SocialApp:
        """A provider; one that the settings do not name has no pages."""
        try:
            return super().get_app(request, provider, client_id)
        except SocialApp.DoesNotExist as error:
            raise Http404("There is no such provider.") from error

    def authenticate_by_email(self, sociallogin: Any) -> tuple[User, str] | None:
        """The account that a confirmed address joins, None when it has to be linked by its owner."""
        address = _confirmed_address(sociallogin)
        if address is None or sociallogin.state.get("process") != LOGIN:
            return None
        # All that are kept are in small letters; a database that folds letters itself knows more that look alike.
        here = EmailAddress.objects.filter(email=address, verified=True).select_related("user").first()
        if here is None or not here.user.is_active or _operates(here.user):
            return None
        if Authenticator.objects.filter(user=here.user).exists():
            return None
        return here.user, here.email

    def pre_social_login(self, request: HttpRequest, sociallogin: Any) -> None:
        """Stop whoever may not go on, and take confirmations.

        Raises:
            ImmediateHttpResponse: the page that says why, or the way on.
        """
        name, process = sociallogin.provider.name, sociallogin.state.get("process")
        if process == CONFIRM:
            raise ImmediateHttpResponse(_confirm(request, sociallogin))
        if process in NO_SIGN_IN or sociallogin.is_existing:
            return
        address = _confirmed_address(sociallogin)
        if address is None:
            text = f"{name} has not confirmed an e-mail address of yours. Confirm it there, or sign up with a password."
            raise ImmediateHttpResponse(refusal_page(request, text, 403))
        if filter_users_by_email(address):
            raise ImmediateHttpResponse(_taken(request, address, name))

    def is_auto_signup_allowed(self, request: HttpRequest, sociallogin: Any) -> bool:
        return True

    def populate_user(self, request: HttpRequest, sociallogin: Any, data: dict[str, Any]) -> User:
        user: User = sociallogin.user
        user.email = str(_confirmed_address(sociallogin) or data.get("email") or "").lower()
        user.name = name_clean(data.get("name"))
        return user

    def save_user(self, request: HttpRequest, sociallogin: Any, form: Any = None) -> User:
        """A new user with an organisation of their own, whose address is confirmed already; all of it or nothing."""
        user: User = sociallogin.user
        user.set_unusable_password()
        try:
            with transaction.atomic():
                user_settle(user=user, ip=client_ip(request), is_confirmed=True)
                sociallogin.account.user = user
                sociallogin.account.save()
                identity_record(user, sociallogin.account.provider, LINKED, ip=client_ip(request))
        except (KindlingError, IntegrityError) as error:  # somebody has come in between
            raise ImmediateHttpResponse(_taken(request, user.email, sociallogin.provider.name)) from error
        return user

    def on_authentication_error(
        self,
        request: HttpRequest,
        provider: Any,
        error: Any = None,
        exception: Exception | None = None,
        extra_context: Any = None,
    ) -> None:
        """A sentence for what went wrong at a provider, or on the way back.

        Raises:
            ImmediateHttpResponse: the page that says so.
        """
        name = provider.name
        if isinstance(exception, RequestException):
            text, status = f"{name} does not answer, or not as it should. Try again in a moment.", 502
        elif exception is not None:
            text, status = f"What {name} said was not taken: {exception}. Start again.", 401
        elif error == "cancelled":
            text, status = f"You stopped at {name}. Nothing has changed.", 403
        elif "state_id" in (extra_context or {}):
            home = settings.KINDLING_ENV.public_url
            text = f"This was begun in another browser, at another address than {home}, or too long ago. Start again."
            status = 401
        else:
            text, status = f"{name} did not let you in. Ask whoever runs it, or start again.", 401
        raise ImmediateHttpResponse(refusal_page(request, text, status))


def refusal_page(request: HttpRequest, text: str, status: int) -> HttpResponse:
    """A page with the reason and the ways on."""
    way = reverse("console:account") if request.user.is_authenticated else reverse("account_login")
    return render(request, REFUSED_PAGE, {"refusal": text, "way_on": way}, status=status)


def _app(one: IdentityProvider) -> SocialApp:
    kind = "github" if one.id == GITHUB else "openid_connect"
    app = SocialApp(
        provider=kind, provider_id=one.id, name=one.name, client_id=one.client_id, secret=one.client_secret
    )
    app.settings = {"server_url": one.issuer} if one.issuer else {}
    return app


def _confirmed_address(sociallogin: Any) -> str | None:
    confirmed = [one for one in sociallogin.email_addresses if one.verified and one.email]
    confirmed.sort(key=lambda one: not one.primary)
    return str(confirmed[0].email).lower() if confirmed else None


def _operates(user: User) -> bool:
    if user.is_staff or user.is_superuser:
        return True
    return Membership.objects.filter(user=user, organisation__is_operator=True).exists()


def _taken(request: HttpRequest, address: str, name: str) -> HttpResponse:
    text = (
        f"An account with {address} is here already. Sign in to it as you did before, then link {name} under Account, "
        "Linked sign-ins."
    )
    return refusal_page(request, text, 409)


def _confirm(request: HttpRequest, sociallogin: Any) -> Any:
    name = sociallogin.provider.name
    if not sociallogin.provider.app.settings.get("server_url"):
        # Whoever finds a browser open would be let through by the session over there.
        text = f"{name} does not ask anew who you are, so it confirms nothing. Use another way."
        return refusal_page(request, text, 403)
    if request.user.is_authenticated and request.user.has_usable_password():
        # The same, wherever that session is asked for a password.
        text = "You have a password here, so that confirms it is you. Use it, or a second factor of yours."
        return refusal_page(request, text, 403)
    user = sociallogin.user if sociallogin.is_existing else None
    next_url = str(sociallogin.state.get("next") or "")
    try:
        return confirmation_take(request, user, where=name, next_url=next_url)
    except KindlingError as error:
        return refusal_page(request, error.message, error.status)
