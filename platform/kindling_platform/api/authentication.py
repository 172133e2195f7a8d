"""Two ways in: a Bearer key with scopes, or the session of a signed-in person."""

from datetime import timedelta
from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication, SessionAuthentication
from rest_framework.request import Request

from kindling_platform.accounts.models import User
from kindling_platform.accounts.pages import ORGANISATION_HEADER, organisation_changed_find
from kindling_platform.accounts.second_factors import factor_check
from kindling_platform.accounts.seeing import HIDDEN, seeing_find
from kindling_platform.accounts.selectors import (
    CHOSEN_ORGANISATION,
    membership_chosen,
    membership_list_for_user,
)
from kindling_platform.api.caller import Caller
from kindling_platform.common.actors import Actor
from kindling_platform.common.clock import now
from kindling_platform.common.errors import KindlingError
from kindling_platform.common.origin import origin_actor_set
from kindling_platform.common.requests import client_ip
from kindling_platform.keys.rights import key_maker_id, key_role
from kindling_platform.keys.selectors import key_find
from kindling_platform.keys.services import key_touch

TOUCH_EVERY = timedelta(minutes=1)


class KeyAuthentication(BaseAuthentication):
    """`Authorization: Bearer kd_…`; any other scheme is left to the session."""

    def authenticate(self, request: Request) -> tuple[User | None, Caller] | None:
        scheme, _, text = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        key = key_find(text=text.strip())
        if key is None:
            raise _refused("invalid_api_key", "This API key is not valid. Check that it was copied whole.")
        if key.organisation.deleting_at is not None:
            text = (
                "An owner of your organisation has deleted it, so its keys are not good for anything any more. "
                "Use a key of another organisation."
            )
            raise KindlingError("organisation_deleted", text, 412)
        if key.revoked_at is not None:
            raise _refused("key_revoked", "This API key was revoked. Use another one.")
        if key.expires_at is not None and key.expires_at <= now():
            raise _refused("key_expired", "This API key has expired. Make a new one.")
        if key.last_used_at is None or now() - key.last_used_at > TOUCH_EVERY:
            key_touch(used_at={key.id: now()})
        actor = Actor(
            id=key.id,
            label=f"key {key.name}",
            ip=client_ip(request._request),
            maker_id=key_maker_id(key),
        )
        origin_actor_set(actor)
        role = key_role(key, maker_role=key.maker_role)
        return None, Caller(
            org=key.organisation, actor=actor, key=key, scopes=frozenset(key.scopes), role=role
        )

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


class MemberAuthentication(SessionAuthentication):
    """The console's own calls: a session, a CSRF token, and the organisation that the page shows."""

    def authenticate(self, request: Request) -> tuple[User, Caller] | None:
        found = super().authenticate(request)
        if found is None:
            return None
        user: User = found[0]
        session = request._request.session
        if seen := seeing_find(session=session, user_id=user.id):
            # `SeeingGuard` has refused all that would change something.
            member, actor = (
                seen.membership,
                Actor(id=user.id, label=user.email, ip=client_ip(request._request)),
            )
            origin_actor_set(actor)
            return user, Caller(
                org=member.organisation, actor=actor, membership=member, role=member.role, hidden=HIDDEN
            )
        chosen = session.get(CHOSEN_ORGANISATION)
        memberships = membership_list_for_user(user=user)
        membership = membership_chosen(memberships, chosen)
        org = membership.organisation
        shown = request.headers.get(ORGANISATION_HEADER, "")
        others = (one.organisation for one in memberships)
        if changed := organisation_changed_find(shown=shown, org=org, others=others):
            raise KindlingError("organisation_changed", changed.message, 409)
        factor_check(org=org, user=user)
        actor = Actor(id=user.id, label=user.email, ip=client_ip(request._request))
        origin_actor_set(actor)
        return user, Caller(org=org, actor=actor, membership=membership, role=membership.role)


def _refused(code: str, message: str) -> KindlingError:
    return KindlingError(code, message, 401)


class KeyScheme(OpenApiAuthenticationExtension):  # type: ignore[misc]
    """Describes the key in the OpenAPI document."""

    target_class = KeyAuthentication
    name = "apiKey"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {
            "type": "http",
            "scheme": "bearer",
            "description": "An API key with the scope read or manage.",
        }


class MemberScheme(OpenApiAuthenticationExtension):  # type: ignore[misc]
    """Describes the session in the OpenAPI document."""

    target_class = MemberAuthentication
    name = "session"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "apiKey", "in": "cookie", "name": "kindling_session"}
