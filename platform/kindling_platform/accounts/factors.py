"""Second factors and passkeys: whose they are told to be, and what the audit log says when they come and go."""

from typing import Any
from urllib.parse import urlsplit

from allauth.core import context
from allauth.mfa.adapter import DefaultMFAAdapter
from allauth.mfa.models import Authenticator
from django.conf import settings

from kindling_platform.accounts.actor import user_actor
from kindling_platform.accounts.identities import LINKED, identity_record
from kindling_platform.accounts.models import User
from kindling_platform.audit.services import audit_record
from kindling_platform.common.errors import KindlingError
from kindling_platform.common.requests import client_ip

PASSKEY, APP = str(Authenticator.Type.WEBAUTHN), str(Authenticator.Type.TOTP)
RECOVERY_CODES = str(Authenticator.Type.RECOVERY_CODES)
NAMES = {PASSKEY: "passkey", APP: "authenticator app", RECOVERY_CODES: "recovery codes"}
MOST_PASSKEYS = 20


def factor_kinds(*, user: User) -> frozenset[str]:
    """What somebody has besides a password."""
    return frozenset(Authenticator.objects.filter(user=user).values_list("type", flat=True))


def passkeys_left(*, user: User) -> int:
    """How many passkeys somebody may add."""
    held: int = Authenticator.objects.filter(user=user, type=PASSKEY).count()
    return max(0, MOST_PASSKEYS - held)


def passkey_room_check(*, user: User) -> None:
    """Refuse one more passkey than a person may have.

    Of two at the same moment one waits for the other, in the transaction that adds it.

    Raises:
        KindlingError: `too_many_passkeys`.
    """
    User.objects.select_for_update(no_key=True).get(pk=user.pk)
    if not passkeys_left(user=user):
        text = f"You have {MOST_PASSKEYS} passkeys, which is the most. Remove one that you do not use."
        raise KindlingError("too_many_passkeys", text, 409)


class FactorsAdapter(DefaultMFAAdapter):  # type: ignore[misc]  # allauth ships no types
    """allauth's adapter with our names."""

    def generate_authenticator_name(self, user: User, type: str) -> str:
        count = Authenticator.objects.filter(user=user, type=type).count()
        return f"Passkey {count + 1}"

    def get_public_key_credential_rp_entity(self) -> dict[str, str]:
        """Whose passkeys they are: the name of the host that is asked, which is one of the allowed ones.

        That of the public address alone would leave out whoever opens the console on the machine itself.
        """
        host = urlsplit(f"//{context.request.get_host()}").hostname or "localhost"
        return {"id": host, "name": str(settings.SITE_NAME)}


def factor_added(*, request: Any, user: User, authenticator: Authenticator, **_: Any) -> None:
    _record(request, user, authenticator, "user.factor_added")


def factor_removed(*, request: Any, user: User, authenticator: Authenticator, **_: Any) -> None:
    _record(request, user, authenticator, "user.factor_removed")


def factor_renewed(*, request: Any, user: User, authenticator: Authenticator, **_: Any) -> None:
    _record(request, user, authenticator, "user.factor_renewed")


def identity_linked(*, request: Any, sociallogin: Any, **_: Any) -> None:
    identity_record(sociallogin.user, sociallogin.account.provider, LINKED, ip=client_ip(request))


def _record(request: Any, user: User, authenticator: Authenticator, action: str) -> None:
    data = {"factor": NAMES[authenticator.type]}
    if authenticator.type == PASSKEY:
        data["name"] = str(authenticator.wrap().name)[:120]
    audit_record(actor=user_actor(user, ip=client_ip(request)), action=action, target=user.id, data=data)
