"""How a member leaves: without their limits and invitations, with or without the keys that they have made."""

from django.db import transaction

from kindling_platform.accounts.invitations import invitations_end
from kindling_platform.accounts.models import Membership, Organisation
from kindling_platform.accounts.services import organisation_create
from kindling_platform.accounts.team import member_lock, owner_check, powers_end
from kindling_platform.audit.services import audit_record
from kindling_platform.common.actors import SYSTEM, Actor
from kindling_platform.common.models import OrgQuerySet
from kindling_platform.keys.models import ApiKey, LimitSet
from kindling_platform.keys.services import key_revoke


def key_list_live_of(*, org: Organisation, user_id: str) -> OrgQuerySet:
    """The keys that a member has made and that are not revoked, the playground's left out."""
    rows = ApiKey.objects.for_org(org).filter(created_by_id=user_id, revoked_at=None)
    return rows.exclude(kind=ApiKey.Kind.PLAYGROUND).order_by("-created_at", "-id")


@transaction.atomic
def member_remove(
    *, org: Organisation, user_id: str, actor: Actor, keep_keys: bool, may_own: bool = False
) -> int:
    """End a membership at once; gives how many keys were revoked. The user stays, with an organisation of their own.

    Keys that are kept go on within the limits of the organisation and their own; what they have spent is still told
    under the name of whoever made them.

    Raises:
        KindlingError: `not_found`, `role_forbidden`, `last_owner`.
    """
    member = member_lock(org=org, user_id=user_id)
    owner_check(member, may_own=may_own)
    return member_end(org=org, member=member, actor=actor, keep_keys=keep_keys)


@transaction.atomic
def member_end(
    *, org: Organisation, member: Membership, actor: Actor, keep_keys: bool, stays: bool = True
) -> int:
    """End a membership, the last owner's too; for whoever has decided that it may, and holds `member_lock`.

    A user who `stays` has an organisation of their own afterwards; who deletes their account has none.
    """
    user_id = member.user_id
    ending = ApiKey.objects.for_org(org).filter(created_by_id=user_id, revoked_at=None)
    if keep_keys:
        ending = ending.filter(kind=ApiKey.Kind.PLAYGROUND)
    revoked = [key_revoke(org=org, key_id=id_, actor=actor) for id_ in ending.values_list("id", flat=True)]
    LimitSet.objects.for_org(org).filter(member_id=user_id).delete()
    invitations_end(org=org, user_id=user_id)
    member.delete()
    role, member.role = member.role, ""
    powers_end(member)
    data = {"email": member.user.email, "role": role, "keys": "kept" if keep_keys else "revoked"}
    audit_record(actor=actor, action="member.removed", target=user_id, organisation_id=org.id, data=data)
    if stays and not Membership.objects.filter(user_id=user_id).exists():
        name = member.user.name or member.user.email.split("@")[0]
        organisation_create(name=name, owner=member.user, actor=SYSTEM)
    return len([key for key in revoked if key.kind != ApiKey.Kind.PLAYGROUND])
