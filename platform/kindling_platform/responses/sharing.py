"""Shares conversations inside an organisation, opens them and takes them back."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import msgspec
from django.conf import settings
from django.db import transaction

from kindling_platform.accounts.models import Organisation
from kindling_platform.audit.services import audit_record
from kindling_platform.common.actors import Actor
from kindling_platform.common.clock import now
from kindling_platform.common.errors import KindlingError, not_found
from kindling_platform.common.ids import new_id
from kindling_platform.common.models import OrgQuerySet
from kindling_platform.common.org_seal import OrgSeal, SealBrokenError, SealedTooLongError
from kindling_platform.common.tenancy import HasId
from kindling_platform.responses.conversations import (
    MOST_BYTES,
    Conversation,
    conversation_open,
    conversation_write,
)
from kindling_platform.responses.models import SharedConversation
from kindling_platform.responses.selectors import keeping_days

PURPOSE = b"kindling shared conversations"
MOST_SHARED = 200
TITLE_CHARS = 120
# Room for the numbers of the books, which are added to what a page may send.
MOST_SEALED_BYTES = MOST_BYTES * 2


@dataclass(frozen=True, slots=True)
class Shared:
    """A shared conversation that was opened; its title is what its maker has called it, or nothing."""

    row: SharedConversation
    title: str
    conversation: Conversation


@transaction.atomic
def conversation_share(
    *, org: Organisation, conversation: Conversation, title: str, actor: Actor
) -> SharedConversation:
    """Keep a conversation for everybody of the organisation who may use the playground.

    Raises:
        KindlingError: `sharing_off` where responses are kept for no day, `too_many_shared`, `account_suspended`.
    """
    row = Organisation.objects.select_for_update(no_key=True).get(id=org.id)
    if row.suspended_at is not None:
        raise KindlingError("account_suspended", "The organisation is suspended; nothing was shared.", 412)
    days = keeping_days(org=org)
    if not days:
        text = (
            "Your organisation keeps no responses, so nothing can be shared. Those who may change that do so with "
            "PATCH /api/v1/responses."
        )
        raise KindlingError("sharing_off", text, 409)
    if shared_list(org=org).count() >= MOST_SHARED:
        text = f"{MOST_SHARED} conversations are shared already. Revoke some that nobody needs any more."
        raise KindlingError("too_many_shared", text, 409)
    moment, share_id, body = now(), new_id("shr"), conversation_write(conversation)
    made = SharedConversation.objects.create(
        id=share_id,
        organisation_id=org.id,
        made_by_id=actor.id,
        model_refs=conversation.model_refs(),
        title=_close(
            org, share_id, "title", " ".join(title.split())[:TITLE_CHARS].encode("utf-8", "replace")
        ),
        body=_close(org, share_id, "body", body),
        size_bytes=len(body),
        created_at=moment,
        expires_at=moment + timedelta(days=days),
    )
    audit_record(
        actor=actor,
        action="conversation.shared",
        target=share_id,
        organisation_id=org.id,
        data={"bytes": len(body), "models": made.model_refs, "days": days},
    )
    return made


def conversation_shared_open(*, org: HasId, share_id: str) -> Shared:
    """A shared conversation.

    Raises:
        KindlingError: `not_found`, also for those of others and those whose time is over; `seal_broken` after a change
            of the installation's secret.
    """
    return _opened(shared_get(org=org, share_id=share_id))


@transaction.atomic
def conversation_revoke(*, org: HasId, share_id: str, actor: Actor, of_anyone: bool) -> None:
    """Delete a shared conversation: its maker may, and with `of_anyone` others may too.

    Raises:
        KindlingError: `not_found`, `not_yours`.
    """
    row = shared_get(org=org, share_id=share_id)
    if not of_anyone and row.made_by_id != actor.id:
        text = "Somebody else has shared this. They can revoke it, and so can owners and admins."
        raise KindlingError("not_yours", text, 403)
    deleted, _ = SharedConversation.objects.for_org(org).filter(id=row.id).delete()
    if deleted:
        audit_record(
            actor=actor,
            action="conversation.revoked",
            target=row.id,
            organisation_id=org.id,
            data={"made_by": row.made_by_id},
        )


def shared_list(*, org: HasId) -> OrgQuerySet:
    """What an organisation shares, without what is said in it."""
    rows = SharedConversation.objects.for_org(org).filter(expires_at__gt=now())
    return rows.select_related("made_by").defer("body")


def shared_get(*, org: HasId, share_id: str) -> SharedConversation:
    """One that is shared. Errors: `not_found`, also for those of others."""
    rows = SharedConversation.objects.for_org(org).filter(expires_at__gt=now()).select_related("made_by")
    found: SharedConversation | None = rows.filter(id=share_id).first() if share_id.isprintable() else None
    if found is None:
        raise not_found("shared conversation")
    return found


def shared_told(*, organisation_ids: Iterable[str], user_id: str) -> Iterator[dict[str, Any]]:
    """What a person shares in these organisations, opened, one at a time; what cannot be opened says so."""
    rows = SharedConversation.objects.filter(
        organisation_id__in=list(organisation_ids), made_by_id=user_id, expires_at__gt=now()
    ).order_by("created_at", "id")
    for row in rows.iterator(chunk_size=1):
        told = {
            "id": row.id,
            "organisation_id": row.organisation_id,
            "created_at": row.created_at,
            "expires_at": row.expires_at,
        }
        try:
            shared = _opened(row)
        except KindlingError as error:
            yield told | {"error": error.message}
        else:
            yield told | {
                "title": shared.title,
                "conversation": msgspec.to_builtins(shared.conversation),
            }


def shared_title(row: SharedConversation) -> str:
    """What its maker has called it; nothing where it cannot be opened."""
    try:
        return _open(row, "title", MOST_BYTES).decode()
    except (SealBrokenError, SealedTooLongError):
        return ""


def _opened(row: SharedConversation) -> Shared:
    try:
        text = _open(row, "body", MOST_SEALED_BYTES)
        title = _open(row, "title", MOST_BYTES).decode()
        return Shared(row, title, conversation_open(text))
    except (SealBrokenError, SealedTooLongError, msgspec.MsgspecError) as error:
        message = "This conversation was sealed with another secret of the installation and cannot be opened."
        raise KindlingError("seal_broken", message, 409) from error


def _seal() -> OrgSeal:
    return OrgSeal(settings.KINDLING_ENV.secret_key, PURPOSE)


def _close(org: HasId, share_id: str, column: str, text: bytes) -> bytes:
    return _seal().close(text, org_id=org.id, row=f"{share_id} {column}".encode())


def _open(row: SharedConversation, column: str, most_bytes: int) -> bytes:
    place = f"{row.id} {column}".encode()
    return _seal().open(
        bytes(getattr(row, column)), org_id=row.organisation_id, row=place, most_bytes=most_bytes
    )
