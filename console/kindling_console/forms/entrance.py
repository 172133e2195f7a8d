"""Who is sent a code to sign in with, or a link to a new password."""

from typing import Any

from allauth.account import app_settings, forms
from allauth.account.adapter import get_adapter

from kindling_platform.accounts.codes import address_opens


class RequestLoginCodeForm(forms.RequestLoginCodeForm):  # type: ignore[misc]  # allauth ships no types
    _user: Any

    def clean_email(self) -> str:
        email: str = super().clean_email()
        if self._user is not None and not address_opens(user=self._user, email=email):
            self._user = None
            _tell_unknown()
        return email


class ResetPasswordForm(forms.ResetPasswordForm):  # type: ignore[misc]
    users: list[Any]

    def clean_email(self) -> str:
        email: str = super().clean_email()
        known, self.users = self.users, [user for user in self.users if address_opens(user=user, email=email)]
        if known and not self.users:
            _tell_unknown()
        return email


def _tell_unknown() -> None:
    if not app_settings.PREVENT_ENUMERATION:
        raise get_adapter().validation_error("unknown_email")
