"""Ways to sign in other than a password, where pages show them."""

from allauth.account.utils import get_next_redirect_url
from django import template
from django.conf import settings
from django.urls import reverse
from django.utils.http import urlencode

from kindling_platform.accounts.identities import provider_list
from kindling_platform.accounts.reauthentication import form_kept_path
from kindling_platform.common.identity import IdentityProvider

register = template.Library()


@register.simple_tag
def identity_providers() -> tuple[IdentityProvider, ...]:
    """The providers of this installation, none on most."""
    return provider_list()


@register.simple_tag(takes_context=True)
def identity_url(context: template.Context, provider: IdentityProvider, process: str) -> str:
    """Where a form begins a sign-in or a link at a provider; the way on from there is kept."""
    args = [provider.id] if provider.issuer else []
    path = reverse("openid_connect_login" if provider.issuer else "github_login", args=args)
    next_url = get_next_redirect_url(context["request"])
    return f"{path}?{urlencode({'process': process} | ({'next': next_url} if next_url else {}))}"


@register.simple_tag(takes_context=True)
def form_is_kept(context: template.Context) -> bool:
    """Whether a form waits for the confirmation that the page asks for."""
    kept = form_kept_path(context["request"])
    return bool(kept) and kept == get_next_redirect_url(context["request"])


@register.simple_tag
def public_url() -> str:
    """The address under which others know this installation."""
    return str(settings.KINDLING_ENV.public_url)
