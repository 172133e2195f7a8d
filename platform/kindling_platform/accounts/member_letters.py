"""Letters to some of an organisation's people in person: a second factor is asked of them, all of it is deleted, or a
webhook was switched off.

Their notices name them by id and say no address: who deletes their account meanwhile is written to no more.
"""

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from django.conf import settings

from kindling_billing.models import Notice
from kindling_billing.notices import notice_add
from kindling_platform.accounts.factors import APP, PASSKEY
from kindling_platform.accounts.models import Membership, Organisation, User

FACTOR_REQUIRED = "member.factor_required"
WEBHOOK_OFF = "webhook.switched_off"
DELETE_BEGUN, DELETED = "organisation.delete_begun", "organisation.deleted"
# Who hears of the end of their organisation.
RUNNING_IT = ("owner", "admin")
USERS = "user_ids"
MOST_PEOPLE = 200


def factor_required_note(*, org: Organisation, moment: datetime) -> int:
    """Have everybody told who lacks the second factor that is asked for from a moment on; gives their number.

    Each gets one letter of an organisation in a day (UTC), however often it is switched.
    """
    lacking = Membership.objects.filter(organisation=org).exclude(
        user__authenticator__type__in=(APP, PASSKEY)
    )
    people = list(lacking.order_by("id").values_list("user_id", flat=True))
    data = {"from": f"{moment:%Y-%m-%d %H:%M}"}
    return sum(
        notice_add(
            kind=FACTOR_REQUIRED, key=f"{org.id}:{user_id}:{moment:%Y-%m-%d}", owner_id=org.id,
            data=data | {USERS: [user_id]},
        )
        for user_id in people
    )  # fmt: skip


def deletion_begun_note(*, org: Organisation, by_id: str, moment: datetime, but: str = "") -> None:
    """Have owners and admins told that their organisation is being deleted, while they still belong to it.

    `but` is somebody who deletes their own account with it.
    """
    people = Membership.objects.filter(organisation=org, role__in=RUNNING_IT).exclude(user_id=but)
    user_ids = list(people.order_by("id").values_list("user_id", flat=True)[:MOST_PEOPLE])
    if not user_ids:
        return
    # The name goes with the organisation; the slug stays.
    data = {"slug": org.slug, "by_id": by_id, "at": f"{moment:%Y-%m-%d %H:%M}", USERS: user_ids}
    notice_add(kind=DELETE_BEGUN, key=org.id, owner_id=org.id, data=data)


def webhook_off_note(*, organisation_id: str, key: str, webhook_id: str, host: str, reason: str) -> None:
    """Have owners and admins told that a webhook of theirs was switched off without anybody asking, and why."""
    people = Membership.objects.filter(organisation_id=organisation_id, role__in=RUNNING_IT)
    user_ids = list(people.order_by("id").values_list("user_id", flat=True)[:MOST_PEOPLE])
    if user_ids:
        data = {"webhook_id": webhook_id, "host": host, "reason": reason, USERS: user_ids}
        notice_add(kind=WEBHOOK_OFF, key=key, owner_id=organisation_id, data=data)


def deletion_done_note(*, org: Organisation) -> None:
    """Have the same people told that it is over."""
    begun = Notice.objects.filter(kind=DELETE_BEGUN, key=org.id).first()
    if begun is not None:
        data = {"slug": org.slug, USERS: begun.data[USERS]}
        notice_add(kind=DELETED, key=org.id, owner_id=org.id, data=data)


def person_map(notices: Iterable[Notice]) -> dict[int, list[str]]:
    """To whom notices go that name people, by notice; none of those who have deleted their accounts.

    One that waits goes to nobody whom it no longer concerns: a mail server may be away for days.
    """
    named = {
        notice.id: notice.data[USERS] if notice.done_at else _concerned(notice)
        for notice in notices
        if USERS in notice.data
    }
    wanted = {user_id for user_ids in named.values() for user_id in user_ids}
    rows = User.objects.filter(id__in=wanted, is_active=True) if wanted else User.objects.none()
    emails = dict(rows.values_list("id", "email"))
    return {id_: [emails[one] for one in user_ids if one in emails] for id_, user_ids in named.items()}


def _concerned(notice: Notice) -> list[str]:
    user_ids: list[str] = notice.data[USERS]
    if notice.kind in (DELETE_BEGUN, DELETED):
        return user_ids  # nobody belongs to it any more
    members = Membership.objects.filter(organisation_id=notice.owner_id, user_id__in=user_ids)
    if notice.kind == FACTOR_REQUIRED:
        members = members.exclude(user__authenticator__type__in=(APP, PASSKEY))
    else:
        members = members.filter(role__in=RUNNING_IT)
    still = set(members.values_list("user_id", flat=True))
    return [one for one in user_ids if one in still]


def _factor_required(data: dict[str, Any], name: str) -> tuple[str, str]:
    return (
        f"{name} asks a second factor of you",
        f"{name} has asked a second factor of each of its members since {data['from']} UTC, and you have none.\n\n"
        "Until you add an authenticator app or a passkey you see and change nothing of it in the console; API keys go "
        f"on working. Sign in and add one: {_address('/console/account/second-factor/')}\n",
    )


def _delete_begun(data: dict[str, Any], _name: str) -> tuple[str, str]:
    by = User.objects.filter(id=data["by_id"], is_active=True).values_list("email", flat=True).first()
    return (
        f"The organisation {data['slug']} is being deleted",
        f"{by or 'One of its owners'} deleted the organisation {data['slug']} on {data['at']} UTC. Nobody belongs to "
        "it any more, and its API keys are refused. What it kept is cleared away now: deployments, adapters, files, "
        "kept prompts and answers, and saved cards. Invoices and what was used stay in the books.\n\n"
        "This cannot be undone. If nobody of you meant it, write to the operator of this installation at once. "
        f"Your account stays: {_address('/console/')}\n",
    )


def _deleted(data: dict[str, Any], _name: str) -> tuple[str, str]:
    return (
        f"The organisation {data['slug']} is deleted",
        f"Everything that the organisation {data['slug']} kept is cleared away; invoices and what was used stay in the "
        f"books. Nobody can take its name. Your account stays: {_address('/console/')}\n",
    )


def _webhook_off(data: dict[str, Any], name: str) -> tuple[str, str]:
    return (
        f"A webhook of {name} is switched off",
        f"{name} sends nothing to {data['host']} any more. {data['reason']}\n\n"
        "What happens meanwhile is not sent later by itself. When the address answers again, switch the webhook on: "
        f"{_address('/console/settings/webhooks/' + data['webhook_id'] + '/')}\n",
    )


def _address(path: str) -> str:
    return f"{settings.KINDLING_ENV.public_url}{path}"


MEMBER_LETTERS: dict[str, Callable[[dict[str, Any], str], tuple[str, str]]] = {
    FACTOR_REQUIRED: _factor_required,
    DELETE_BEGUN: _delete_begun,
    DELETED: _deleted,
    WEBHOOK_OFF: _webhook_off,
}
