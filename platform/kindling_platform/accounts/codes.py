"""Signing in with a code that is mailed to an address."""

from typing import Any

from allauth.account.models import EmailAddress
from django.contrib import messages
from django.http import HttpRequest

from kindling_platform.accounts.models import User

CODE_PAGE = "account_confirm_login_code"
FORGOTTEN = (
    "Your address is confirmed. The password that was chosen before that is void, as nobody knows who chose it: set "
    "one of yours under Account."
)


def address_opens(*, user: User, email: str) -> bool:
    """Whether who reads an address's letters may come into an account by them.

    Of an account with a confirmed address no other one does before it is confirmed itself: it may have been mistyped,
    or be a stranger's whom somebody wants to have in their account.
    """
    confirmed = EmailAddress.objects.filter(user=user, verified=True)
    return not confirmed.exists() or confirmed.filter(email__iexact=email).exists()


def unconfirmed_forget(*, request: HttpRequest, email_address: Any, **_: Any) -> None:
    """Void the password of an account whose address nobody had confirmed before a code was entered.

    Whoever gives a stranger's address when they sign up knows that password, and would share the account of the one
    who reads the letters. The link of a sign-up says what it confirms, and a new password replaces the old one.
    """
    page = getattr(request, "resolver_match", None)
    user = email_address.user
    if page is None or page.url_name != CODE_PAGE or not user.has_usable_password():
        return
    user.set_unusable_password()
    user.save(update_fields=["password"])
    messages.info(request, FORGOTTEN)
