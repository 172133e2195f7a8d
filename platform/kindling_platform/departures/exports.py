"""What the platform knows of a person, as files that they can take along."""

import io
import json
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from typing import Any

from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.socialaccount.models import SocialAccount
from allauth.usersessions.models import UserSession
from django.core.serializers.json import DjangoJSONEncoder
from django.db.models import QuerySet

from kindling_platform.accounts.models import Invitation, Membership, User
from kindling_platform.audit.models import AuditEvent
from kindling_platform.audit.selectors import event_list_by_actor
from kindling_platform.audit.services import audit_record
from kindling_platform.common.actors import Actor
from kindling_platform.common.clock import now
from kindling_platform.common.errors import KindlingError
from kindling_platform.keys.models import ApiKey, LimitSet
from kindling_platform.responses.sharing import shared_told

# Of the newest, which make a file of a few megabytes.
MOST_EVENTS = 50_000
# It reads the audit log from one end to the other.
PAUSE = timedelta(minutes=1)
EXPORTED = "user.data_exported"
ORGANISATION = ("organisation_id", "organisation__slug", "organisation__name")
KEY_FIELDS = (
    "id", "organisation_id", "organisation__slug", "name", "prefix", "last4", "scopes", "kind", "model_refs",
    "created_at",
)  # fmt: skip
README = """What Kindling knows of you, as JSON. Times are UTC.

profile.json            your account
email_addresses.json    the addresses that you can sign in with
memberships.json        your organisations, and your role in each
sessions.json           where you are signed in
second_factors.json     authenticator apps, passkeys and recovery codes, without their secrets
linked_sign_ins.json    accounts elsewhere that sign you in here, and what those said of you
api_keys.json           keys that you made; of the keys themselves only a digest is stored, which is left out
api_keys_elsewhere.json keys that you made in organisations that you have left
invitations.json        those that you sent, and those that came to your address; they are kept for about five weeks
limits.json             limits that an organisation has set for you
shared_conversations.json  conversations of the playground that you share now, with what is said in them
settings.json           what you have chosen for yourself
audit.json              what you did, and your keys, as the audit log has it: the newest {events:,} entries

What an organisation used, paid and stores is the organisation's, and is exported from its pages: usage, invoices,
activity.
"""


def personal_data_export(*, user: User, settings: Mapping[str, Any], actor: Actor) -> bytes:
    """A ZIP of what is known of a person; `settings` are those that their browser keeps.

    Raises:
        KindlingError: `export_too_soon` within a minute of another.
    """
    recent = AuditEvent.objects.filter(target=user.id, action=EXPORTED, created_at__gt=now() - PAUSE)
    if recent.exists():
        raise KindlingError("export_too_soon", "You have just downloaded it. Wait a minute.", 429)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("README.txt", README.format(events=MOST_EVENTS))
        for name, rows in _parts(user, settings):
            with archive.open(f"{name}.json", "w") as part:
                for piece in _pieces(rows):
                    part.write(piece.encode())
    audit_record(actor=actor, action=EXPORTED, target=user.id, data={"bytes": file.tell()})
    return file.getvalue()


def _parts(user: User, settings: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Each file's name and what is in it; rows are read while they are written."""
    members = Membership.objects.filter(user=user).order_by("created_at", "id")
    keys = ApiKey.objects.filter(created_by=user).order_by("created_at", "id")
    # What became of keys in an organisation that they have left is no business of theirs.
    own_keys = keys.filter(organisation__in=members.values("organisation"))
    actor_ids = [user.id, *own_keys.values_list("id", flat=True)]
    profile = ("id", "email", "name", "created_at", "last_login", "signup_ip")
    yield "profile", {name: getattr(user, name) for name in profile}
    addresses = EmailAddress.objects.filter(user=user).order_by("id")
    yield "email_addresses", _told(addresses, "email", "verified", "primary")
    yield "memberships", _told(members, *ORGANISATION, "role", "created_at")
    sessions = UserSession.objects.filter(user=user).order_by("created_at")
    yield "sessions", _told(sessions, "ip", "user_agent", "created_at", "last_seen_at")
    factors = Authenticator.objects.filter(user=user).order_by("created_at")
    yield "second_factors", _told(factors, "type", "data__name", "created_at", "last_used_at")
    linked = SocialAccount.objects.filter(user=user).order_by("date_joined", "id")
    yield "linked_sign_ins", _told(linked, "provider", "uid", "extra_data", "date_joined", "last_login")
    yield "api_keys", _told(own_keys, *KEY_FIELDS, "expires_at", "revoked_at", "last_used_at")
    yield "api_keys_elsewhere", _told(keys.exclude(id__in=own_keys.values("id")), *KEY_FIELDS)
    about = (*ORGANISATION, "email", "role", "created_at", "expires_at", "ended_at")
    invitations = Invitation.objects.order_by("created_at", "id")
    yield (
        "invitations",
        {
            "sent": list(_told(invitations.filter(invited_by=user), *about)),
            "received": list(_told(invitations.filter(email__iexact=user.email), *about)),
        },
    )
    limits = LimitSet.objects.filter(member=user).order_by("created_at")
    bounds = [field.name for field in LimitSet._meta.concrete_fields if field.name.startswith("budget_")]
    rates = [field.name for field in LimitSet._meta.concrete_fields if field.name.endswith("_per_minute")]
    yield "limits", _told(limits, *ORGANISATION, *bounds, *rates, "concurrent_requests", "alert_percents")
    organisation_ids = members.values_list("organisation_id", flat=True)
    yield "shared_conversations", shared_told(organisation_ids=organisation_ids, user_id=user.id)
    yield "settings", {"shortcuts": user.shortcuts, **settings}
    events = event_list_by_actor(actor_ids=actor_ids)[:MOST_EVENTS]
    yield (
        "audit",
        _told(events, "id", "created_at", "actor_id", "action", "target", "organisation_id", "ip", "data"),
    )


def _told(rows: "QuerySet[Any]", *names: str) -> Iterator[dict[str, Any]]:
    for row in rows.values(*names).iterator():
        yield {
            name.removeprefix("data__").replace("organisation__", "organisation_"): value
            for name, value in row.items()
        }


def _pieces(value: Any) -> Iterator[str]:
    """JSON a row at a time, so that the longest list is never there twice."""
    if isinstance(value, Mapping):
        yield _json(value)
        return
    yield "["
    rows: Iterable[Any] = value
    for number, row in enumerate(rows):
        yield f"{',' if number else ''}\n{_json(row)}"
    yield "\n]\n"


def _json(value: Any) -> str:
    return json.dumps(value, cls=DjangoJSONEncoder, ensure_ascii=False, indent=1)
