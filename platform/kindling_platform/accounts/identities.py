"""The identity providers that somebody is linked with, and what the audit log says of it."""

from dataclasses import dataclass
from datetime import datetime

from allauth.mfa.models import Authenticator
from allauth.socialaccount.models import SocialAccount
from django.conf import settings
from django.db import transaction

from kindling_platform.accounts.actor import Actor, user_actor
from kindling_platform.accounts.models import User
from kindling_platform.audit.services import audit_record
from kindling_platform.common.errors import KindlingError
from kindling_platform.common.identity import IdentityProvider

LINKED, UNLINKED = "user.identity_linked", "user.identity_unlinked"


@dataclass(frozen=True, slots=True)
class Identity:
    """A linked provider; one that the installation offers no longer opens nothing."""

    id: int
    provider_id: str
    provider: str
    label: str
    linked_at: datetime
    used_at: datetime
    is_offered: bool


def provider_list() -> tuple[IdentityProvider, ...]:
    """The providers of this installation."""
    found: tuple[IdentityProvider, ...] = settings.KINDLING_ENV.identity_providers
    return found


def identity_list(*, user: User) -> list[Identity]:
    """Those that somebody is linked with, the oldest first."""
    names = {one.id: one.name for one in provider_list()}
    rows = SocialAccount.objects.filter(user=user).order_by("date_joined", "id")
    return [
        Identity(
            id=row.id,
            provider_id=row.provider,
            provider=names.get(row.provider, row.provider),
            label=str(row.extra_data.get("email") or row.extra_data.get("login") or ""),
            linked_at=row.date_joined,
            used_at=row.last_login,
            is_offered=row.provider in names,
        )
        for row in rows
    ]


@transaction.atomic
def identity_remove(*, user: User, identity_id: int, actor: Actor) -> None:
    """Unlink a provider; the last way to sign in stays. One that is gone already changes nothing.

    Raises:
        KindlingError: `last_way_in`.
    """
    # One after the other, or two at once would each leave the other as the last one.
    locked = User.objects.select_for_update(no_key=True).get(id=user.id)
    row = SocialAccount.objects.filter(user=locked, id=identity_id).first()
    if row is None:
        return
    offered = [one.id for one in provider_list()]
    others = SocialAccount.objects.filter(user=locked, provider__in=offered).exclude(id=row.id)
    passkeys = Authenticator.objects.filter(user=locked, type=Authenticator.Type.WEBAUTHN)
    if not (locked.has_usable_password() or others.exists() or passkeys.exists()):
        text = "It is the only way in which you can sign in. Set a password or add a passkey first."
        raise KindlingError("last_way_in", text, 409)
    row.delete()
    audit_record(actor=actor, action=UNLINKED, target=locked.id, data={"provider": row.provider})


def identity_record(user: User, provider_id: str, action: str, *, ip: str | None) -> None:
    """What the audit log says of a link that allauth has made."""
    audit_record(actor=user_actor(user, ip=ip), action=action, target=user.id, data={"provider": provider_id})
