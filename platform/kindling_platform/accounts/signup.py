"""Ties allauth to ours: a new user gets an organisation and its starting credit, letters have our public URL, and
people without a password confirm in their own ways.
"""

import logging
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

from allauth.account.adapter import DefaultAccountAdapter
from allauth.core import context as allauth_context
from allauth.core.exceptions import ReauthenticationRequired
from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest

from kindling_platform.accounts.models import User
from kindling_platform.accounts.reauthentication import is_confirmed, way_list
from kindling_platform.accounts.services import user_settle

NOT_TAKEN = (
    "The mail server takes no letters at the moment. Ask for yours again in a minute, or tell the operator."
)
logger = logging.getLogger(__name__)


class SignupAdapter(DefaultAccountAdapter):  # type: ignore[misc]  # allauth ships no types
    """allauth's adapter with our way of saving a new user and of linking to pages in letters."""

    def save_user(self, request: HttpRequest, user: User, form: Any, commit: bool = True) -> User:
        user = super().save_user(request, user, form, commit=False)
        return user_settle(user=user, ip=request.META.get("REMOTE_ADDR") or None) if commit else user

    def send_mail(self, template_prefix: str, email: str, context: dict[str, Any]) -> None:
        """Send a letter whose links lead to the public URL.

        allauth builds them from the request's Host header, which is chosen by whoever asks for the letter, and that
        may be a stranger: the reader would bring a working token to another place.
        """
        links = {name: _public(value) for name, value in context.items() if name.endswith("_url")}
        site = SimpleNamespace(
            domain=urlsplit(settings.KINDLING_ENV.public_url).netloc, name=settings.SITE_NAME
        )
        try:
            super().send_mail(template_prefix, email, context | links | {"current_site": site})
        except OSError as error:
            # Whoever signs up is here already: they ask for the letter again, in place of a page that says we failed.
            logger.error("a letter about an account was not taken: %s", type(error).__name__)
            if allauth_context.request is not None:
                messages.error(allauth_context.request, NOT_TAKEN)

    def get_reauthentication_methods(self, user: Any) -> list[dict[str, Any]]:
        return way_list(user, super().get_reauthentication_methods(user)) if user.is_authenticated else []

    def is_reauthentication_required(self, *, app: str, **kwargs: Any) -> bool:
        """Whether allauth is to look for a confirmation.

        Raises:
            ReauthenticationRequired: nobody has confirmed who has no password, and of whom allauth asks nothing.
        """
        request = allauth_context.request
        if not super().is_reauthentication_required(app=app, **kwargs):
            return False
        if request.user.has_usable_password():
            return True
        if is_confirmed(request):
            return False
        raise ReauthenticationRequired

    def _get_login_attempts_cache_key(self, request: HttpRequest, **credentials: Any) -> str:
        """By account alone: allauth's has the request's Host, so another port there would be another count."""
        return str(credentials.get("email", credentials.get("username", ""))).lower()


def _public(url: str) -> str:
    """The same page under the public URL."""
    place = urlsplit(url)
    return f"{settings.KINDLING_ENV.public_url}{place._replace(scheme='', netloc='').geturl()}"
