"""The stock admin shows operators every table and changes none: changes go through services."""

from typing import TYPE_CHECKING, Any

from allauth.account.decorators import secure_admin_login
from allauth.mfa.models import Authenticator
from allauth.socialaccount.models import SocialAccount, SocialApp, SocialToken
from allauth.usersessions.models import UserSession
from django.apps import apps
from django.contrib import admin
from django.contrib.admin import AdminSite
from django.core.exceptions import PermissionDenied
from django.db.models import Model
from django.http import HttpRequest

from kindling_platform.accounts.models import Organisation
from kindling_platform.accounts.second_factors import FACTOR_MISSING, factor_is_missing

OURS = ("accounts", "keys", "audit", "catalog", "adapters", "deployments", "usage", "billing")
HIDDEN = {"digest", "salt", "password", "lease_token"}
COLUMNS = 8


if TYPE_CHECKING:
    Base = admin.ModelAdmin[Any]
else:
    Base = admin.ModelAdmin


class ReadOnlyAdmin(Base):
    """Looks, never touches."""

    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


def may_look(request: HttpRequest) -> bool:
    """Whether somebody sees the administration: the operator's people, with a second factor where theirs is asked for.

    Raises:
        PermissionDenied: they lack it.
    """
    if not AdminSite.has_permission(admin.site, request):
        return False
    asking = Organisation.objects.filter(is_operator=True, mfa_required=True).first()
    if asking is not None and factor_is_missing(org=asking, user=request.user):  # type: ignore[arg-type]
        raise PermissionDenied(FACTOR_MISSING)
    return True


def register_all() -> None:
    """Enter every table of ours; signing in goes through allauth, so that second factors count here too."""
    admin.site.login = secure_admin_login(admin.site.login)  # type: ignore[method-assign]
    admin.site.has_permission = may_look  # type: ignore[method-assign]
    # allauth's own pages search for user names, which our users do not have, and change what they show: links to
    # providers and second factors among it, with their secrets.
    for theirs in (UserSession, Authenticator, SocialAccount, SocialApp, SocialToken):
        if admin.site.is_registered(theirs):
            admin.site.unregister(theirs)
    for label in OURS:
        for model in apps.get_app_config(label).get_models():
            if admin.site.is_registered(model):
                continue
            names = [field.name for field in model._meta.concrete_fields if field.name not in HIDDEN]
            options = {
                "list_display": names[:COLUMNS],
                "exclude": sorted(HIDDEN),
                "list_select_related": False,
            }
            kind = type(f"{model.__name__}Admin", (ReadOnlyAdmin,), options)
            admin.site.register(model, kind)
