"""Ties the sign-up form to our services: a new user gets an organisation and its starting credit at once."""

from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from django.http import HttpRequest

from kindling_platform.accounts.models import User
from kindling_platform.accounts.services import user_settle


class SignupAdapter(DefaultAccountAdapter):  # type: ignore[misc]  # allauth ships no types
    """allauth's adapter with our way of saving a new user."""

    def save_user(self, request: HttpRequest, user: User, form: Any, commit: bool = True) -> User:
        user = super().save_user(request, user, form, commit=False)
        return user_settle(user=user, ip=request.META.get("REMOTE_ADDR") or None) if commit else user
